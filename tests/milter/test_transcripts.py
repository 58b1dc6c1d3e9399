"""Every transcript, against the real server on a UNIX socket: whole, byte by byte, cut at random."""

import random
import re
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from milter.wire import Packet
from tests.milter.stage import stage
from tests.milter.transcripts import FOLDER, meant, parse, shown

TRANSCRIPTS = sorted(FOLDER.glob("*.txt"))


def cut(data: bytes, how: str) -> list[bytes]:
    if how == "whole":
        return [data]
    if how == "byte by byte":
        return [data[i : i + 1] for i in range(len(data))]
    places = sorted(random.sample(range(1, len(data)), min(len(data) - 1, 9)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 15
    assert any(path.stem.startswith("postfix_") for path in TRANSCRIPTS)


@pytest.mark.parametrize("how", ["whole", "byte by byte", "cut at random"])
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
@pytest_twisted.ensureDeferred
async def test_the_transcript_replays(path: Path, how: str) -> None:
    transcript = parse(path.read_text("utf-8"))
    async with stage(reactor, **transcript.sections) as set_up:
        for queue_id, subject in transcript.records:
            await set_up.record(queue_id, subject)
        mta = await set_up.mta()
        for piece in cut(transcript.said, how):
            mta.transport.write(piece)
            await set_up.pause(0)
        while not mta.closed and not re.fullmatch(transcript.heard, mta.heard, re.DOTALL):
            await mta.change(reactor)
        if transcript.closed and not mta.closed:
            await mta.change(reactor)
        assert re.fullmatch(transcript.heard, mta.heard, re.DOTALL), mta.heard
        assert mta.closed is transcript.closed
        assert "Traceback" not in set_up.out.getvalue()


@pytest.mark.parametrize(
    "packet",
    [
        Packet(b"A"),
        Packet(b"L", "From\0 a|b\\c\n\t\x01é\0".encode()),
        Packet(b"O", bytes(12)),
        Packet(b"L", b"\xff\0x\0"),
    ],
)
def test_a_packet_is_read_as_it_is_written(packet: Packet) -> None:
    assert meant(shown(packet)) == packet
