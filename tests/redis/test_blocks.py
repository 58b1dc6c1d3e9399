"""Blocks that nothing forgets, and that do not come back once lifted, whatever becomes of Redis."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.policyd.house import ROOT, Client
from tests.redis.hosts import Host, end, request
from tests.redis.server import Server, free_port

PATIENCE = 8.0


def command(host: Host, *words: str) -> list[dict[str, object]]:
    """`submitward` with settings of a host; what it printed as JSON."""
    full = [sys.executable, "-m", "submitward", "--settings", str(host.settings), *words, "--json"]
    done = subprocess.run(full, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_blocked(client: Client, number: object = "b") -> bool:
    answer = client.ask(**request("alice", number) | {"protocol_state": "RCPT", "recipient": "x@example.com"})
    assert answer == "DUNNO" or answer.startswith("554 5.7.1 login alice is blocked"), answer
    return answer != "DUNNO"


def wait(client: Client, blocked: bool, patience: float = PATIENCE) -> float:
    """Wait on an open connection until alice is (not) blocked; how long it took."""
    began = time.monotonic()
    while is_blocked(client) != blocked:
        assert time.monotonic() - began < patience, f"still {'not ' if blocked else ''}blocked"
        time.sleep(0.02)
    return time.monotonic() - began


def stays(client: Client, blocked: bool, seconds: float = 1.5) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert is_blocked(client) == blocked
        time.sleep(0.02)


@pytest.fixture
def place() -> Iterator[tuple[Server, Host, Host]]:
    server = Server().start()
    hosts = [Host(server, "t:", f"mx{n}.example.org").start() for n in (1, 2)]
    yield server, *hosts
    for host in hosts:
        host.remove()
    server.remove()


def test_a_block_is_effective_on_every_host_within_a_second_on_open_connections(place) -> None:
    _, first, second = place
    clients = first.client(), second.client()
    assert not any(map(is_blocked, clients))
    for _ in range(3):
        command(first, "block", "alice", "--reason", "spam")
        for client in clients:
            assert wait(client, True) < 1
        command(second, "unblock", "alice")
        for client in clients:
            assert wait(client, False) < 1


def test_a_blocked_login_is_refused_after_flushall(place) -> None:
    server, first, second = place
    clients = first.client(), second.client()
    command(first, "block", "alice")
    for client in clients:
        wait(client, True)
    server.ask("FLUSHALL")
    for client in clients:
        stays(client, True)
    assert server.ask("HLEN", "t:blocks") == ":1", "and published again"


def test_a_blocked_login_is_refused_while_redis_is_lost_and_when_another_comes_in_its_place(place) -> None:
    server, first, second = place
    command(first, "block", "alice")
    wait(second.client(), True)
    server.stop(signal.SIGKILL)
    stays(second.client(), True)
    second.stop()
    second.start(ready="state=unavailable")  # it starts without Redis
    stays(second.client(), True)
    server.start()  # empty
    for host in (first, second):
        stays(host.client(), True)
    assert server.ask("HLEN", "t:blocks") == ":1"


def test_what_was_lifted_while_a_host_was_down_stays_lifted_after_flushall(place) -> None:
    server, first, second = place
    command(first, "block", "alice")
    wait(second.client(), True)
    second.stop()
    command(first, "unblock", "alice")
    server.ask("FLUSHALL")
    second.start()
    wait(second.client(), False)
    stays(second.client(), False)
    stays(first.client(), False)


def test_what_was_lifted_stays_lifted_when_the_host_that_was_down_is_first_to_publish(place) -> None:
    server, first, second = place
    command(first, "block", "alice")
    wait(second.client(), True)
    second.stop()
    command(first, "unblock", "alice")
    first.stop()
    server.ask("FLUSHALL")
    second.start()
    stays(second.client(), True, 0.5)  # it cannot know
    first.start()
    wait(second.client(), False)
    stays(first.client(), False)


def keep(server: Server, days: float, *names: str, more: tuple[object, ...] = ()) -> None:
    """Have Redis hold blocks of an hour that ended `days` ago."""
    now = time.time() - 86400 * days
    for name in names:
        body = json.dumps([f"login:{name}", "sending", "itself", "", "", now - 3600, now, *more])
        server.ask("HSET", "t:blocks", name, f"1 - {len(body)} {body}")
    server.ask("HINCRBY", "t:meta", "blocks", "1")


def test_thousands_of_blocks_that_have_ended_keep_no_other_waiting(place) -> None:
    server, first, second = place
    keep(server, 3, *(f"u{number}" for number in range(2000)))
    clients = first.client(), second.client()
    command(first, "block", "alice")
    for client in clients:
        assert wait(client, True) < 2
    command(second, "unblock", "alice")
    for client in clients:
        assert wait(client, False) < 2
    assert len(command(first, "blocks", "--all")) == 2001
    assert "locked" not in first.log + second.log


def test_a_block_that_ended_a_month_ago_is_handed_on_no_more() -> None:
    server = Server().start()
    keep(server, 31, "old")
    keep(server, 29, "new")
    host = Host(server, "t:", "mx1.example.org").start()
    try:
        until = time.monotonic() + PATIENCE
        while server.ask("HKEYS", "t:blocks") != "*1\r\n$3\r\nnew":
            assert time.monotonic() < until, server.ask("HKEYS", "t:blocks")
            time.sleep(0.05)
        assert [one["id"] for one in command(host, "blocks", "--all")] == ["new"]
    finally:
        host.remove()
        server.remove()


def test_a_block_that_a_newer_version_wrote_keeps_no_other_from_holding(place) -> None:
    server, first, second = place
    keep(server, -1, "strange", more=("", "what is this"))
    command(first, "block", "alice")
    for client in (first.client(), second.client()):
        assert wait(client, True) < 2
    assert second.log.count("does another host run a newer version?") == 1


@pytest.mark.parametrize("text", ["nonsense", "1 - 3 [,]", "1 - 4 null", ""])
def test_a_block_that_nobody_can_read_keeps_no_other_from_holding(text: str) -> None:
    server = Server().start()
    server.ask("HSET", "t:blocks", "broken", text)
    server.ask("HINCRBY", "t:meta", "blocks", "1")
    hosts = [Host(server, "t:", f"mx{n}.example.org").start() for n in (1, 2)]
    try:
        command(hosts[0], "block", "alice")
        assert wait(hosts[1].client(), True) < 2
    finally:
        for host in hosts:
            host.remove()
        server.remove()


def test_a_host_whose_file_is_away_holds_new_blocks_all_the_same_and_says_degraded(place) -> None:
    _, first, second = place
    client, file = second.client(), second.home / "ledger.sqlite"
    assert not is_blocked(client)
    files = [path for path in second.home.glob("ledger.sqlite*") if path.is_file()]
    for path in files:
        path.rename(path.with_name(f"away-{path.name}"))
    file.mkdir()
    second.policyd.wait_for('state="degraded ledger=degraded"')
    command(first, "block", "alice")
    assert wait(client, True) < 2
    stays(client, True)
    assert second.log.count("blocks not compared") == 1
    file.rmdir()
    for path in files:
        path.with_name(f"away-{path.name}").rename(path)
    second.policyd.wait_for("event=state state=ok")
    stays(client, True)
    command(first, "unblock", "alice")
    assert wait(client, False) < 2


def test_while_redis_is_away_a_host_blocks_and_lifts_alone_and_the_others_learn_of_it(place) -> None:
    server, first, second = place
    server.stop()
    command(first, "block", "alice")
    assert wait(first.client(), True) < 1
    assert not is_blocked(second.client())
    server.start()
    wait(second.client(), True)
    server.stop()
    command(second, "unblock", "alice")
    server.start()
    wait(first.client(), False)


def test_the_command_shows_and_resets_what_redis_has(place) -> None:
    _, first, second = place
    client = first.client()
    assert client.ask(**request("alice", 1, 40)) == "DUNNO"
    shown = command(second, "quota", "show", "alice")
    assert shown["limits"][0]["used"] == 40
    assert command(second, "quota", "reset", "alice", "--reason", "asked")["counters"] == 1
    assert command(second, "quota", "show", "alice")["limits"][0]["used"] == 0


def test_a_failover_by_sentinel_loses_no_block_and_needs_no_restart() -> None:
    ports = [free_port() for _ in range(5)]
    primary = Server(port=ports[0]).start()
    replica = Server("--replicaof", "127.0.0.1", str(ports[0]), port=ports[1]).start()
    text = (
        f"sentinel monitor mymaster 127.0.0.1 {ports[0]} 2\nsentinel down-after-milliseconds mymaster 500\n"
        "sentinel failover-timeout mymaster 3000\n"
    )
    sentinels = [Server(port=port, config=text).start() for port in ports[2:]]
    servers = ", ".join(f'"127.0.0.1:{port}"' for port in ports[2:])
    more = f", sentinel: {{servers: [{servers}], service: mymaster}}"
    host = Host(primary, "t:", "mx1.example.org", url="redis://127.0.0.1:1/0", more=more)
    try:
        while "master_link_status:up" not in replica.ask("INFO", "replication"):
            time.sleep(0.1)
        until = time.monotonic() + 20
        while any(
            "num-other-sentinels\r\n$1\r\n2" not in one.ask("SENTINEL", "MASTERS") for one in sentinels
        ):
            assert time.monotonic() < until
            time.sleep(0.1)
        host.start()
        client = host.client()
        command(host, "block", "alice")
        wait(client, True)
        assert client.ask(**request("user1", 1, 60)) == "DUNNO"
        assert client.ask(**end(request("user1", 1, 60))) == "DUNNO"  # else it is given back
        time.sleep(0.2)  # the replica has it
        primary.stop(signal.SIGKILL)
        refused, until = 0, time.monotonic() + 40
        while (answer := client.ask(**request("user1", "again", 41))) != "DUNNO":
            assert is_blocked(client)
            if answer.startswith("450 4.7.1"):
                break
            assert answer.startswith("DEFER_IF_PERMIT 4.3.0"), answer
            refused += 1
            assert time.monotonic() < until, host.log
            time.sleep(0.05)
        assert answer.startswith("450 4.7.1 login user1: used 60 of 100"), "what was used is known"
        assert refused
        assert client.ask(**request("user1", "less", 40)) == "DUNNO"
        assert "Traceback" not in host.log
    finally:
        host.remove()
        for one in (*sentinels, replica, primary):
            one.remove()
