"""Events told aside: once a window, whatever the load, and never in the way of an answer."""

from __future__ import annotations

import functools
import re
import time
from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from ledger.blocks import Block
from ledger.events import Event
from ledger.grants import Grant, parse_terms
from ledger.settings import open_ledger
from policyd import alarms
from tests.policyd.house import Client
from tests.policyd.test_server import Troubled, away, running

BOB = {"sasl_username": "bob", "sender": "bob@example.org"}


@pytest.fixture(autouse=True)
def _not_at_the_turn_of_an_hour() -> None:
    """The windows of these limits have other numbers, and their events other ids, after each full hour."""
    while time.time() % 3600 > 3590:
        time.sleep(0.5)


def data(number: object, recipients: int = 1, **more: object) -> dict[str, object]:
    named = {"instance": f"i{number}", "queue_id": f"Q{number}"}
    return {**BOB, "protocol_state": "DATA", **named, "recipient": "", "recipient_count": recipients, **more}


def rcpt(number: object) -> dict[str, object]:
    return {**BOB, "protocol_state": "RCPT", "instance": f"i{number}"}


async def until(true: Any) -> Any:
    """Wait until `true` gives something true, which it may take its time for."""
    for _ in range(500):
        got = true()
        got = await got if isinstance(got, Deferred) else got
        if got:
            return got
        await deferLater(reactor, 0.02, lambda: None)
    raise AssertionError("it never came true")


def said(house: Any, event: str, times: int) -> bool:
    return len(house.lines(event)) == times


def incident(answer: str | None) -> str:
    found = re.search(r"incident ([0-9A-F]{8})", answer or "")
    assert found, answer
    return found[1]


async def trips(house: Any, subject: str = "login:bob", kind: str = "trip") -> list[Any]:
    return [one for one in await house.judge.ledger.events_of(subject) if one.kind == kind]


@pytest_twisted.ensureDeferred
async def test_a_refusal_by_a_limit_is_an_event_that_its_incident_finds() -> None:
    async with running() as house:
        assert await house.ask(**data(1, 2)) == "DUNNO"
        answer = await house.ask(**data(2, 2))
        assert answer.startswith("450 4.7.1 login bob: used 2 of 3 recipients per hour")
        (event,) = await until(lambda: Deferred.fromCoroutine(trips(house)))
        assert event.id == incident(answer)
        assert (event.principal, event.limit, event.used) == ("login:bob", "3 recipients per hour", 2)
        assert (event.mta, event.instance, event.queue_id) == ("mx1.example.org", "i2", "Q2")
        (line,) = house.lines("limit_trip")
        assert f"incident={event.id}" in line
        assert any(f"incident={event.id}" in verdict for verdict in house.lines("verdict"))


@pytest_twisted.ensureDeferred
async def test_a_refusal_at_rcpt_from_memory_has_the_incident_of_its_window() -> None:
    async with running() as house:
        assert await house.ask(**data(1, 2)) == "DUNNO"
        at_data = await house.ask(**data(2, 2))
        assert await house.ask(**data(3, 1)) == "DUNNO"
        at_rcpt = await house.ask(**rcpt(4))
        assert at_rcpt.startswith("450 4.7.1 login bob: used 3 of 3 recipients per hour")
        assert incident(at_rcpt) == incident(at_data)
        (event,) = await until(lambda: Deferred.fromCoroutine(trips(house)))
        assert event.id == incident(at_rcpt)


@pytest_twisted.ensureDeferred
async def test_thousands_of_refusals_are_one_event() -> None:
    async with running() as house:
        assert await house.ask(**data(1, 2)) == "DUNNO"

        def flood() -> set[str]:
            client = Client(house.policy)
            told = {incident(client.ask(**data(f"f{n}", 2))) for n in range(1500)}
            client.close()
            return told

        told = await house.in_thread(flood)
        assert len(told) <= 2, "two when the hour turns meanwhile"
        events = await until(lambda: Deferred.fromCoroutine(trips(house)))
        assert {event.id for event in events} == told
        assert len(house.lines("limit_trip")) == len(told)
        assert house.service._counters.events._children.keys() <= {("trip",), ("warning",)}


