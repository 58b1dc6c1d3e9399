"""Blocks of extent `login` on two hosts that share a Redis: AUTH through a real Postfix fails on both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from directory.passwords import hash_password
from tests.policyd.house import ROOT
from tests.redis.server import Server
from tests.saslauthd import postfix as real
from tests.saslauthd.smtp import exchange

CONFIG = """\
version: 1
mta: {mta}
listen: {{auth: ["{listen}"]}}
directory: {{file: {{path: {home}/directory.yaml}}}}
ledger: {{kind: redis, sqlite: {{path: {home}/ledger.sqlite}}, redis: {{url: "{url}", prefix: "t:"}}}}
auth: {{require_tls: false}}
"""


class Host:
    """A saslauthd and its settings; `port` is where its Postfix takes mail."""

    def __init__(self, server: Server, mta: str, listen: str, port: int) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
        self.port = port
        self.settings = self.home / "config.yaml"
        self.settings.write_text(CONFIG.format(mta=mta, listen=listen, home=self.home, url=server.url))
        hashed = hash_password(b"pass")
        entries = "".join(
            f"  {login}: {{password: '{hashed}', mailboxes: [{login}@example.org]}}\n"
            for login in ("alice", "bob")
        )
        (self.home / "directory.yaml").write_text(f"logins:\n{entries}")
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "saslauthd", "--settings", str(self.settings)]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, cwd=ROOT)

    def command(self, *words: str) -> None:
        full = [sys.executable, "-m", "submitward", "--settings", str(self.settings), *words]
        done = subprocess.run(full, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    def log_in(self, login: str = "alice") -> int:
        return exchange(self.port, "PLAIN", True, login, "pass")[0]

    def until(self, code: int, *, but: int = 0, patience: float = 30.0) -> float:
        """Log alice in until the answer is `code`, and at most `but` before; how long that took."""
        began = time.monotonic()
        while True:
            at = time.monotonic()
            got = self.log_in()
            if got == code:
                return at - began
            assert got == but or not but, got
            assert at - began < patience, (got, (self.home / "log").read_text())

    def remove(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.home)


@contextmanager
def two_hosts(server: Server) -> Iterator[list[Host]]:
    here, master = real.start()
    hosts: list[Host] = []
    try:
        for mta, listen, port in (
            ("mx1.example.org", f"unix:{here.socket}", here.unix),
            ("mx2.example.org", f"127.0.0.1:{here.auth}", here.inet),
        ):
            hosts.append(Host(server, mta, listen, port))
        while not (os.path.exists(here.socket) and real.listens(here.auth)):  # else smtpd would end itself
            for host in hosts:
                assert host.process.poll() is None, (host.home / "log").read_text()
            time.sleep(0.05)
        os.chmod(here.socket, 0o666)
        yield hosts
    finally:
        for host in hosts:
            host.remove()
        real.stop(here, master)


def test_a_blocked_login_fails_to_log_in_on_every_host_whatever_becomes_of_redis() -> None:
    server = Server().start()
    with two_hosts(server) as (first, second):
        for host in (first, second):
            host.until(235)
        first.command("block", "bob", "--reason", "spam")  # of extent sending: bob may still log in
        first.command("block", "alice", "--extent", "login", "--reason", "stolen")
        for host in (first, second):
            assert host.until(535) < 1
        assert second.log_in("bob") == 235
        server.ask("FLUSHALL")
        for host in (first, second):
            assert [host.log_in(), host.log_in()] == [535, 535]
        server.stop()
        for host in (first, second):  # the guard cannot count: later, and never yes
            assert host.log_in() == 454
        server.start()
        for host in (first, second):  # Redis knows nothing, each host has its copy
            host.until(535, but=454)
        second.command("unblock", "alice", "--reason", "has a new password")
        for host in (second, first):
            host.until(235)
    server.remove()
