"""When tripped windows become a block, and when a block that comes back is one for good."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledger.blocks import Block
from ledger.escalation import Escalation, decide, event_of, windows
from ledger.events import ITSELF, Event
from ledger.tombstones import Tombstone

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86400.0
NUMBERS = Escalation()
ALICE = "login:alice"


def trip(ago, limit="100 recipients per hour", id="", kind="trip"):
    at = NOW - ago
    return Event(id or f"T{ago:.0f}{limit[:3]}", kind, ALICE, principal=ALICE, limit=limit, used=100, at=at)


def kept(start, end, *, lifted=None, author=ITSELF, subject=ALICE, id="aaaaa"):
    block = Block(id, subject, "sending", author, "", "", start, end)
    return Tombstone(block, lifted, "root" if lifted else None, "" if lifted else None)


def due(events, history=(), now=NOW, **numbers):
    return decide(ALICE, events, history, NUMBERS._replace(**numbers), now, "postmaster@example.org")


THREE = [trip(0), trip(HOUR), trip(2 * HOUR)]


def test_three_windows_within_24_hours_set_a_block_of_an_hour():
    block = due(THREE)
    assert block is not None
    assert (block.subject, block.extent, block.author) == (ALICE, "sending", ITSELF)
    assert (block.start, block.end) == (NOW, NOW + HOUR)
    assert "3 windows tripped within 24 h (100 recipients per hour)" in block.reason
    assert block.contact == (
        "its limits were exceeded 3 times, sending reopens 2027-01-15 09:00 UTC. If that was not you change"
        " its password, or ask postmaster@example.org"
    )
    told = event_of(block, "mx1")
    assert (told.id, told.kind, told.mta, told.text) == (block.id, "block", "mx1", block.reason)


def test_two_windows_set_none():
    assert due(THREE[:2]) is None


def test_windows_of_several_limits_count_together():
    day = "500 recipients per day"
    assert due([trip(0), trip(1, day), trip(2, "9 messages per minute")]) is not None
    assert due([trip(0), trip(1, day), trip(2, day)]) is None


COUNTED = [
    ([], 0),
    ([0], 1),
    ([0, 1, 2, 3, 4], 1),
    ([0, HOUR - 1], 1),  # at the turn of a full hour one window may have two events
    ([0, HOUR], 2),
    ([0, HOUR - 1, 2 * HOUR - 2], 2),
    ([0, DAY], 1),
    ([0, DAY - 1], 2),
]


@pytest.mark.parametrize(("ago", "count"), COUNTED)
def test_of_one_limit_windows_count_that_are_a_window_apart_and_within_a_day(ago, count):
    assert len(windows([trip(seconds) for seconds in ago], DAY)) == count


def test_another_amount_is_no_other_window():
    assert len(windows([trip(0), trip(1, "200 recipients per hour")], DAY)) == 1


def test_warnings_and_blocks_are_no_trips():
    assert due([replace(one, kind="warning") for one in THREE]) is None


@pytest.mark.parametrize("author", [ITSELF, "root"])
def test_who_is_blocked_is_not_blocked_again(author):
    assert due(THREE, [kept(NOW - 60, NOW + 60, author=author)]) is None
    assert due(THREE, [kept(NOW - 60, None, author=author)]) is None


def test_a_block_of_somebody_else_is_in_the_way_of_none():
    assert due(THREE, [kept(NOW - 60, None, subject="login:bob")]) is not None


def test_what_was_lifted_does_not_come_back_at_once():
    lifted = kept(NOW - 60, NOW + HOUR, lifted=NOW + 1)
    assert due(THREE, [lifted], NOW + 2) is None
    later = [trip(-HOUR), trip(-2 * HOUR), trip(-3 * HOUR)]
    assert due([*THREE, *later[:2]], [lifted], NOW + 2 * HOUR) is None
    assert due([*THREE, *later], [lifted], NOW + 3 * HOUR) is not None


def test_a_window_that_was_tripped_before_the_block_was_lifted_does_not_count_again_at_the_turn_of_its_hour():
    limits = [f"{n} recipients per {n} hours" for n in (2, 3, 4)]
    lifted = kept(NOW - 60, NOW + HOUR, lifted=NOW + 1)
    before, after = [trip(60, one) for one in limits], [trip(-60, one, id=one) for one in limits]
    assert due([*before, *after], [lifted], NOW + 60) is None
    assert due(after, [lifted], NOW + 60) is not None


def test_trips_before_a_block_has_ended_do_not_count_again():
    assert due(THREE, [kept(NOW - 2.5 * HOUR, NOW - 1.5 * HOUR)]) is None


def ended(days, **more):
    start = NOW - days * DAY
    return kept(start, start + HOUR, id=f"a{days}", **more)


def test_a_block_that_comes_back_three_times_is_for_good():
    assert due(THREE, [ended(2), ended(1)]).end == NOW + HOUR
    block = due(THREE, [ended(3), ended(2), ended(1)])
    assert block.end is None
    assert block.reason.endswith("after 3 blocks within 7 d: for good")
    assert "postmaster@example.org to lift this" in block.contact
    assert event_of(block, "mx1").kind == "permanent"


def test_lifting_does_not_take_back_that_it_came():
    assert due(THREE, [ended(3), ended(2), ended(1, lifted=NOW - DAY + 60)]).end is None


def test_blocks_before_the_period_and_those_of_operators_do_not_count():
    assert due(THREE, [ended(8), ended(2), ended(1)]).end is not None
    assert due(THREE, [ended(3, author="root"), ended(2), ended(1)]).end is not None


def test_either_can_be_switched_off():
    assert due(THREE, windows=0) is None
    assert due(THREE, [ended(n) for n in (1, 2, 3, 4)], returns=0).end == NOW + HOUR


def test_hosts_that_decide_at_the_same_time_come_to_the_same_block():
    first, second = due(THREE), due(THREE[::-1], now=NOW + 0.2)
    assert first.id == second.id
    assert len(first.id) == 5
    assert not set(first.id) - set("abcdefghjkmnpqrstuvwxyz23456789")
    assert due(THREE, [kept(0, 1, subject="login:bob", id=first.id)]).id != first.id


def test_a_clock_that_was_set_by_a_day_blocks_nobody():
    assert due(THREE[:2], now=NOW + DAY) is None
    assert due([trip(0), trip(1, id="A"), trip(2, id="B")], now=NOW - DAY) is None, "a window has one"


def test_texts_are_bounded():
    block = due([trip(n * 60.0, f"{10**14 + n} messages per minute") for n in range(200)])
    assert len(block.reason) < 250


def test_a_grant_is_no_block_neither_while_it_holds_nor_when_it_is_revoked():
    grant = Block("g", ALICE, "limits", "root", "a mailing", "", NOW - DAY, None, terms="+200 recipients")
    for one in (Tombstone(grant, None, None, None), Tombstone(grant, NOW, "root", "")):
        assert due(THREE, [one]) is not None
