from __future__ import annotations

from dataclasses import replace

import pytest

from ledger.blocks import Block, Blocklist, Calendar

ALICE = Block("a", "login:alice", "sending", "root", "spam", "call 123", start=100.0, end=200.0)


def test_a_block_holds_from_its_start_until_before_its_end():
    assert [ALICE.holds(now) for now in (99.9, 100.0, 199.9, 200.0)] == [False, True, True, False]
    assert replace(ALICE, end=None).holds(1e12)


def test_nobody_is_blocked_by_an_empty_list():
    assert Blocklist().find(["login:alice", "relay"], 150.0) is None
    assert len(Blocklist()) == 0


def test_a_block_is_found_by_its_subject_alone():
    blocks = Blocklist([ALICE])
    assert blocks.find(["login:alice"], 150.0) is ALICE
    assert blocks.find(["login:alic", "login:alicea", "certificate:alice"], 150.0) is None
    assert blocks.find([], 150.0) is None


def test_a_block_that_is_over_or_yet_to_come_stops_nobody():
    assert Blocklist([ALICE]).find(["login:alice"], 250.0) is None
    assert Blocklist([ALICE]).find(["login:alice"], 50.0) is None


def test_mail_is_stopped_by_both_extents_and_auth_by_login_only():
    login = replace(ALICE, id="l", subject="login:bob", extent="login")
    blocks = Blocklist([ALICE, login])
    assert blocks.find(["login:alice"], 150.0, extents=("login",)) is None
    assert blocks.find(["login:bob"], 150.0, extents=("login",)) is login
    assert blocks.find(["login:bob"], 150.0) is login


def test_of_several_blocks_the_first_subject_and_then_the_longest_counts():
    longer, forever = replace(ALICE, id="b", end=300.0), replace(ALICE, id="c", end=None)
    relay = replace(ALICE, id="r", subject="relay")
    blocks = Blocklist([ALICE, longer, relay])
    assert blocks.find(["login:alice", "relay"], 150.0) is longer
    assert blocks.find(["relay", "login:alice"], 150.0) is relay
    assert Blocklist([ALICE, forever, longer]).find(["login:alice"], 150.0) is forever


class Clocks:
    """A wall clock that is set, and an uptime that is not."""

    def __init__(self):
        self.now, self.ticks = 150.0 + 1e9, 7.0
        self.calendar = Calendar(lambda: self.now, lambda: self.ticks)

    def pass_(self, seconds):
        self.now += seconds
        self.ticks += seconds


SPAN = replace(ALICE, start=1e9 + 100.0, end=1e9 + 3700.0)
JUMPS = [86400.0, -86400.0, 30 * 86400.0, -1e9]


@pytest.mark.parametrize("jump", JUMPS)
def test_a_wall_clock_that_is_set_neither_ends_a_block_nor_begins_one(jump):
    clocks = Clocks()
    to_come = replace(SPAN, id="b", subject="relay", start=SPAN.end, end=None)
    known = clocks.calendar.read([SPAN, to_come])
    clocks.now += jump
    for blocklist in (
        known,
        clocks.calendar.read([SPAN, to_come]),
    ):  # another generation comes after the jump
        assert blocklist.find(["login:alice"], clocks.now) is not None
        assert blocklist.find(["relay"], clocks.now) is None
    clocks.pass_(3600.0)
    for blocklist in (known, clocks.calendar.read([SPAN, to_come])):
        assert blocklist.find(["login:alice"], clocks.now) is None
        assert blocklist.find(["relay"], clocks.now) is not None


def test_a_block_that_is_set_after_a_jump_lasts_as_long_as_was_said():
    clocks = Clocks()
    clocks.now += 86400.0
    clocks.calendar.read([])
    block = replace(ALICE, start=clocks.now, end=clocks.now + 3600.0)
    blocklist = clocks.calendar.read([block])
    assert blocklist.find(["login:alice"], 0.0) is not None
    clocks.pass_(3601.0)
    assert blocklist.find(["login:alice"], 0.0) is None


def test_a_clock_that_is_a_little_off_changes_no_block():
    clocks = Clocks()
    clocks.now += 2.0
    assert clocks.calendar.read([SPAN]).find(["login:alice"], 0.0) is SPAN
