"""Conversations of Postfix with policyd, each replayed whole, pipelined, byte by byte and cut at random."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import blockingCallFromThread

from ledger.blocks import Block
from tests.policyd.house import FIXTURES, Client, House, private_directory

TRANSCRIPTS = sorted(FIXTURES.parent.glob("*.txt"))
MODES = ("whole", "pipelined", "bytes", "cut")
_ESCAPE = re.compile(rb"\\(n|r|t|0|x[0-9a-f]{2})")
_SIMPLE = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0"}


@dataclass
class Transcript:
    """A file's header and its steps: (word, line number, value), a value being bytes to send or text."""

    path: Path
    fixture: str = "standard"
    listener: str = "policy"
    common: dict[str, bytes] = field(default_factory=dict)
    steps: list[tuple[str, int, bytes]] = field(default_factory=list)


def unescaped(value: bytes) -> bytes:
    return _ESCAPE.sub(lambda m: _SIMPLE.get(m[1]) or bytes([int(m[1][1:] or b"0", 16)]), value)


def read(path: Path) -> Transcript:
    transcript, request = Transcript(path), []
    lines = path.read_bytes().splitlines()
    for number, line in enumerate([*lines, b"#"], 1):
        word, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if word == b"C":
            request.append(value)
            continue
        if request:
            transcript.steps.append(("send", number - len(request), whole(transcript, request)))
            request = []
        if word == b"Fixture":
            transcript.fixture = value.decode()
        elif word == b"Listener":
            transcript.listener = value.decode()
        elif word == b"With":
            transcript.common[value.partition(b"=")[0].decode()] = value
        elif word == b"R":
            transcript.steps.append(("send", number, unescaped(value)))
        elif word in (b"S", b"N", b"Block", b"Lift"):
            transcript.steps.append((word.decode(), number, value))
        else:
            assert not line or line.startswith(b"#"), f"{path.name}:{number}: what is {line!r}?"
    return transcript


def whole(transcript: Transcript, request: list[bytes]) -> bytes:
    names = {line.partition(b"=")[0].decode() for line in request}
    common = [line for name, line in transcript.common.items() if name not in names]
    first = [] if "request" in names else [b"request=smtpd_access_policy"]
    return b"".join(line + b"\n" for line in [*first, *common, *request, b""])


def portions(data: bytes, mode: str, chance: random.Random) -> Iterator[bytes]:
    if mode == "bytes":
        yield from (data[i : i + 1] for i in range(len(data)))
    elif mode == "cut":
        while data:
            size = chance.randint(1, max(1, len(data)))
            yield data[:size]
            data = data[size:]
    else:
        yield data


class Replay:
    def __init__(self, transcript: Transcript, mode: str, house: House) -> None:
        self.transcript, self.mode, self.house = transcript, mode, house
        self.chance = random.Random(f"{transcript.path.name} {mode}")
        self.client = self.connect()
        self.expected: list[tuple[int, str]] = []

    def connect(self) -> Client:
        return Client(self.house.directory / self.transcript.listener)

    def run(self) -> None:
        for word, number, value in self.transcript.steps:
            if word == "send":
                self.send(value)
            elif word == "S":
                self.expected.append((number, value.decode()))
                if self.mode != "pipelined":
                    self.hear()
            else:
                self.hear()
                getattr(self, word.lower())(value.decode())
        self.hear()
        self.client.close()

    def send(self, data: bytes) -> None:
        try:
            for portion in portions(data, self.mode, self.chance):
                self.client.send(portion)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what is no request may be dropped before its end

    def hear(self) -> None:
        for number, expected in self.expected:
            answer = self.client.read()
            pattern = "(disconnect)" if answer is None else answer
            assert fnmatchcase(pattern, expected.replace("[", "[[]")), (
                f"{self.transcript.path.name}:{number}: expected {expected!r}, heard {answer!r}"
            )
        self.expected = []

    def n(self, _: str) -> None:
        self.client.close()
        self.client = self.connect()

    def block(self, value: str) -> None:
        subject, extent, seconds, contact = [*value.split(" ", 3), ""][:4]
        now = time.time()
        end = None if seconds == "-" else now + float(seconds)
        block = Block("", subject, extent, "tests", "a test", contact, now - 1, end)  # type: ignore[arg-type]
        self.change(self.house.judge.ledger.block, block)

    def lift(self, subject: str) -> None:
        _, blocks = blockingCallFromThread(reactor, self.house.judge.ledger.blocks)
        for block in blocks:
            if block.subject == subject:
                self.change(self.house.judge.ledger.lift, block.id, "tests", "a test")

    def change(self, verb: object, *arguments: object) -> None:
        before = self.house.judge.blocks
        blockingCallFromThread(reactor, verb, *arguments)
        end = time.monotonic() + 5
        while self.house.judge.blocks is before and time.monotonic() < end:
            time.sleep(0.01)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
@pytest_twisted.ensureDeferred
async def test_a_transcript_is_answered_as_written(path: Path, mode: str) -> None:
    transcript = read(path)
    with private_directory(transcript.fixture) as directory:
        house = House(directory)
        try:
            await house.in_thread(lambda: Replay(transcript, mode, house).run())
            assert "Traceback" not in house.log.getvalue()
        finally:
            await house.stop()


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 15
