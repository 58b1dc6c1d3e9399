"""The shell on a real socket: order, deadlines, bounds, and what happens when a store is in trouble."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.task import deferLater

from directory import identity
from directory.settings import open_directory
from ledger import charges
from ledger.settings import open_ledger
from policyd import server
from policyd.wire import REQUEST_MAX, encode_request
from tests.policyd.house import Client, House, attributes, private_directory

LATEST = server.DEADLINE + 2.5  # seconds: Postfix is told to wait 10


@asynccontextmanager
async def running(fixture: str = "standard", **stores: Any) -> Any:
    with private_directory(fixture) as directory:
        house = House(directory, **stores)
        try:
            yield house
        finally:
            await house.stop()


class Troubled:
    """A real store some of whose verbs are in trouble."""

    def __init__(self, real: Any, **troubled: Callable[..., Any]) -> None:
        self._real = real
        self.__dict__.update(troubled)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def never(*_: object, **__: object) -> Deferred[Any]:
    return Deferred()


def away(*_: object, **__: object) -> Deferred[Any]:
    return fail(charges.Unavailable("a test"))


def directory_where(look_up: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *a, **k: Troubled(open_directory(*a, **k), look_up=look_up)


def ledger_where(**verbs: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *a, **k: Troubled(open_ledger(*a, **k), **verbs)


DATA = {"protocol_state": "DATA", "queue_id": "Q1", "recipient_count": 1}
END = {"protocol_state": "END-OF-MESSAGE", "queue_id": "Q1", "recipient_count": 1, "size": 10}


def raise_unavailable(question: object) -> Any:
    raise identity.Unavailable("a test")


def fail_unavailable(question: object) -> Awaitable[Any]:
    return fail(identity.Unavailable("a test"))


@pytest.mark.parametrize("trouble", [raise_unavailable, fail_unavailable, never])
@pytest_twisted.ensureDeferred
async def test_a_directory_in_trouble_is_try_later_within_the_deadline(trouble: Callable[..., Any]) -> None:
    async with running(open_directory=directory_where(trouble)) as house:
        began = time.monotonic()
        answers = await gatherResults(
            [house.ask(), house.ask(**DATA), house.ask(sasl_username="", sender="x@y")]
        )
        assert time.monotonic() - began < LATEST
        assert all(answer.startswith("DEFER_IF_PERMIT 4.3.0 cannot check") for answer in answers)
        assert "Traceback" not in house.log.getvalue()


@pytest_twisted.ensureDeferred
async def test_a_directory_that_never_answers_one_delays_nobody_else() -> None:
    async with running(open_directory=lambda *a, **k: _slow_for_alice(*a, **k)) as house:
        slow = house.ask()
        began = time.monotonic()
        for _ in range(20):
            assert await house.ask(sasl_username="heidi", sender="heidi@example.org") == "DUNNO"
        assert time.monotonic() - began < server.DEADLINE
        assert not slow.called
        assert (await slow).startswith("DEFER_IF_PERMIT")


def _slow_for_alice(*a: Any, **k: Any) -> Any:
    real = open_directory(*a, **k)
    alice = identity.Login("alice")
    return Troubled(real, look_up=lambda question: never() if question == alice else real.look_up(question))


@pytest_twisted.ensureDeferred
async def test_a_directory_that_answers_later_is_waited_for() -> None:
    def slowly(*a: Any, **k: Any) -> Any:
        real = open_directory(*a, **k)
        return Troubled(real, look_up=lambda question: deferLater(reactor, 0.05, real.look_up, question))

    async with running(open_directory=slowly) as house:
        assert await house.ask() == "DUNNO"
        assert (await house.ask(sender="bob@example.org")).startswith("553 5.7.1")
        # An unlisted certificate, then the network: both are asked for.
        network = {"sasl_username": "", "ccert_fingerprint": "ff" * 32, "client_address": "192.0.2.1"}
        assert await house.ask(**network, sender="app@example.org") == "DUNNO"


@pytest_twisted.ensureDeferred
async def test_on_mx_a_directory_in_trouble_delays_no_mail_of_strangers() -> None:
    async with running(open_directory=directory_where(raise_unavailable)) as house:
        stranger = {"sasl_username": "", "policy_context": "mx", "sender": "stranger@elsewhere.example"}
        assert await house.ask(**stranger) == "DUNNO"
        assert await house.ask(**stranger, **DATA) == "DUNNO"
        assert (await house.ask(policy_context="mx")).startswith("DEFER_IF_PERMIT")


@pytest.mark.parametrize("trouble", [away, never])
@pytest_twisted.ensureDeferred
async def test_a_ledger_in_trouble_defers_at_data_and_never_at_the_end(trouble: Callable[..., Any]) -> None:
    async with running(open_ledger=ledger_where(reserve=trouble, settle=trouble)) as house:
        began = time.monotonic()
        # RCPT needs nothing of it.
        assert await house.ask() == "DUNNO"
        assert (await house.ask(sender="bob@example.org")).startswith("553 5.7.1")
        data, end = await gatherResults([house.ask(**DATA), house.ask(**{**END, "queue_id": "Q2"})])
        assert time.monotonic() - began < LATEST
        assert data.startswith("DEFER_IF_PERMIT 4.3.0")
        assert end == "DUNNO"
        assert "Traceback" not in house.log.getvalue()


@pytest_twisted.ensureDeferred
async def test_a_settlement_that_could_not_be_delivered_is_repeated_until_it_is_in() -> None:
    trouble = {"away": False}

    def flaky(*a: Any, **k: Any) -> Any:
        real = open_ledger(*a, **k)
        return Troubled(real, settle=lambda *x: away() if trouble["away"] else real.settle(*x))

    async with running(open_ledger=flaky) as house:
        bob = {"sasl_username": "bob", "sender": "bob@example.org"}
        assert await house.ask(**bob, **DATA) == "DUNNO"
        trouble["away"] = True
        assert await house.ask(**bob, **END) == "DUNNO"
        assert len(house.judge.settlements) == 1
        trouble["away"] = False
        await until(lambda: not len(house.judge.settlements))
        (line,) = house.lines("settle")
        assert "settle=late" in line
        assert "queue_id=Q1" in line
        limits = house.settings.plans["small"][:2]
        standings = await house.judge.ledger.standing(tuple(("login:bob", limit) for limit in limits))
        assert [standing.used for standing in standings] == [1, 1]


async def until(claim: Callable[[], bool]) -> None:
    end = time.monotonic() + 8
    while not claim():
        assert time.monotonic() < end
        await deferLater(reactor, 0.02)


@pytest_twisted.ensureDeferred
async def test_settlements_that_wait_are_delivered_when_the_service_stops() -> None:
    trouble = {"away": True}

    def flaky(*a: Any, **k: Any) -> Any:
        real = open_ledger(*a, **k)
        return Troubled(real, settle=lambda *x: away() if trouble["away"] else real.settle(*x))

    async with running(open_ledger=flaky) as house:
        await house.ask(**DATA)
        await house.ask(**END)
        trouble["away"] = False
    assert "settle=late" in house.log.getvalue()
    assert "settle=lost" not in house.log.getvalue()


@pytest_twisted.ensureDeferred
async def test_without_the_blocks_mail_is_put_off_after_a_moment() -> None:
    async with running(open_ledger=ledger_where(watch=lambda changed: None)) as house:
        assert (await house.ask()).startswith("DEFER_IF_PERMIT")
        assert house.service.state() == "degraded blocks=unread"
        assert house.service.healthy()


@pytest_twisted.ensureDeferred
async def test_a_request_right_after_the_start_waits_for_the_blocks() -> None:
    async with running() as house:
        assert house.judge.blocks is None
        assert await house.ask() == "DUNNO"
        assert house.service.state() == "ok"


@pytest_twisted.ensureDeferred
async def test_a_defect_drops_the_connection_and_says_nothing_to_the_peer() -> None:
    def broken(question: object) -> Any:
        return fail(RuntimeError("a defect"))

    async with running(open_directory=directory_where(broken)) as house:
        assert await house.ask() is None
        assert house.lines("internal_error")


@pytest_twisted.ensureDeferred
async def test_pipelined_requests_are_answered_in_order_also_when_some_wait() -> None:
    chance = random.Random(7)

    def unevenly(*a: Any, **k: Any) -> Any:
        real = open_directory(*a, **k)

        def look_up(question: Any) -> Any:
            pause = chance.choice([None, 0, 0.002])
            return (
                real.look_up(question)
                if pause is None
                else deferLater(reactor, pause, real.look_up, question)
            )

        return Troubled(real, look_up=look_up)

    async with running(open_directory=unevenly) as house:

        def talk() -> list[str | None]:
            client = Client(house.policy)
            senders = [f"{n}@x.example" if n % 2 else "alice@example.org" for n in range(300)]
            requests = (attributes(sender=sender, instance=f"i{n}") for n, sender in enumerate(senders))
            client.send(b"".join(map(encode_request, requests)))
            return [client.read() for _ in senders]

        answers = await house.in_thread(talk)
        for number, answer in enumerate(answers):
            assert f"<{number}@x.example>" in answer if number % 2 else answer == "DUNNO"


@pytest_twisted.ensureDeferred
async def test_a_thousand_pipelined_data_requests_do_not_exhaust_the_stack() -> None:
    from ledger.model import ModelLedger

    async with running(open_ledger=lambda *a, **k: ModelLedger(time.time)) as house:

        def talk() -> set[str | None]:
            client = Client(house.policy)
            for _ in range(2):
                client.send(encode_request(attributes(**DATA)) * 1500)
            return {client.read() for _ in range(3000)}

        assert await house.in_thread(talk) == {"DUNNO"}


@pytest_twisted.ensureDeferred
async def test_a_half_read_request_is_dropped_and_an_idle_connection_is_not(monkeypatch: Any) -> None:
    monkeypatch.setattr(server, "HALF_READ", 0.3)
    async with running() as house:

        def talk() -> tuple[str | None, str | None]:
            idle, slow = Client(house.policy), Client(house.policy)
            first = idle.ask()
            assert first == "DUNNO"
            for byte in b"request=smtpd":  # dripping on does not help
                try:
                    slow.send(bytes([byte]))
                except BrokenPipeError:
                    break
                time.sleep(0.05)
            return slow.read(), idle.ask()

        assert await house.in_thread(talk) == (None, "DUNNO")
        (line,) = house.lines("protocol_error")
        assert "no whole request" in line


@pytest_twisted.ensureDeferred
async def test_a_slow_request_that_comes_in_whole_in_time_is_answered() -> None:
    async with running() as house:

        def talk() -> str | None:
            client = Client(house.policy)
            data = encode_request(attributes())
            for at in range(0, len(data), 40):
                client.send(data[at : at + 40])
                time.sleep(0.02)
            return client.read()

        assert await house.in_thread(talk) == "DUNNO"


@pytest_twisted.ensureDeferred
async def test_a_peer_that_does_not_read_is_dropped_and_nobody_else_notices() -> None:
    async with running() as house:

        def talk() -> str | None:
            deaf = Client(house.policy)
            deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            deaf.socket.settimeout(5)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                for _ in range(20000):
                    deaf.send(encode_request(attributes(sender="bob@example.org")) * 10)
            other = Client(house.policy)
            return other.ask()

        assert await house.in_thread(talk) == "DUNNO"
        (line,) = house.lines("protocol_error")
        assert "not read" in line


@pytest_twisted.ensureDeferred
async def test_a_peer_that_reads_late_gets_every_answer() -> None:
    async with running() as house:

        def talk() -> list[str]:
            late = Client(house.policy)
            # More answers than the kernel holds, and fewer than we hold for a peer.
            late.send(encode_request(attributes(sender="bob@example.org")) * 500)
            time.sleep(0.5)
            answers = [str(late.read()) for _ in range(500)]
            answers.append(str(late.ask()))
            return answers

        *refused, passed = await house.in_thread(talk)
        assert {answer[:9] for answer in refused} == {"553 5.7.1"}
        assert passed == "DUNNO"


class Kernel:
    """A transport whose kernel takes so many octets of a write."""

    disconnecting = False

    def __init__(self, takes: int | Exception) -> None:
        self.takes, self.sent, self.written, self.aborted = takes, b"", b"", False

    def writeSomeData(self, data: bytes) -> int | Exception:
        if isinstance(self.takes, Exception):
            return self.takes
        self.sent += data[: self.takes]
        return min(self.takes, len(data))

    def write(self, data: bytes) -> None:
        self.written += data

    def abortConnection(self) -> None:
        self.aborted = True


@pytest.mark.parametrize("takes", [0, 1, 5, 13, 14, 100])
def test_what_the_kernel_does_not_take_at_once_follows_in_order(takes: int) -> None:
    protocol: Any = server.PolicyProtocol(None)  # type: ignore[arg-type]
    protocol.transport = kernel = Kernel(takes)
    for _ in range(3):
        protocol._send(b"action=DUNNO\n\n")
    assert kernel.sent + kernel.written == b"action=DUNNO\n\n" * 3
    assert bool(kernel.written) is (takes < 14)


def test_a_lost_connection_is_found_when_writing() -> None:
    protocol: Any = server.PolicyProtocol(None)  # type: ignore[arg-type]
    protocol.transport = kernel = Kernel(OSError("gone"))
    protocol._send(b"action=DUNNO\n\n")
    assert kernel.aborted
    assert not kernel.written


@pytest_twisted.ensureDeferred
async def test_any_bytes_get_no_answer_that_permits_and_harm_nobody() -> None:
    chance = random.Random(11)
    pieces = [b"request=smtpd_access_policy\n", b"\n", b"sender=alice@example.org\n", b"=\n", b"\0", b"\r\n"]
    pieces += [
        b"sasl_username=alice\n",
        b"protocol_state=DATA\n",
        b"x" * 3000,
        b"\xff\xfe",
        b"size=1e9\n",
        b"instance=\xff\n",
    ]
    async with running() as house:

        def talk() -> None:
            steady = Client(house.policy)
            for number in range(300):
                hostile = Client(house.policy)
                data = b"".join(chance.choice(pieces) for _ in range(chance.randint(1, 12)))
                data += chance.randbytes(chance.randint(0, 30))
                try:
                    hostile.send(data)
                    hostile.socket.shutdown(socket.SHUT_WR)
                    while (answer := hostile.read()) is not None:
                        assert answer.startswith(("553 ", "554 ", "530 ", "DEFER_IF_PERMIT 4.3.0 ")), data
                except (BrokenPipeError, ConnectionResetError, OSError):
                    pass
                hostile.close()
                assert steady.ask(instance=f"i{number}") == "DUNNO"

        await house.in_thread(talk)
        assert "Traceback" not in house.log.getvalue()


@pytest_twisted.ensureDeferred
async def test_every_prefix_of_a_request_and_the_end_is_no_request() -> None:
    async with running() as house:
        data = encode_request(attributes(**DATA))

        def talk() -> None:
            for end in range(len(data)):
                client = Client(house.policy)
                client.send(data[:end])
                client.socket.shutdown(socket.SHUT_WR)
                assert client.read() is None
                client.close()

        await house.in_thread(talk)
        assert not house.lines("verdict")
        assert not house.lines("protocol_error")


@pytest_twisted.ensureDeferred
async def test_a_request_beyond_the_bound_is_dropped() -> None:
    async with running() as house:

        def talk() -> str | None:
            client = Client(house.policy)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                for _ in range(100):
                    client.send(b"x" * REQUEST_MAX)
                    time.sleep(0.005)
            return client.read()

        assert await house.in_thread(talk) is None
        assert len(house.lines("protocol_error")) == 1


@pytest_twisted.ensureDeferred
async def test_asking_where_no_sender_is_known_is_mentioned_once() -> None:
    async with running() as house:
        for _ in range(3):
            assert await house.ask(protocol_state="EHLO") == "DUNNO"
        assert len(house.lines("stage")) == 1


@pytest_twisted.ensureDeferred
async def test_a_drained_service_answers_what_is_in_flight_and_hangs_up() -> None:
    def slowly(*a: Any, **k: Any) -> Any:
        real = open_directory(*a, **k)
        return Troubled(real, look_up=lambda question: deferLater(reactor, 0.3, real.look_up, question))

    async with running(open_directory=slowly) as house:
        in_flight = house.ask()
        idle = Client(house.policy)
        await deferLater(reactor, 0.1)
        await house.service.drain()
        assert await in_flight == "DUNNO"
        assert await house.in_thread(idle.read) is None