@pytest_twisted.ensureDeferred
async def test_warnings_come_once_at_80_and_once_at_90_percent() -> None:
    config = "plans: {default: [10 recipients per day]}\n"
    async with running() as house:
        path = house.directory / "config.yaml"
        path.write_text(re.sub(r"plans:\n(  .*\n)+", config, path.read_text()))
        house.service.reload()
        alice = {"sasl_username": "alice", "sender": "alice@example.org"}
        for number in range(10):
            assert await house.ask(**{**data(number), **alice}) == "DUNNO"
            expected = ["80 %"] * (number >= 7) + ["90 %"] * (number >= 8)
            await until(functools.partial(said, house, "limit_warning", len(expected)))
            found = await trips(house, "login:alice", "warning")
            assert [one.text for one in reversed(found)] == expected
        assert await trips(house, "login:alice") == []


@pytest_twisted.ensureDeferred
async def test_an_event_waits_for_a_ledger_that_is_away_and_no_answer_waits_for_it() -> None:
    ledger: list[Troubled] = []

    def opened(*args: Any, **kwargs: Any) -> Troubled:
        ledger.append(Troubled(open_ledger(*args, **kwargs), note_event=away))
        return ledger[0]

    async with running(open_ledger=opened) as house:
        assert await house.ask(**data(1, 2)) == "DUNNO"
        for number in range(5):
            assert incident(await house.ask(**data(f"f{number}", 2)))
        assert len(house.service._alarms) == 1
        del ledger[0].__dict__["note_event"]
        (event,) = await until(lambda: Deferred.fromCoroutine(trips(house)))
        assert event.queue_id == "Qf0"
        await until(lambda: len(house.service._alarms) == 0)


@pytest_twisted.ensureDeferred
async def test_events_that_wait_are_bounded_and_those_that_are_not_kept_are_counted(monkeypatch) -> None:
    monkeypatch.setattr(alarms, "MOST", 1)

    def opened(*args: Any, **kwargs: Any) -> Troubled:
        return Troubled(open_ledger(*args, **kwargs), note_event=away)

    async with running(open_ledger=opened) as house:
        assert await house.ask(**data(1, 2)) == "DUNNO"
        await house.ask(**data(2, 2))
        assert await house.ask(**data(3, 1)) == "DUNNO"
        assert "2 messages per day" in (await house.ask(**data(4, 1)))
        assert len(house.service._alarms) == 1
        assert house.service._counters.events._children.keys() == {("lost",)}


@pytest_twisted.ensureDeferred
async def test_three_tripped_windows_set_a_block_that_says_why() -> None:
    async with running() as house:
        path = house.directory / "config.yaml"
        plan = "plans:\n  small: [1000 bytes per day, 3 recipients per hour, 2 messages per 2 hours]\n"
        path.write_text(re.sub(r"plans:\n(  .*\n)+", plan, path.read_text()))
        house.service.reload()
        assert await house.ask(**data(1, 2, size=900)) == "DUNNO"
        assert "bytes of 1 kB per day" in (await house.ask(**data(2, 1, size=200)))
        assert "recipients per hour" in (await house.ask(**data(3, 2, size=10)))
        assert await house.ask(**data(4, 1, size=10)) == "DUNNO"
        assert "messages per 2 hours" in (await house.ask(**data(5, 1, size=10)))
        (block,) = await until(
            lambda: house.judge.blocks and house.judge.ledger.blocks().addCallback(lambda b: b[1])
        )
        answer = await until(
            lambda: house.ask(**rcpt(6)).addCallback(lambda a: a if a.startswith("554") else "")
        )
        assert answer.startswith(
            "554 5.7.1 login bob is blocked from sending: its limits were exceeded 3 times"
        )
        assert answer.endswith(f"(incident {block.id})")
        await until(lambda: house.lines("self_block"))
        (event,) = await trips(house, kind="block")
        assert event.id == block.id
        assert len(house.lines("self_block")) == 1


@pytest_twisted.ensureDeferred
async def test_an_event_that_cannot_be_judged_is_lost_loudly_and_the_next_one_is_told() -> None:
    async with running() as house:
        one = Event("A", "trip", "login:bob", principal="login:bob", limit="no limit at all")
        house.service._alarms._add(one)
        house.service._alarms._add(replace(one, id="B", kind="warning"))
        await until(lambda: len(house.service._alarms) == 0)
        assert len(await trips(house, kind="warning")) == 1
        assert house.lines("event")


