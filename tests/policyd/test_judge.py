"""Charging along a transaction: what is reserved, settled, given back, and remembered between requests."""

from __future__ import annotations

import time

import pytest_twisted

from ledger.charges import ChargeId
from ledger.grants import Grant, parse_terms
from ledger.limits import parse_limit
from policyd.attempts import charge_id
from policyd.memory import Bounded, Transactions
from policyd.wire import Request
from tests.policyd.house import Client, House
from tests.policyd.test_server import DATA, END, running, until

BOB = {"sasl_username": "bob", "sender": "bob@example.org"}


async def used(house: House, subject: str = "login:bob", limit: str = "3 recipients per hour") -> int:
    (standing,) = await house.judge.ledger.standing(((subject, parse_limit(limit)),))
    return standing.used


class Connection:
    """One connection whose requests are awaited."""

    def __init__(self, house: House) -> None:
        self.house, self.client = house, Client(house.policy)

    async def ask(self, **changes: object) -> str:
        return str(await self.house.in_thread(lambda: self.client.ask(**{**BOB, **changes})))


@pytest_twisted.ensureDeferred
async def test_a_new_instance_on_the_connection_gives_an_unsettled_reservation_back() -> None:
    async with running() as house:
        connection = Connection(house)
        assert await connection.ask(**DATA) == "DUNNO"
        assert await used(house) == 1
        assert await connection.ask(instance="another") == "DUNNO"
        await until(lambda: house.judge._released == 1)
        assert await used(house) == 0


@pytest_twisted.ensureDeferred
async def test_a_settled_message_is_not_given_back() -> None:
    async with running() as house:
        connection = Connection(house)
        await connection.ask(**DATA)
        await connection.ask(**END)
        await connection.ask(instance="another")
        await connection.ask(instance="a third")
        assert await used(house) == 1


@pytest_twisted.ensureDeferred
async def test_a_closed_connection_gives_nothing_back() -> None:
    async with running() as house:
        connection = Connection(house)
        await connection.ask(**DATA)
        connection.client.close()
        # END-OF-MESSAGE comes on another one: Postfix had closed the first for its age.
        other = Connection(house)
        assert await other.ask(**END) == "DUNNO"
        assert await used(house) == 1


@pytest_twisted.ensureDeferred
async def test_settled_on_another_connection_is_settled() -> None:
    async with running() as house:
        first, second = Connection(house), Connection(house)
        await first.ask(**DATA)
        await second.ask(**END)
        await first.ask(instance="another")
        await second.ask(instance="another")
        assert await used(house) == 1


@pytest_twisted.ensureDeferred
async def test_a_message_refused_at_its_end_is_given_back() -> None:
    async with running() as house:
        connection = Connection(house)
        carol = {"sasl_username": "carol", "sender": "carol@example.org"}
        assert await connection.ask(**carol, **DATA, size=1000) == "DUNNO"
        assert await used(house, "login:carol", "2 MB per hour") == 1000
        assert (await connection.ask(**{**carol, **END, "size": 1_000_001})).startswith("421 4.7.1")
        await until(lambda: house.judge._released == 1)
        assert await used(house, "login:carol", "2 MB per hour") == 0


@pytest_twisted.ensureDeferred
async def test_what_is_refused_costs_nothing() -> None:
    async with running() as house:
        connection = Connection(house)
        assert (await connection.ask(**{**DATA, "sender": "alice@example.org"})).startswith("553")
        assert (await connection.ask(**{**DATA, "recipient_count": 9})).startswith("554")
        assert await used(house) == 0


@pytest_twisted.ensureDeferred
async def test_the_record_says_who_submits_as_what() -> None:
    async with running() as house:
        connection = Connection(house)
        await connection.ask(**{**DATA, "sender": "BOB@Example.ORG"})
        record = await house.judge.ledger.take_up("mx1.example.org", "Q1")
        assert (record.principal, record.sender) == ("login:bob", "bob@example.org")


@pytest_twisted.ensureDeferred
async def test_a_reset_is_noticed_by_what_rcpt_remembers() -> None:
    async with running() as house:
        connection = Connection(house)
        for number in (1, 2):
            message = {"instance": f"i{number}", "queue_id": f"Q{number}", "recipient_count": number}
            assert await connection.ask(**{**DATA, **message}) == "DUNNO"
            assert await connection.ask(**{**END, **message}) == "DUNNO"
        assert (await connection.ask(instance="i3")).startswith("450 4.7.1 login bob: used")
        await house.judge.ledger.reset("login:bob", "tests", "a test")
        await until(lambda: not house.judge._standings.of("login:bob", house.judge._clock()))
        assert await connection.ask(instance="i3") == "DUNNO"


@pytest_twisted.ensureDeferred
async def test_a_grant_and_its_end_are_noticed_within_a_second_on_an_open_connection() -> None:
    async with running() as house:
        connection, ledger = Connection(house), house.judge.ledger
        message = {"instance": "i1", "queue_id": "Q1", "recipient_count": 2}
        assert await connection.ask(**{**DATA, **message}) == "DUNNO"
        assert await connection.ask(**{**END, **message}) == "DUNNO"
        full = {"instance": "i2", "queue_id": "Q2", "recipient_count": 2}
        assert (await connection.ask(**{**DATA, **full})).startswith("450 4.7.1 login bob: used 2 of 3 recip")
        terms, now = parse_terms(["+200 recipients"]), time.time()
        kept = await ledger.block(Grant("", "login:bob", terms, "tests", "a mailing", now, None).block)
        await until(lambda: len(house.judge.grants) == 1)
        assert time.time() - now < 2
        assert await connection.ask(**{**DATA, **full}) == "DUNNO"
        assert await connection.ask(**{**END, **full}) == "DUNNO"
        await ledger.lift(kept.id, "tests", "over")
        await until(lambda: len(house.judge.grants) == 0)
        more = {**DATA, "instance": "i3", "queue_id": "Q3", "recipient_count": 1}
        assert (await connection.ask(**more)).startswith("450 4.7.1 login bob: used")


