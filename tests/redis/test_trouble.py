"""Redis in trouble: every request is answered, quickly; nobody sends without limit; and it ends."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.redis.hosts import Host, end, request
from tests.redis.server import Server, free_port

LIMIT = 30


class Load:
    """Clients that send as alice without a pause, and note each answer with the time it took."""

    def __init__(self, host: Host, lanes: int = 4) -> None:
        self.admitted = 0
        self.answers: list[tuple[float, float, str | None]] = []  # when, how long, what
        self._host = host
        self._over = False
        self._lock = threading.Lock()
        self.lanes = [threading.Thread(target=self._run, args=(lane,)) for lane in range(lanes)]
        for lane in self.lanes:
            lane.start()

    def _run(self, lane: int) -> None:
        client, number = self._host.client(), 0
        while not self._over:
            number += 1
            asked = request("alice", f"{lane}.{number}")
            if self._ask(client, asked) == "DUNNO":
                with self._lock:
                    self.admitted += 1
                self._ask(client, end(asked))
            time.sleep(0.02)

    def _ask(self, client, asked: dict[str, object]) -> str | None:
        began = time.monotonic()
        answer = client.ask(**asked)
        with self._lock:
            self.answers.append((time.monotonic(), time.monotonic() - began, answer))
        return answer

    def stop(self) -> None:
        self._over = True
        for lane in self.lanes:
            lane.join(20)
            assert not lane.is_alive()


def stopped(server: Server) -> Callable[[], object]:
    server.stop(signal.SIGKILL)
    return server.start


def frozen(server: Server) -> Callable[[], object]:
    server.send(signal.SIGSTOP)
    return lambda: server.send(signal.SIGCONT)


def out_of_memory(server: Server) -> Callable[[], object]:
    server.ask("CONFIG", "SET", "maxmemory", "1")
    return lambda: server.ask("CONFIG", "SET", "maxmemory", "0")


def replica(server: Server) -> Callable[[], object]:
    server.ask("REPLICAOF", "127.0.0.1", "1")
    return lambda: server.ask("REPLICAOF", "NO", "ONE")


def replica_without_primary(server: Server) -> Callable[[], object]:
    server.ask("CONFIG", "SET", "replica-serve-stale-data", "no")  # MASTERDOWN
    return replica(server)


def cannot_save(server: Server) -> Callable[[], object]:
    dump = server.directory / "dump.rdb"
    dump.unlink(missing_ok=True)
    dump.mkdir()
    server.ask("CONFIG", "SET", "save", "3600 1")
    server.ask("BGSAVE")
    while "rdb_last_bgsave_status:err" not in server.ask("INFO", "persistence"):
        time.sleep(0.05)

    def mend() -> None:
        dump.rmdir()
        server.ask("CONFIG", "SET", "save", "")

    return mend


def password(server: Server) -> Callable[[], object]:
    with server.connected() as connection:
        connection.sendall(b"CONFIG SET requirepass x\r\nCLIENT KILL TYPE normal SKIPME yes\r\n")
        time.sleep(0.1)

    def mend() -> None:
        with server.connected() as connection:
            connection.sendall(b"AUTH x\r\nCONFIG SET requirepass ''\r\n")
            time.sleep(0.1)

    return mend


def no_permission(server: Server) -> Callable[[], object]:
    server.ask("ACL", "SETUSER", "default", "-evalsha", "-eval")
    return lambda: server.ask("ACL", "SETUSER", "default", "+@all")


def busy(server: Server) -> Callable[[], object]:
    server.ask("CONFIG", "SET", "busy-reply-threshold", "100")
    connection = server.connected()
    connection.sendall(b'EVAL "while true do end" 0\r\n')

    def mend() -> None:
        server.ask("SCRIPT", "KILL")
        connection.close()

    return mend


def loading(server: Server) -> Callable[[], object]:
    for n in range(200):
        server.ask("SET", f"filler{n}", "x" * 300)
    server.ask("BGREWRITEAOF")  # answers while it loads are given for the compact form alone
    while "aof_rewrite_in_progress:0" not in server.ask("INFO", "persistence"):
        time.sleep(0.05)
    server.stop(signal.SIGKILL)
    kept = list(server.options)
    server.options += [
        "--key-load-delay",
        "15000",
        "--loading-process-events-interval-bytes",
        "1024",
    ]  # µs per key
    server.start(ready=False)
    server.options = kept
    return lambda: None


def wrong_type(server: Server) -> Callable[[], object]:
    server.ask("RENAME", "t:due", "kept")
    server.ask("SET", "t:due", "another program's")

    def mend() -> None:
        server.ask("DEL", "t:due")
        server.ask("RENAME", "kept", "t:due")

    return mend


TROUBLES = {
    "connection": stopped,
    "timeout": frozen,
    "OOM": out_of_memory,
    "READONLY": replica,
    "READONLY, and stale": replica_without_primary,
    "MISCONF": cannot_save,
    "NOAUTH": password,
    "NOPERM": no_permission,
    "BUSY": busy,
    "LOADING": loading,
    "WRONGTYPE": wrong_type,
}


@pytest.fixture
def place() -> Iterator[tuple[Server, Host]]:
    server = Server("--appendonly", "yes", "--appendfsync", "always").start()
    host = Host(server, "t:", "mx1.example.org", plan=f"{LIMIT} recipients per day")
    yield server, host
    host.remove()
    server.remove()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_defers_and_ends_by_itself(place: tuple[Server, Host], trouble: str) -> None:
    server, host = place
    label = trouble.partition(",")[0]
    host.start()
    load = Load(host)
    try:
        time.sleep(0.1)
        mend = TROUBLES[trouble](server)
        host.policyd.wait_for("state=unavailable")
        began = time.monotonic()
        time.sleep(1)
        client = host.client()
        # Ownership never needs Redis.
        assert client.ask(sasl_username="alice", sender="bob@example.org").startswith("553 5.7.1")
        mended = time.monotonic()
        mend()
        host.policyd.wait_for("store=redis state=ok", times=2)
        while load.admitted < LIMIT and time.monotonic() < mended + 20:
            time.sleep(0.05)
        time.sleep(0.2)
    finally:
        load.stop()
    # What Redis took and could not say any more was deferred, and is given back once Redis is back.
    assert load.admitted == LIMIT
    assert f"label={label} " in host.log, re.findall("label=[^ ]*", host.log)
    assert "Traceback" not in host.log
    for _, _, answer in load.answers:
        assert answer is not None
        assert answer.startswith(("DUNNO", "DEFER_IF_PERMIT 4.3.0", "450 4.7.1")), answer
    assert max(took for _, took, _ in load.answers) < 4
    while_away = [took for at, took, a in load.answers if began < at < mended and a.startswith("DEFER")]
    assert while_away
    assert sorted(while_away)[len(while_away) // 2] < 0.1, "the breaker keeps answers quick"


def test_scripts_that_are_flushed_all_the_time_are_nobodys_trouble(place: tuple[Server, Host]) -> None:
    server, host = place
    host.start()
    load = Load(host)
    try:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            server.ask("SCRIPT", "FLUSH")
    finally:
        load.stop()
    assert load.admitted == LIMIT
    assert not [answer for _, _, answer in load.answers if answer.startswith("DEFER")]
    assert "state=unavailable" not in host.log


@pytest.mark.parametrize(
    ("options", "label"),
    [
        (("--maxmemory-policy", "allkeys-lru"), "evicts"),
        (("--maxmemory-policy", "volatile-ttl"), "evicts"),
        (("--cluster-enabled", "yes"), "cluster"),
        (("--bind", "127.0.0.1", "-198.51.100.1", "--protected-mode", "no"), "open"),
    ],
)
def test_a_redis_that_limits_cannot_be_kept_in_is_refused_with_the_reason(
    options: tuple[str, ...], label: str
) -> None:
    port = free_port()
    server = Server(*options, port=port).start()
    host = Host(server, "t:", "mx1.example.org", url=f"redis://127.0.0.1:{port}")
    try:
        host.start(ready=f"label={label}")
        assert host.client().ask(**request("alice", 1)).startswith("DEFER_IF_PERMIT 4.3.0")
        assert "mend=" in host.log
    finally:
        host.remove()
        server.remove()


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (("--maxmemory-policy", "allkeys-lru"), ", insist: true"),
        (("--bind", "127.0.0.1", "-198.51.100.1", "--protected-mode", "no"), ", insist: true"),
        (("--bind", "127.0.0.1", "-198.51.100.1", "--protected-mode", "yes"), ""),  # it lets in nobody else
        (("--bind", "127.0.0.1", "-::1", "--protected-mode", "no"), ""),
    ],
)
def test_a_redis_is_used_when_the_settings_insist_or_nobody_else_gets_in(
    options: tuple[str, ...], more: str
) -> None:
    port = free_port()
    server = Server(*options, port=port).start()
    host = Host(server, "t:", "mx1.example.org", url=f"redis://127.0.0.1:{port}", more=more)
    try:
        assert host.start().client().ask(**request("alice", 1)) == "DUNNO"
    finally:
        host.remove()
        server.remove()
