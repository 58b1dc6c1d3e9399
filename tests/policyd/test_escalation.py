"""The whole life of a block that sets itself, in every store, while days go by."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from ledger.escalation import Escalation, decide
from ledger.events import ITSELF, Event, trip
from ledger.limits import Standing, parse_limit
from policyd.alarms import Alarms
from tests.ledger.stores import STORES, Lines, TestClock
from tests.policyd.test_alarms import until

HOUR, DAY = 3600.0, 86400.0
LIMIT = parse_limit("100 recipients per hour")
ALICE = "login:alice"


class Life:
    """A ledger whose clock is turned by hand, and what is told to it."""

    def __init__(self, ledger: Any, clock: TestClock) -> None:
        self.ledger, self.clock, self.log, self.counts = ledger, clock, Lines(), Counter[str]()
        self.alarms = self.teller()

    def teller(self) -> Alarms:
        """Another process that tells."""

        def count(kind: str) -> None:
            self.counts[kind] += 1

        return Alarms(lambda: self.ledger, reactor=reactor, log=self.log, count=count, clock=self.clock.wall)

    async def trip(self, times: int) -> Any:
        """Trip the limit in so many hours, one after the other; the block that holds then."""
        for number in range(times):
            if number:
                self.clock.advance(HOUR)
            event = trip(Standing(ALICE, LIMIT, 100), self.clock.wall())
            self.alarms._add(Event(event.id, "trip", ALICE, "mx1", ALICE, event.limit, event.used))
            await until(lambda: len(self.alarms) == 0)
        return await self.block()

    async def block(self) -> Any:
        _, known = await self.ledger.blocks()
        return next((one for one in known if one.holds(self.clock.wall())), None)


@pytest_twisted.async_yield_fixture(params=sorted(STORES))
async def life(request, tmp_path):
    clock = TestClock()
    ledger = STORES[request.param](clock, tmp_path)
    ledger.start()
    yield Life(ledger, clock)
    await ledger.stop()


@pytest_twisted.ensureDeferred
async def test_a_block_comes_back_three_times_and_stays_until_it_is_lifted(life) -> None:
    assert await life.trip(2) is None
    life.clock.advance(HOUR)
    ends = []
    for _ in range(3):
        block = await life.trip(1 if not ends else 3)
        assert (block.subject, block.author, block.end - block.start) == (ALICE, ITSELF, HOUR)
        ends.append(block.end)
        life.clock.advance(HOUR + 60)
        assert await life.block() is None, "it has ended by itself"
    for_good = await life.trip(3)
    assert for_good.end is None
    life.clock.advance(20 * DAY)
    assert await life.block() == for_good
    assert await life.ledger.lift(for_good.id, "root", "a new password")
    assert await life.block() is None
    life.clock.advance(60)
    assert await life.trip(2) is None, "it does not come back at once"
    life.clock.advance(HOUR)
    assert (await life.trip(1)).end is not None, "the blocks of three weeks ago count no more"
    assert life.counts == {"trip": 15, "block": 4, "permanent": 1}


@pytest_twisted.ensureDeferred
async def test_that_a_block_came_counts_although_it_was_lifted(life) -> None:
    for number in range(4):
        block = await life.trip(3)
        assert (block.end is None) == (number == 3)
        assert await life.ledger.lift(block.id, "root", "again")
        life.clock.advance(HOUR)
    kinds = [one.kind for one in await life.ledger.events_of(ALICE)]
    assert kinds[0] == "permanent"
    assert kinds.count("block") == 3


@pytest_twisted.ensureDeferred
async def test_tellers_that_start_anew_and_hear_the_same_set_no_second_block(life) -> None:
    block = await life.trip(3)
    for _ in range(3):
        life.alarms = life.teller()
        assert await life.trip(1) == block
    assert life.counts == {"trip": 3, "block": 1}


@pytest_twisted.ensureDeferred
async def test_other_numbers_hold_from_the_next_trip_on(life) -> None:
    life.alarms.escalation = Escalation(2, 2 * HOUR + 1, 60.0, 1, DAY)
    assert await life.trip(1) is None
    life.clock.advance(3 * HOUR)
    assert await life.trip(1) is None, "too long ago"
    life.clock.advance(HOUR)
    block = await life.trip(1)
    assert block.end - block.start == 60.0
    life.clock.advance(HOUR)
    assert (await life.trip(2)).end is None


@pytest.mark.parametrize("text", ["", "postmaster@example.org", "call 555 0100"])
def test_what_the_sender_reads_names_whom_to_ask(text: str) -> None:
    trips = [Event(f"T{n}", "trip", ALICE, limit="9 messages per hour", at=n * HOUR) for n in (1, 2, 3)]
    block = decide(ALICE, trips, (), Escalation(), 4 * HOUR, text)
    assert block is not None
    assert block.contact.endswith(f"or ask {text or 'the postmaster'}")
