"""Deadlines, hang-ups, bounds, and what one connection may do to another."""

import base64
import re
import socket
import time

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport

from directory.identity import Verified
from saslauthd.server import DEADLINE, HALF_LINE_MAX
from tests.saslauthd.stage import HELLO, Ledger, Stage, stage


def plain(id: int, login: str = "alice", password: str = "pass", more: str = "\tsecured") -> bytes:
    response = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
    return f"AUTH\t{id}\tPLAIN\tservice=smtp\trip=198.51.100.7{more}\tresp={response}\n".encode()


OK = b"OK\t1\tuser=alice"


@pytest_twisted.ensureDeferred
async def test_the_handshake_comes_while_the_directory_is_away():
    async with stage(reactor) as set_up:
        set_up.directory.is_away = True
        client = await set_up.connect()
        await client.until(lambda: client.received.endswith(b"DONE\n"))
        client.send(HELLO + plain(1))
        await client.closed()
        set_up.directory.is_away = False
        client = await set_up.greeted()
        client.send(plain(1))
        assert await client.line() == OK


@pytest_twisted.ensureDeferred
async def test_a_directory_that_never_answers_costs_seven_seconds_and_then_454():
    clock = Clock()
    async with stage(reactor, clock=clock) as set_up:
        client = await set_up.greeted()
        client.send(plain(1, "stuck"))
        await until(lambda: set_up.directory.held)
        clock.advance(DEADLINE - 0.1)
        await deferLater(reactor, 0.01)
        assert not client.is_closed
        clock.advance(0.2)
        await client.closed()
        assert client.received == b""
        assert set_up.directory.cancelled == ["stuck"]
        assert "result=unavailable reason=deadline login=stuck" in set_up.log


@pytest_twisted.ensureDeferred
async def test_one_that_waits_keeps_nobody_else_waiting():
    async with stage(reactor) as set_up:
        waiting, other = await set_up.greeted(), await set_up.greeted()
        waiting.send(plain(1, "stuck"))
        other.send(plain(1))
        assert await other.line() == OK
        assert not waiting.is_closed


@pytest_twisted.ensureDeferred
async def test_answers_go_out_in_the_order_in_which_they_are_known():
    async with stage(reactor) as set_up:
        client = await set_up.greeted(b"VERSION\t1\t2\nCPID\t1\n")
        client.send(plain(1, "stuck1") + plain(2, "stuck2"))
        await until(lambda: len(set_up.directory.held) == 2)
        (_, first), (_, second) = set_up.directory.held
        second.callback(Verified("stuck2"))
        assert await client.line() == b"OK\t2\tuser=stuck2"
        first.callback(Verified("stuck1"))
        assert await client.line() == b"OK\t1\tuser=stuck1"


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_frees_what_it_asked():
    async with stage(reactor) as set_up:
        client = await set_up.greeted()
        client.send(plain(1, "stuck1") + plain(2, "stuck2"))
        await until(lambda: len(set_up.directory.held) == 2)
        await client.leave()
        await until(lambda: not set_up.factory.connections)
        assert sorted(set_up.directory.cancelled) == ["stuck1", "stuck2"]
        assert set_up.outcomes == []


@pytest_twisted.ensureDeferred
async def test_cancel_frees_what_was_asked():
    async with stage(reactor) as set_up:
        client = await set_up.greeted(b"VERSION\t1\t4\nCPID\t1\n")
        client.send(plain(1, "stuck") + b"CANCEL\t1\n")
        assert await client.line() == b"CANCELLED\t1"
        assert set_up.directory.cancelled == ["stuck"]


@pytest_twisted.ensureDeferred
async def test_a_half_read_line_ends_the_connection_and_idleness_never_does():
    clock = Clock()
    async with stage(reactor, clock=clock) as set_up:
        slow, idle, fresh = await set_up.greeted(), await set_up.greeted(), await set_up.connect()
        for second in range(int(HALF_LINE_MAX) + 1):
            slow.send(b"A")
            await deferLater(reactor, 0.005)
            assert slow.is_closed == (second >= HALF_LINE_MAX)
            clock.advance(1)
        await slow.closed()
        clock.advance(10**6)
        idle.send(plain(1))
        assert await idle.line() == OK
        assert not fresh.is_closed
        assert "event=half_line" in set_up.log