@pytest_twisted.ensureDeferred
async def test_a_site_whose_end_of_message_never_comes_is_told_once() -> None:
    async with running() as house:
        connection = Connection(house)
        for number in range(25):
            alice = {"sasl_username": "alice", "sender": "alice@example.org"}
            await connection.ask(**alice, **{**DATA, "instance": f"i{number}", "queue_id": f"Q{number}"})
        await until(lambda: house.judge._released >= 24)
        (line,) = house.lines("stage")
        assert "END-OF-MESSAGE never arrives" in line


@pytest_twisted.ensureDeferred
async def test_a_changed_plan_forgets_what_was_remembered() -> None:
    async with running() as house:
        connection = Connection(house)
        message = {"instance": "i1", "queue_id": "Q1", "recipient_count": 2}
        await connection.ask(**{**DATA, **message})
        await connection.ask(**{**END, **message})
        assert house.judge._standings.of("login:bob", house.judge._clock())
        settings = house.directory / "config.yaml"
        settings.write_text(settings.read_text().replace("3 recipients per hour", "30 recipients per hour"))
        house.service.reload()
        assert not house.judge._standings.of("login:bob", house.judge._clock())


@pytest_twisted.ensureDeferred
async def test_one_decision_is_one_line_that_joins_postfix_log() -> None:
    async with running() as house:
        connection = Connection(house)
        await connection.ask(**DATA)
        await connection.ask(sender="x\x1b[31m\u2028y@example.org", instance="i2")
        passed, refused = house.lines("verdict")
        assert passed.startswith(
            "<6>policyd: event=verdict instance=1a2b.66.7d0.0 queue_id=Q1 protocol_state=DATA"
        )
        assert "principal=login:bob sasl_username=bob" in passed
        assert "elapsed_ms=" in passed
        assert refused.startswith("<5>")
        assert "restriction=sender" in refused
        assert "\x1b" not in refused
        assert "\u2028" not in refused


def test_a_charge_has_the_same_name_for_a_repeat_and_another_for_nameless_requests() -> None:
    data = Request(protocol_state="DATA", instance="1.2", queue_id="Q1", recipient="a@b")
    assert charge_id(data, "mx1") == ChargeId("mx1", "1.2", "Q1")
    assert charge_id(data, "mx1", by="rcpt") == ChargeId("mx1", "1.2", "1 a@b")
    assert charge_id(data, "mx1", by="rcpt", number=2) == ChargeId("mx1", "1.2", "2 a@b")
    nameless = data._replace(instance="", queue_id="")
    assert charge_id(nameless, "mx1") != charge_id(nameless, "mx1")
    odd = charge_id(data._replace(recipient="\udcff" * 999), "mx1", by="rcpt")
    assert len(odd.queue_id.encode()) <= 255


def test_a_repeated_recipient_counts_again_and_a_repeated_request_does_not() -> None:
    open_ = Transactions(most=2)
    assert open_.count("mx1", "i", "a", 1) == 1
    open_.add("mx1", "i", "a", 1)
    assert open_.count("mx1", "i", "b", 1) == 2
    assert open_.count("mx1", "i", "a", 1) == 2  # the client says it twice
    assert open_.count("mx1", "i", "a", 2) == 1  # Postfix has not heard the answer
    open_.add("mx1", "i", "a", 2)
    assert open_.size("mx1", "i") == 1
    assert open_.count("mx1", "i", "a", 2) == 2
    open_.add("mx1", "i", "b", 2)
    assert open_.count("mx1", "i", "a", 3) == 3  # not what was asked last: nothing was lost
    assert open_.count("mx2", "i", "b", 1) == 1
    open_.forget("mx1", "i")
    assert open_.size("mx1", "i") == 1
    open_.add("mx1", "", "a", 1)
    assert open_.count("mx1", "", "b", 1) == 1


@pytest_twisted.ensureDeferred
async def test_rcpt_and_data_count_alike_when_one_recipient_is_repeated() -> None:
    async with running() as house:
        connection = Connection(house)
        assert [await connection.ask(instance="i1") for _ in range(2)] == ["DUNNO"] * 2
        assert (await connection.ask(instance="i1")).startswith("452 4.5.3")
        two = {"instance": "i1", "queue_id": "Q1", "recipient_count": 2}
        assert await connection.ask(**{**DATA, **two}) == "DUNNO"
        assert await used(house) == 2


@pytest_twisted.ensureDeferred
async def test_what_was_counted_before_a_restart_is_counted_at_data() -> None:
    async with running() as house:
        connection = Connection(house)
        await connection.ask(instance="i1")
        house.judge._transactions = Transactions()
        assert [await connection.ask(instance="i1") for _ in range(2)] == ["DUNNO"] * 2
        three = {"instance": "i1", "queue_id": "Q1", "recipient_count": 3}
        assert (await connection.ask(**{**DATA, **three})).startswith("554 5.7.1 3 recipients")


def test_memory_is_bounded_and_drops_what_was_used_the_longest_ago() -> None:
    bounded: Bounded[str, int] = Bounded(2)
    bounded.set("a", 1)
    bounded.set("b", 2)
    assert bounded.get("a") == 1
    bounded.set("c", 3)
    assert (bounded.get("a"), bounded.get("b"), bounded.get("c")) == (1, None, 3)
    assert len(bounded) == 2
