"""Any bytes on the socket: no traceback, nothing but refusals and answers, nobody else is disturbed."""

import random

import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor

from milter.wire import COMMANDS, Packet, Violation, encode, packets
from tests.milter.stage import OFFER, stage
from tests.milter.transcripts import FOLDER, parse

SAID = [parse(path.read_text("utf-8")).said for path in sorted(FOLDER.glob("*.txt"))]

RAW = st.binary(max_size=300)
FRAMED = st.lists(
    st.builds(Packet, st.sampled_from(sorted(COMMANDS)), st.binary(max_size=40)).map(encode), max_size=12
).map(b"".join)
GREETED = st.one_of(RAW, FRAMED).map(lambda data: OFFER + data)

#: A queue id that no input hits upon: the refusal of a message gives back what that very message had cost.
NEIGHBOUR = "NEIGHBOUR1f6c"


def spoiled(seed: int) -> bytes:
    """A transcript with a few bytes changed, left out or doubled."""
    dice = random.Random(seed)
    data = bytearray(dice.choice(SAID))
    for _ in range(dice.randint(1, 5)):
        place = dice.randrange(len(data))
        match dice.randrange(3):
            case 0:
                data[place] = dice.randrange(256)
            case 1:
                del data[place : place + dice.randint(1, 4)]
            case 2:
                data[place:place] = data[place : place + dice.randint(1, 20)]
        if not data:
            break
    return bytes(data)


async def play(data: bytes) -> None:
    async with stage(reactor) as set_up:
        bad, good = await set_up.mta(), await set_up.greeted()
        bad.transport.write(data)
        await set_up.pause(0.01)
        await set_up.record(NEIGHBOUR)
        answer = await good.send(reactor, ("From", "alice@example.org"), queue_id=NEIGHBOUR)
        assert answer == Packet(b"c")
        assert "Traceback" not in set_up.out.getvalue()
        assert "internal_error" not in set_up.out.getvalue()
        check_answers(bad.heard)


def check_answers(heard: bytes) -> None:
    """Nothing is ever said but the negotiation, continue, and refusals with a code."""
    commands = heard[4:5]
    while heard:
        size = 4 + int.from_bytes(heard[:4], "big")
        commands, data, heard = heard[4:5], heard[5:size], heard[size:]
        assert commands in (b"O", b"c", b"y")
        assert commands != b"y" or data[:4] in (b"550 ", b"451 ")


@given(st.one_of(RAW, FRAMED, GREETED, st.integers(0, 10**9).map(spoiled)))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest_twisted.ensureDeferred
async def test_any_bytes_disturb_nobody(data: bytes) -> None:
    await play(data)


def test_the_transcripts_are_packets_or_violations() -> None:
    for said in SAID:
        try:
            assert list(packets(said))
        except Violation:
            continue