@pytest_twisted.ensureDeferred
async def test_the_next_line_has_ten_seconds_of_its_own():
    clock = Clock()
    async with stage(reactor, clock=clock) as set_up:
        client = await set_up.greeted()
        for _ in range(3):
            client.send(b"CANC")
            await deferLater(reactor, 0.005)
            clock.advance(HALF_LINE_MAX - 1)
            client.send(b"EL\t1\n")
            await deferLater(reactor, 0.005)
        assert not client.is_closed


@pytest_twisted.ensureDeferred
async def test_an_abandoned_login_expires():
    clock = Clock()
    async with stage(reactor, clock=clock) as set_up:
        client = await set_up.greeted()
        client.send(b"AUTH\t1\tLOGIN\tservice=smtp\tsecured\n")
        assert await client.line() == b"CONT\t1\tVXNlcm5hbWU6"
        clock.advance(151)
        client.send(b"CONT\t1\tYWxpY2U=\n")
        assert await client.line() == b"FAIL\t1\treason=Authentication request timed out"


@pytest_twisted.ensureDeferred
async def test_who_does_not_read_is_dropped():
    async with stage(reactor) as set_up:
        await set_up.connect()
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(set_up.path)
            deaf.setblocking(False)
            await until(lambda: len(set_up.factory.connections) == 2)
            pending = HELLO + b"".join(b"CONT\t%d\tYQ==\n" % id for id in range(1, 20_000))
            for _ in range(2000):
                try:
                    pending = pending[deaf.send(pending) :]
                except BlockingIOError:
                    pass
                except (BrokenPipeError, ConnectionResetError):
                    break
                await deferLater(reactor, 0.001)
            await until(lambda: len(set_up.factory.connections) == 1)
        assert "event=client_does_not_read" in set_up.log


@pytest_twisted.ensureDeferred
async def test_five_hundred_connections_are_greeted_and_answered_and_none_is_dropped():
    async with stage(reactor) as set_up:
        set_up.directory.is_away = set_up.ledger.is_away = True
        clients = await gatherResults([as_deferred(set_up.greeted()) for _ in range(500)])
        assert not any(client.is_closed for client in clients)
        set_up.directory.is_away = set_up.ledger.is_away = False
        for client in clients:
            client.send(plain(1))
        for client in clients:
            assert await client.line() == OK
        assert not any(client.is_closed for client in clients)
        for client in clients:
            client.transport.loseConnection()
        await until(lambda: not set_up.factory.connections)


@pytest_twisted.ensureDeferred
async def test_clients_that_share_a_process_id_are_strangers_to_each_other():
    async with stage(reactor) as set_up:
        one, other = await set_up.greeted(), await set_up.greeted()  # both say CPID 1
        one.send(plain(1, "stuck"))
        other.send(plain(1))
        assert await other.line() == OK
        one.send(b"CANCEL\t1\n")
        await until(lambda: set_up.directory.cancelled == ["stuck"])
        one.send(plain(1))
        assert await one.line() == OK
        assert not (one.is_closed or other.is_closed)


@pytest_twisted.ensureDeferred
async def test_one_outcome_is_one_line_with_its_fields():
    async with stage(reactor) as set_up:
        client = await set_up.greeted()
        client.send(plain(1) + plain(2, password="x") + plain(3, more=""))
        await client.until(lambda: client.received.count(b"\n") == 3)
        ok, wrong, bare = set_up.outcomes
        assert re.fullmatch(
            r"<6>saslauthd: event=auth result=ok login=alice mechanism=PLAIN secured=yes service=smtp "
            r"rip=198.51.100.7 elapsed_ms=\d+( \w+_ms=\d+)*",
            ok,
        )
        assert "result=refused reason=wrong_password login=alice" in wrong
        assert "result=refused reason=no_tls mechanism=PLAIN secured=no" in bare
        assert set_up.directory.asked == ["alice", "alice"]
        page = {
            tuple(sample.labels.values()): sample.value
            for family in set_up.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "submitward_auth_outcomes_total"
        }
        assert page == {
            ("ok", "PLAIN", "yes"): 1,
            ("refused", "PLAIN", "yes"): 1,
            ("refused", "PLAIN", "no"): 1,
        }


@pytest_twisted.ensureDeferred
async def test_what_a_peer_sends_cannot_break_a_line_of_the_log():
    async with stage(reactor) as set_up:
        client = await set_up.greeted()
        hostile = b"\x01n<3>saslauthd: event=auth result=ok login=root\x01r\x1b[2J\xe2\x80\xa8"
        client.send(
            b"AUTH\t1\t" + b"X\x1b" * 4000 + b"\tservice=" + hostile + b"\trip=" + hostile + b"\tsecured\n"
        )
        assert (await client.line()).startswith(b"FAIL\t1\t")
        client.send(plain(2, "al\u2028ice") + plain(3, "al ice"))
        await client.line()
        await client.line()
        assert len(set_up.outcomes) == 3
        assert not [line for line in set_up.log.splitlines() if line.startswith("<3>")]
        assert "\x1b" not in set_up.log
        assert max(map(len, set_up.log.splitlines())) < 1200