@pytest_twisted.ensureDeferred
async def test_escalation_is_off_where_the_settings_say_so_and_on_after_a_reload() -> None:
    async with running() as house:
        path = house.directory / "config.yaml"
        text = path.read_text()
        path.write_text(text.replace("  contact", "  escalation: {windows: 0}\n  contact"))
        house.service.reload()
        limits = ["1 message per day", "2 messages per day", "3 messages per day", "4 messages per day"]
        events = [
            Event(f"T{limit}", "trip", "login:bob", principal="login:bob", limit=limit) for limit in limits
        ]
        for number, event in enumerate(events):
            house.service._alarms._add(replace(event, limit=f"9 messages per {number + 1} days"))
        await until(lambda: len(house.service._alarms) == 0)
        assert (await house.judge.ledger.blocks())[1] == ()
        path.write_text(text)
        house.service.reload()
        house.service._alarms._add(Event("N", "trip", "login:bob", principal="login:bob", limit=limits[0]))
        await until(lambda: house.lines("self_block"))
        assert len((await house.judge.ledger.blocks())[1]) == 1


@pytest_twisted.ensureDeferred
async def test_what_goes_on_is_told_again_after_a_while_should_the_ledger_have_been_emptied(
    monkeypatch,
) -> None:
    async with running() as house:
        assert await house.ask(**data(1, 2)) == "DUNNO"
        id = incident(await house.ask(**data(2, 2)))
        await until(lambda: Deferred.fromCoroutine(trips(house)))
        await house.judge.ledger.forget_event(id)
        assert incident(await house.ask(**data(3, 2)))
        await until(lambda: len(house.service._alarms) == 0)
        assert await trips(house) == [], "not yet"
        monkeypatch.setattr(alarms, "AGAIN", 0.0)
        id = incident(await house.ask(**data(4, 2)))
        (event,) = await until(lambda: Deferred.fromCoroutine(trips(house)))
        assert event.id == id


@pytest_twisted.ensureDeferred
async def test_a_trip_whose_teller_was_killed_before_it_could_block_is_seen_by_the_next_one() -> None:
    async with running() as house:
        for number in range(3):
            limit = f"9 messages per {number + 1} days"
            told = Event(f"T{number}", "trip", "login:bob", principal="login:bob", limit=limit)
            assert await house.judge.ledger.note_event(told)
        assert (await house.judge.ledger.blocks())[1] == ()
        house.service._alarms._add(told)
        await until(lambda: house.lines("self_block"))
        assert len((await house.judge.ledger.blocks())[1]) == 1


@pytest_twisted.ensureDeferred
async def test_a_wall_clock_that_jumps_by_a_day_unblocks_and_blocks_nobody() -> None:
    async with running() as house:
        now, jump = time.time(), [0.0]
        house.judge._clock = house.judge._calendar._wall = lambda: time.time() + jump[0]
        block = Block("", "login:alice", "sending", "root", "", "", now, now + 3600.0)
        await house.judge.ledger.block(block)
        alice = {"protocol_state": "RCPT"}
        await until(lambda: house.ask(**alice).addCallback(lambda answer: answer.startswith("554")))
        assert await house.ask(**data(1, 2)) == "DUNNO"
        for jump[0] in (86400.0, -86400.0, 7 * 86400.0):
            await house.judge.ledger.reset("login:carol", "root", "the generation moves")
            for number in range(5):
                assert (await house.ask(**alice)).startswith("554 5.7.1 login alice is blocked")
                assert (await house.ask(**data(f"{jump[0]}.{number}", 2))).startswith(
                    "450 4.7.1 login bob: used"
                )
        await until(lambda: len(house.service._alarms) == 0)
        assert len((await house.judge.ledger.blocks())[1]) == 1


@pytest_twisted.ensureDeferred
async def test_a_wall_clock_that_jumps_by_a_day_ends_no_grant_and_begins_none() -> None:
    async with running() as house:
        now, jump = time.time(), [0.0]
        house.judge._clock = house.judge._calendar._wall = lambda: time.time() + jump[0]
        grant = Grant("", "login:bob", parse_terms(["0 messages per day"]), "root", "", now, now + 3600.0)
        await house.judge.ledger.block(grant.block)
        await until(lambda: len(house.judge.grants) == 1)
        for jump[0] in (0.0, 86400.0, -86400.0):
            await house.judge.ledger.reset("login:carol", "root", "the generation moves")
            answer = await house.ask(**data(jump[0], 1))
            assert answer.startswith("554 5.7.1 login bob may send 0 messages per day")


@pytest_twisted.ensureDeferred
async def test_a_domains_or_the_relays_limit_blocks_nobody() -> None:
    async with running() as house:
        for number in range(4):
            limit = f"9 messages per {number + 1} days"
            house.service._alarms._add(
                Event(f"T{number}", "trip", "domain:example.org", principal="login:bob", limit=limit)
            )
        await until(lambda: len(house.service._alarms) == 0)
        assert len(await trips(house, "domain:example.org")) == 4
        assert (await house.judge.ledger.blocks())[1] == ()
