"""The policy services under test: ours on each ledger, and others' with the nearest equal rule.

Knows how each is begun and ended. Must not know how it is measured. Limits are so high that none trips.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.load import LOGINS, children
from tests.redis.server import Server, free_port

ROOT = Path(__file__).resolve().parents[1]
PLAN = "1000000 recipients per day, 1000000 messages per hour, 100 GB per day, 1000000 messages per week"
CONFIG = """\
version: 1
mta: mx1.example.org
listen: {{policy: ["unix:{home}/policy"]}}
directory: {{file: {{path: "{home}/directory.yaml"}}}}
ledger: {ledger}
plans: {{default: [{plan}, 100 recipients per message]}}
policy: {{restrictions: {{tls: "off"}}}}
log: {{level: warning}}
"""


class Service:
    """A running policy service: where it listens, and its processes."""

    def __init__(self, name: str, address: str, pids: Callable[[], list[int]]) -> None:
        self.name = name
        self.address = address  # as Postfix names it: unix:/path or inet:127.0.0.1:port
        self.pids = pids

    def connect(self) -> socket.socket:
        """A new connection."""
        kind, _, place = self.address.partition(":")
        if kind == "inet":
            host, _, port = place.rpartition(":")
            return socket.create_connection((host, int(port)))
        lane = socket.socket(socket.AF_UNIX)
        lane.connect(place)
        return lane

    def wait(self) -> None:
        """Wait until it listens."""
        until = time.monotonic() + 20
        while True:
            try:
                self.connect().close()
                return
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)


@contextlib.contextmanager
def home() -> Iterator[Path]:
    """A private directory that any user may enter."""
    made = Path(tempfile.mkdtemp(prefix="swb", dir="/var/tmp"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def child(command: list[str], log: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process, ended by its id."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as out:
        running = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT, env=environment, **options)  # type: ignore[call-overload]
    try:
        yield running
    finally:
        running.terminate()
        running.wait(20)


@contextlib.contextmanager
def ours(name: str, ledger: str, server: Server | None) -> Iterator[Service]:
    """policyd, with the section `ledger` as given."""
    with home() as here:
        logins = "".join(f"  user{n}: {{mailboxes: [user{n}@example.org]}}\n" for n in range(LOGINS))
        (here / "directory.yaml").write_text(f"logins:\n{logins}")
        (here / "config.yaml").write_text(
            CONFIG.format(home=here, ledger=ledger.format(home=here), plan=PLAN)
        )
        command = [sys.executable, "-m", "policyd", "--settings", str(here / "config.yaml")]
        with child(command, here / "log") as running:
            redis = [server.process.pid] if server and server.process else []
            service = Service(name, f"unix:{here}/policy", lambda: [running.pid, *redis])
            service.wait()
            (here / "policy").chmod(0o666)
            time.sleep(1)  # both stores are read
            yield service


@contextlib.contextmanager
def sqlite() -> Iterator[Service]:
    """Ours, on SQLite."""
    with ours("submitward, SQLite", '{{kind: sqlite, sqlite: {{path: "{home}/ledger.sqlite"}}}}', None) as it:
        yield it


@contextlib.contextmanager
def redis(tcp: bool) -> Iterator[Service]:
    """Ours, on Redis by UNIX socket or TCP."""
    server = Server(*(() if not tcp else ("--protected-mode", "yes")), port=free_port() if tcp else 0).start()
    url = f"redis://127.0.0.1:{server.port}" if tcp else server.url
    ledger = (
        f'{{{{kind: redis, sqlite: {{{{path: "{{home}}/ledger.sqlite"}}}}, redis: {{{{url: "{url}"}}}}}}}}'
    )
    try:
        with ours(f"submitward, Redis by {'TCP' if tcp else 'UNIX socket'}", ledger, server) as it:
            yield it
    finally:
        server.remove()


@contextlib.contextmanager
def echo() -> Iterator[Service]:
    """A service that judges nothing."""
    with home() as here:
        command = [sys.executable, "-m", "bench.echo", str(here / "policy")]
        with child(command, here / "log") as running:
            service = Service("DUNNO to everything", f"unix:{here}/policy", lambda: [running.pid])
            service.wait()
            (here / "policy").chmod(0o666)
            yield service


@contextlib.contextmanager
def postfwd() -> Iterator[Service]:
    """postfwd1 (one process), one rate rule by login, kept in memory."""
    with home() as here:
        port = free_port()
        rule = "id=R1; sasl_username=~/^.+$/; action=rate(sasl_username/1000000/3600/450 4.7.1 used up)\n"
        (here / "rules").write_text(rule)
        (here / "rules").chmod(0o644)
        here.chmod(0o777)
        pid = here / "pid"
        command = ["/usr/sbin/postfwd1", "-d", "-P", "-f", str(here / "rules"), "-i", "127.0.0.1"]
        command += ["-p", str(port), "-u", "nobody", "-g", "nogroup", "-c", "0", "--pidfile", str(pid)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        number = 0
        try:
            service = Service("postfwd1, memory", f"inet:127.0.0.1:{port}", lambda: children(number))
            service.wait()
            number = int(pid.read_text())
            yield service
        finally:
            os.kill(number or int(pid.read_text()), signal.SIGTERM)


@contextlib.contextmanager
def policyd_rate_limit() -> Iterator[Service]:
    """policyd-rate-limit with its default store, one limit by login."""
    with home() as here:
        text = f"""\
debug: False
user: root
group: root
pidfile: {here}/pid
sqlite_config: {{database: {here}/db.sqlite3}}
backend: 0
SOCKET: {here}/policy
socket_permission: 0666
limits: [[1000000, 3600]]
limits_by_id: {{}}
limit_by_sasl: True
limit_by_sender: False
limit_by_ip: False
limited_networks: []
success_action: dunno
fail_action: defer_if_permit Rate limit reach, retry later
db_error_action: defer_if_permit database
report: False
delay_to_close: 300
"""
        (here / "config.yaml").write_text(text)
        command = ["/usr/bin/policyd-rate-limit", "--file", str(here / "config.yaml")]
        with child(command, here / "log") as running:
            service = Service(
                "policyd-rate-limit, SQLite", f"unix:{here}/policy", lambda: children(running.pid)
            )
            service.wait()
            yield service
