"""Every transcript in tests/transcripts/auth, against the real server: whole, byte by byte, cut at random.

See the README there for how they are written.
"""

import base64
import random
import re
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.saslauthd.stage import stage

FOLDER = Path(__file__).parent.parent / "transcripts" / "auth"
TRANSCRIPTS = sorted(FOLDER.glob("*.txt"))
CLOSED = "<CLOSED>"
NAMES = {"TAB": b"\t", "CR": b"\r", "LF": b"\n", "NUL": b"\0", "SOH": b"\x01"}
HOLES = {b"{pid}": rb"[1-9][0-9]*", b"{number}": rb"[1-9][0-9]*", b"{cookie}": rb"[0-9a-f]{32}"}


def spelled(text: str) -> bytes:
    """The bytes that a line of a transcript stands for, without its end."""

    def replace(found: re.Match[bytes]) -> bytes:
        word = found[1].decode()
        if word.startswith("b64 "):
            plain = word[4:].encode("latin-1", "backslashreplace").decode("unicode_escape")
            return base64.b64encode(plain.encode("latin-1"))
        if "*" in word:
            octet, _, times = word.partition("*")
            return octet.encode() * int(times)
        return NAMES[word] if word in NAMES else bytes([int(word.removeprefix("x"), 16)])

    return re.sub(rb"<([^<>]+)>", replace, text.encode("utf-8"))


def parse(text: str) -> tuple[bytes, bytes, bool]:
    """What the client says, a pattern of what the server says, and whether it hangs up."""
    said, heard, closed = b"", b"", False
    for line in text.splitlines():
        who, _, rest = line.partition(" ")
        if not line or line.startswith("#"):
            continue
        assert not closed, "nothing comes after the end"
        if who == "S:" and rest == CLOSED:
            closed = True
        elif who == "S:":
            pattern = re.escape(spelled(rest))
            for hole, meaning in HOLES.items():
                pattern = pattern.replace(re.escape(hole), meaning)
            heard += pattern + b"\n"
        else:
            assert who == "C:", line
            said += spelled(rest) + b"\n"
    return said, heard, closed


def cut(data: bytes, how: str) -> list[bytes]:
    if how == "whole":
        return [data]
    if how == "byte by byte":
        return [data[i : i + 1] for i in range(len(data))]
    places = sorted(random.sample(range(1, len(data)), min(len(data) - 1, 7))) if len(data) > 1 else []
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) > 30


@pytest.mark.parametrize("how", ["whole", "byte by byte", "cut at random"])
@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
@pytest_twisted.ensureDeferred
async def test_the_transcript_replays(transcript: Path, how: str) -> None:
    said, heard, closed = parse(transcript.read_text("utf-8"))
    async with stage(reactor) as set_up:
        client = await set_up.connect()
        for piece in cut(said, how):
            client.send(piece)
            if len(said) < 2000:
                await deferLater(reactor, 0)
        if closed:
            await client.closed()
        else:
            await client.until(lambda: client.received.count(b"\n") >= heard.count(b"\n") or client.is_closed)
            await deferLater(reactor, 0.005)
            assert not client.is_closed
            await client.leave()
        assert re.fullmatch(heard, client.received), client.received
        assert "traceback" not in set_up.log