CANARY = "canary in the mine"
CANARIES = [CANARY] + [base64.b64encode(b"x" * shift + CANARY.encode())[4:-4].decode() for shift in range(3)]


@pytest.mark.parametrize("login", ["alice", "nobody", "away", "stuck", "faulty", "tabbed", "yes", "al ice"])
@pytest_twisted.ensureDeferred
async def test_no_password_reaches_the_log(login, caplog, capfd):
    async with stage(reactor) as set_up:
        client = await set_up.greeted()
        user, password = (base64.b64encode(text.encode()) for text in (login, CANARY))
        client.send(b"AUTH\t1\tLOGIN\tservice=smtp\tsecured\tresp=" + user + b"\n")
        await client.until(lambda: client.is_closed or b"\n" in client.received)
        client.send(b"CONT\t1\t" + password + b"\n")
        await deferLater(reactor, 0.01)
        others = [await set_up.greeted() for _ in range(5)]
        others[0].send(plain(1, login, CANARY))
        others[1].send(plain(1, login, CANARY).replace(b"resp=", b"resp=%"))
        others[2].send(plain(1, login, CANARY).replace(b"AUTH", b"auth"))
        others[3].send(plain(1, login, CANARY)[:-1] + b"\tx\n")
        others[4].send(plain(1, login, f"{CANARY}\0x"))
        await deferLater(reactor, 0.02)
        told = set_up.log + caplog.text + "".join(capfd.readouterr()) + repr(vars(set_up.directory))
        told += "".join(repr(one.received) for one in (client, *others))
        for canary in CANARIES:
            assert canary not in told


BEGUN = b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\tresp="


class Kernel(StringTransport):
    """A kernel that takes `takes` octets of a write at once, and an error when that is one."""

    takes = 10_000
    aborted = False

    def writeSomeData(self, data):
        if isinstance(self.takes, int):
            super().write(data[: self.takes])
            return min(self.takes, len(data))
        return self.takes

    def abortConnection(self):
        self.aborted = True


@pytest.mark.parametrize("takes", [0, 1, 30, 60, 10_000])
def test_what_the_kernel_does_not_take_at_once_follows_in_order(takes):
    set_up = Stage(reactor, Ledger(), Clock())
    set_up.service.start()
    server, transport = set_up.factory.buildProtocol(None), Kernel()
    server.makeConnection(transport)
    transport.clear()
    transport.takes = takes
    server.dataReceived(HELLO + b"".join(plain(id) for id in (1, 2, 3)))
    assert transport.value() == b"".join(b"OK\t%d\tuser=alice\n" % id for id in (1, 2, 3))


def test_connection_that_cannot_be_written_to_ends():
    set_up = Stage(reactor, Ledger(), Clock())
    set_up.service.start()
    server, transport = set_up.factory.buildProtocol(None), Kernel()
    transport.takes = OSError("broken")
    server.makeConnection(transport)
    assert transport.aborted


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.sampled_from([b"\n", b"\t", BEGUN, b"CONT\t1\t", b"CANCEL\t1\n", HELLO]),
            st.sampled_from([plain(1, "alice", "wrong"), plain(2, "stuck"), plain(1, "faulty")]),
        ),
        max_size=20,
    )
)
def test_any_bytes_give_no_yes_no_traceback_and_disturb_nobody(pieces):
    set_up = Stage(reactor, Ledger(), Clock())
    set_up.service.start()
    hostile, other = Kernel(), Kernel()
    server, innocent = set_up.factory.buildProtocol(None), set_up.factory.buildProtocol(None)
    server.makeConnection(hostile)
    innocent.makeConnection(other)
    for piece in pieces:
        server.dataReceived(piece)
    innocent.dataReceived(HELLO + plain(1))
    assert other.value().endswith(b"DONE\n" + OK + b"\n")
    assert b"OK\t" not in hostile.value()
    assert "traceback" not in set_up.log
    server.connectionLost()
    assert server.running == 0


def as_deferred(coroutine):
    from twisted.internet.defer import ensureDeferred

    return ensureDeferred(coroutine)


async def until(holds, seconds=10.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        await deferLater(reactor, 0.002)
