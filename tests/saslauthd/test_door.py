"""The process itself, with the embedded directory and ledger: start, blocks, reload, drain, exit status."""

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import deferToThread

from directory.passwords import hash_password
from ledger.blocks import Block
from ledger.settings import LedgerSettings, SqliteSettings, open_ledger
from sidecar.log import Log

CONFIG = """\
version: 1
environment: test
listen: {{auth: ["unix:{home}/auth"]}}
directory: {{file: {{path: {home}/directory.yaml}}}}
ledger: {{sqlite: {{path: {home}/ledger.sqlite}}}}
auth: {{mechanisms: [{mechanisms}]}}
"""


class Door:
    """One saslauthd process in a directory of its own."""

    def __init__(self, directory="directory.yaml"):
        self.home = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
        self.write("plain, login")
        hashed = hash_password(b"pass")
        self.directory = self.home / directory
        self.entries = f"logins:\n  alice: {{password: '{hashed}', mailboxes: [alice@example.org]}}\n"
        self.directory.write_text(self.entries)
        self.errors = self.home / "log"
        with self.errors.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "saslauthd", "--settings", str(self.home / "config.yaml")],
                stderr=out,
                cwd=Path(__file__).parent.parent.parent,
                env={"PATH": os.environ["PATH"]},
            )
        self.wait_for("event=start")

    def write(self, mechanisms):
        config = CONFIG.format(home=self.home, mechanisms=mechanisms)
        (self.home / "config.yaml").write_text(config)

    @property
    def log(self):
        return self.errors.read_text()

    def wait_for(self, text, times=1):
        end = time.monotonic() + 20
        while self.log.count(text) < times:
            assert self.process.poll() is None and time.monotonic() < end, self.log
            time.sleep(0.02)

    def connect(self):
        return Wire(str(self.home / "auth"))

    def auth(self, password="pass", login="alice"):
        wire = self.connect()
        try:
            return wire.auth(login, password)
        finally:
            wire.close()

    def offers_login(self):
        wire = self.connect()
        wire.close()
        return b"MECH\tLOGIN\tplaintext\n" in wire.greeting

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self.home)


class Wire:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(15)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")
        self.greeting = []
        while not self.greeting or self.greeting[-1] not in (b"DONE\n", b""):
            self.greeting.append(self.file.readline())
        self.socket.sendall(b"VERSION\t1\t0\nCPID\t1\n")

    def auth(self, login, password):
        response = base64.b64encode(f"\0{login}\0{password}".encode())
        self.socket.sendall(b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\tresp=" + response + b"\n")
        return self.file.readline()

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture
def door():
    started = Door()
    yield started
    started.end()


def test_the_embedded_directory_and_ledger_answer(door):
    assert door.auth() == b"OK\t1\tuser=alice\n"
    assert door.auth("wrong").startswith(b"FAIL\t1\tuser=alice\treason=")
    assert door.auth("pass", "nobody").startswith(b"FAIL\t1\tuser=nobody\treason=")


def test_a_broken_directory_keeps_the_last_good_one_and_a_missing_one_is_a_hang_up(door):
    door.directory.write_text("logins: [")
    door.wait_for("directory_broken")
    assert door.auth() == b"OK\t1\tuser=alice\n"
    door.wait_for("degraded directory=stale")


def reload(door, old, new):
    """Change the settings and say so."""
    path = door.home / "config.yaml"
    path.write_text(path.read_text().replace(old, new))
    times = door.log.count("event=reload")
    door.process.send_signal(signal.SIGHUP)
    door.wait_for("event=reload", times + 1)


@pytest.mark.parametrize("mend", ["file", "settings"])
def test_without_a_directory_the_handshake_is_whole_and_auth_is_a_hang_up_until_there_is_one(mend):
    door = Door("elsewhere.yaml")
    try:
        wire = door.connect()
        assert wire.greeting[-1] == b"DONE\n"
        assert wire.auth("alice", "pass") == b""
        wire.close()
        if mend == "settings":
            reload(door, "directory.yaml", "elsewhere.yaml")
            door.wait_for("the new directory serves")
        else:
            (door.home / "directory.yaml").write_text(door.entries)
            door.wait_for("event=directory_read")
        assert door.auth() == b"OK\t1\tuser=alice\n"
    finally:
        door.end()


def test_a_reload_to_stores_that_cannot_serve_keeps_the_old_ones(door):
    reload(door, "directory.yaml", "none.yaml")
    reload(door, "ledger.sqlite", "no/such/ledger")
    assert door.auth() == b"OK\t1\tuser=alice\n"
    door.wait_for("the new directory is unavailable; the old one goes on serving")
    door.wait_for("the new ledger is unavailable; the old one goes on serving")
    assert door.auth() == b"OK\t1\tuser=alice\n"
    door.directory.rename(door.home / "none.yaml")
    reload(door, "no/such/ledger", "other.sqlite")
    door.wait_for("the new directory serves")
    door.wait_for("the new ledger serves")
    assert door.auth() == b"OK\t1\tuser=alice\n"


def test_reload_takes_good_settings_and_leaves_wrong_ones(door):
    door.write("plain, cram-md5")
    door.process.send_signal(signal.SIGHUP)
    door.wait_for("config_reload_failed")
    assert door.offers_login()
    door.write("plain")
    door.process.send_signal(signal.SIGHUP)
    door.wait_for("event=reload")
    assert not door.offers_login()
    assert door.process.poll() is None


def test_term_ends_with_0_soon(door):
    wire = door.connect()
    door.process.send_signal(signal.SIGTERM)
    assert door.process.wait(5) == 0
    assert wire.file.readline() == b""
    wire.close()
    assert "traceback" not in door.log


@pytest_twisted.ensureDeferred
async def test_a_block_in_the_ledger_reaches_the_process_and_so_does_its_lifting(door):
    settings = LedgerSettings(sqlite=SqliteSettings(path=door.home / "ledger.sqlite"))
    ledger = open_ledger(settings, reactor=reactor, log=Log(sys.stderr, program="test", level="error"))
    ledger.start()
    assert (await deferToThread(door.auth)) == b"OK\t1\tuser=alice\n"
    kept = await ledger.block(Block("", "login:alice", "login", "test", "spam", "call us", 0.0, None))
    assert (await until(door, b"FAIL")).startswith(b"FAIL\t1\tuser=alice\treason=Login or password")
    assert await ledger.lift(kept.id, "test", "over")
    assert await until(door, b"OK") == b"OK\t1\tuser=alice\n"
    assert "reason=blocked login=alice" in door.log
    await ensureDeferred(stopped(ledger))


async def stopped(ledger):
    await ledger.stop()


async def until(door, begins):
    """The answer that begins so; the ledger's generation is read every 250 ms."""
    end = time.monotonic() + 3
    while True:
        answer = await deferToThread(door.auth)
        if answer.startswith(begins) or time.monotonic() > end:
            return answer


@pytest.mark.parametrize(
    "text", ["version: 2\n", "version: 1\nauth: {mechanisms: []}\n", "version: 1\nx: [\n", None]
)
def test_wrong_settings_are_told_and_the_exit_status_is_2(tmp_path, text):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    command = [sys.executable, "-m", "saslauthd", "--settings", str(path)]
    root = Path(__file__).parent.parent.parent
    ended = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=60)
    assert ended.returncode == 2
    assert str(path) in ended.stderr
    assert "Traceback" not in ended.stderr
