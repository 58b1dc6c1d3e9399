"""Events as every store keeps them: once, by their id, bounded, and whatever a peer has said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import pytest_twisted

from ledger import events
from ledger.events import Event, near, read_event, trip, warning, write_event
from ledger.limits import Standing, parse_limit
from tests.ledger.stores import START, STORES, TestClock
from tests.ledger.test_contract import block

HOUR = parse_limit("100 recipients per hour")
FULL_HOUR = START - START % 3600


@pytest.fixture
def clock():
    return TestClock()


@pytest_twisted.async_yield_fixture(params=sorted(STORES))
async def ledger(request, clock, tmp_path):
    store = STORES[request.param](clock, tmp_path)
    store.start()
    yield store
    await store.stop()


def event(id="0A1B2C3D", subject="login:alice", **more):
    return Event(id, "trip", subject, limit="100 recipients per hour", used=100, **more)


# ---- in every store


@pytest_twisted.ensureDeferred
async def test_an_event_is_noted_once_whoever_comes_second(ledger, clock):
    first = event(mta="mx1", principal="login:alice", instance="i", queue_id="Q", text="90 %")
    assert await ledger.note_event(first)
    clock.advance(5)
    assert not await ledger.note_event(replace(first, mta="mx2", used=101))
    (kept,) = await ledger.events_of("login:alice")
    assert kept == replace(first, at=kept.at, serial=kept.serial)
    assert kept.serial > 0
    assert abs(kept.at - START) < 1


@pytest_twisted.ensureDeferred
async def test_the_newest_events_of_a_subject_come_first(ledger, clock):
    for number in range(3):
        await ledger.note_event(event(f"A{number}"))
        await ledger.note_event(event(f"B{number}", "login:bob"))
        clock.advance(1)
    assert [one.id for one in await ledger.events_of("login:alice")] == ["A2", "A1", "A0"]
    assert await ledger.events_of("login:carol") == ()


@pytest_twisted.ensureDeferred
async def test_old_events_are_forgotten_and_many_events_of_one_are_bounded(ledger, clock):
    await ledger.note_event(event("OLD"))
    clock.advance(events.KEPT + 60)
    for number in range(events.MOST_OF_ONE + 20):
        await ledger.note_event(event(f"N{number}"))
    found = [one.id for one in await ledger.events_of("login:alice")]
    assert len(found) == events.MOST_OF_ONE
    assert found[0] == f"N{events.MOST_OF_ONE + 19}"
    assert "OLD" not in found


HOSTILE = ["\udcff\udc80", "Käthe\n\"'\\ %n", "\x00", "]]>{}[[", "x" * 100_000]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
@pytest_twisted.ensureDeferred
async def test_whatever_a_peer_has_said_is_kept_and_bounded(ledger, text):
    subject = f"login:{text[:1000]}"
    assert await ledger.note_event(event(subject=subject, instance=text, queue_id=text, text=text))
    (kept,) = await ledger.events_of(subject)
    assert (kept.instance, kept.subject) == (text[:320], subject)


@pytest_twisted.ensureDeferred
async def test_a_block_that_sets_itself_is_set_once_and_not_again_after_it_was_lifted(ledger):
    mine = replace(block(author=events.ITSELF), id="abcde")
    assert await ledger.block_once(mine)
    assert not await ledger.block_once(replace(mine, end=START + 60))
    assert (await ledger.blocks())[1] == (mine,)
    assert await ledger.lift("abcde", "root", "paid")
    assert not await ledger.block_once(mine)
    assert (await ledger.blocks())[1] == ()
    (tombstone,) = await ledger.history()
    assert (tombstone.block.id, tombstone.lifted_by, tombstone.lifted_why) == ("abcde", "root", "paid")


# ---- their names


def standing(used, limit=HOUR, subject="login:alice"):
    return Standing(subject, limit, used)


def test_an_id_is_the_same_on_every_host_within_a_window_and_another_in_the_next():
    one = trip(standing(100), FULL_HOUR).id
    assert one == trip(standing(60), FULL_HOUR + 3599.9).id
    assert len(one) == 8
    others = ["200 recipients per hour", "100 messages per hour", "100 recipients per day"]
    ids = {trip(standing(100, parse_limit(limit)), FULL_HOUR).id for limit in others}
    ids |= {trip(standing(100), FULL_HOUR + 3600).id, trip(standing(100, subject="login:bob"), FULL_HOUR).id}
    ids |= {warning(standing(80), FULL_HOUR).id, warning(standing(90), FULL_HOUR).id, one}
    assert len(ids) == 8


NEAR = [(79, 0), (80, 80), (89, 80), (90, 90), (100, 90), (250, 90)]


@pytest.mark.parametrize(("used", "level"), NEAR)
def test_warnings_are_due_at_80_and_at_90_percent(used, level):
    assert near(standing(used)) == level
    if level:
        assert warning(standing(used), START).text == f"{level} %"


@pytest.mark.parametrize("limit", ["0 messages per day", "100 recipients per message"])
def test_nobody_is_warned_of_a_limit_of_nothing_or_of_one_per_message(limit):
    assert near(standing(0, parse_limit(limit))) == 0


def test_what_is_written_is_read_back_and_ascii():
    one = event(mta="mx", principal="login:é", instance="\udcff", queue_id="Q", text="90 %", at=5.0, serial=7)
    assert write_event(one).isascii()
    assert read_event(one.id, one.subject, 5.0, 7, write_event(one)) == one
