"""saslauthd restarted under load, its socket held by another as systemd or `submitward serve` hold it."""

import os
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from directory.passwords import hash_password
from tests.saslauthd import postfix as real
from tests.saslauthd.smtp import exchange

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = 12
CONFIG = """\
version: 1
listen: {{auth: ["unix:{socket}"]}}
directory: {{file: {{path: {home}/directory.yaml}}}}
ledger: {{sqlite: {{path: {home}/ledger.sqlite}}}}
auth: {{require_tls: false}}
"""


class Held:
    """A socket where this Postfix asks, and the saslauthd that has inherited it."""

    def __init__(self, path):
        self.home = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
        hashed = hash_password(b"pass")
        entries = f"logins:\n  alice: {{password: '{hashed}', mailboxes: [alice@example.org]}}\n"
        (self.home / "directory.yaml").write_text(entries)
        (self.home / "config.yaml").write_text(CONFIG.format(home=self.home, socket=path))
        real.unlink(path)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        os.chmod(path, 0o666)
        self.socket.listen(4096)
        self.process = None

    def start(self):
        words = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=auth exec"
        settings = self.home / "config.yaml"
        command = f"{words} {sys.executable} -m saslauthd --settings {settings} 3<&{self.socket.fileno()}"
        with (self.home / "log").open("ab") as out:
            self.process = subprocess.Popen(
                ["/bin/bash", "-c", command],
                stderr=out,
                cwd=ROOT,
                pass_fds=(self.socket.fileno(),),
                env={"PATH": os.environ["PATH"]},
            )

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(20)

    def told(self, codes):
        return f"{codes[-20:]}\n{self.maillog()[-3000:]}\n{(self.home / 'log').read_text()[-2000:]}"

    def remove(self):
        self.end(signal.SIGKILL)
        self.socket.close()
        shutil.rmtree(self.home)


@pytest.fixture
def held():
    here, master = real.start()
    made = Held(here.socket)
    made.start()
    made.port, made.maillog = here.unix, lambda: here.log
    yield made
    made.remove()
    real.stop(here, master)


@pytest.mark.timeout(120)
def test_a_restart_under_load_is_later_at_worst(held):
    codes, stop = [], threading.Event()

    def client():
        while not stop.is_set():
            try:
                codes.append(exchange(held.port, "PLAIN", True, "alice", "pass")[0])
            except (smtplib.SMTPException, OSError) as trouble:
                codes.append(repr(trouble))

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        for how in (signal.SIGTERM, signal.SIGKILL) * 3:
            known = codes.count(235)
            until = time.monotonic() + 30
            while codes.count(235) < known + CLIENTS:
                assert time.monotonic() < until, (
                    codes[-20:],
                    held.maillog()[-3000:],
                    (held.home / "log").read_text()[-2000:],
                )
                time.sleep(0.02)
            held.end(how)
            held.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join(40)
    assert exchange(held.port, "PLAIN", True, "alice", "pass")[0] == 235
    assert set(codes) <= {235, 454}, set(codes)
    for word in "fatal", "panic", "throttl", "no SASL authentication mechanisms":
        assert word not in held.maillog()
