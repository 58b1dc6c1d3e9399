"""`submitward auth ask` against a saslauthd and against anything else, and `submitward auth flush`."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from directory.passwords import hash_password
from tests.submitward.command import submitward

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
ROOT = Path(__file__).resolve().parents[2]
CONFIG = """\
version: 1
listen: {{auth: ["unix:{home}/auth"]}}
directory: {{file: {{path: {home}/directory.yaml}}}}
ledger: {{sqlite: {{path: {home}/ledger.sqlite}}}}
auth: {{cache: {{successes: 100 s}}, guard: {{floor: 0 s}}}}
"""


class House:
    """A saslauthd in a directory of its own."""

    def __init__(self, home):
        self.home = home
        self.settings = home / "config.yaml"
        self.settings.write_text(CONFIG.format(home=home))
        self.give("pass")
        self.log = home / "log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "saslauthd", "--settings", str(self.settings)],
                stderr=out,
                cwd=ROOT,
                env={"PATH": os.environ["PATH"]},
            )
        self.wait_for("event=start")

    def give(self, password):
        beside = self.home / "directory.new"
        hashed = hash_password(password.encode())
        beside.write_text(f"logins:\n  alice: {{password: '{hashed}', mailboxes: [alice@example.org]}}\n")
        beside.replace(self.home / "directory.yaml")

    def wait_for(self, text, times=1):
        end = time.monotonic() + 20
        while self.log.read_text().count(text) < times:
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def ask(self, password, *words, login="alice"):
        return submitward(
            self.settings, "auth", "ask", "--socket", str(self.home / "auth"), *words, login, stdin=password
        )


@pytest.fixture
def house():
    home = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    made = House(home)
    try:
        yield made
    finally:
        made.process.terminate()
        assert made.process.wait(20) == 0
        shutil.rmtree(home)


def test_a_password_is_asked_about_as_smtpd_does(house):
    for mechanism in "plain", "login":
        done = house.ask("pass\n", "--mechanism", mechanism, "--rip", "198.51.100.7")
        assert (done.returncode, done.stdout[:16]) == (0, "OK 1 user=alice "), done
        done = house.ask("wrong\n", "--mechanism", mechanism, "--json")
        assert done.returncode == 1
        told = json.loads(done.stdout)
        assert told["answer"] == "FAIL" and told["mechanisms"] == ["PLAIN", "LOGIN"]
    assert "rip=198.51.100.7" in house.log.read_text()
    done = house.ask("pass\n", "--no-tls")
    assert (done.returncode, "Encryption" in done.stdout) == (1, True)


def test_after_a_flush_an_old_password_fails_at_once(house):
    assert house.ask("pass\n").returncode == 0
    house.give("new")
    house.wait_for("event=directory", 2)
    assert house.ask("pass\n").returncode == 0
    done = submitward(house.settings, "auth", "flush", "Alice", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"login": "alice", "failures": False})
    house.wait_for("event=flush")
    assert house.ask("pass\n").returncode == 1
    assert house.ask("new\n").returncode == 0


@contextmanager
def server(*said):
    """A server that says its lines, one group after each line of the client's."""
    with (
        tempfile.TemporaryDirectory(prefix="sw", dir="/var/tmp") as home,
        socket.socket(socket.AF_UNIX) as one,
    ):
        one.bind(f"{home}/auth")
        one.listen()

        def serve():
            connection = one.accept()[0]
            with connection, connection.makefile("rb") as lines:
                for text in said:
                    connection.sendall(text)
                    lines.readline()
                connection.shutdown(socket.SHUT_WR)
                lines.read()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"{home}/auth"
        thread.join(20)
        assert not thread.is_alive()


DOVECOT_CONF = """\
base_dir = {home}/run
state_dir = {home}/run
log_path = {home}/log
protocols =
ssl = no
disable_plaintext_auth = {secured}
auth_mechanisms = plain login
service auth {{
  unix_listener auth-client {{
    mode = 0666
  }}
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {home}/users
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
"""


@pytest.fixture
def dovecot():
    """A real Dovecot's auth process; gives its socket."""
    home = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    home.chmod(0o755)
    (home / "users").write_text("alice:{PLAIN}pass\n")
    (home / "users").chmod(0o644)
    (home / "dovecot.conf").write_text(DOVECOT_CONF.format(home=home, secured="yes"))
    process = subprocess.Popen(["dovecot", "-F", "-c", str(home / "dovecot.conf")], env={"PATH": PATH})
    end = time.monotonic() + 20
    while not (home / "run" / "auth-client").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    try:
        yield home / "run" / "auth-client"
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(home)


def test_a_real_dovecot_is_asked_just_the_same(dovecot, tmp_path):
    def ask(password, *words):
        command = ("auth", "ask", "--socket", str(dovecot), *words, "alice")
        return submitward(tmp_path / "none.yaml", *command, stdin=password)

    for mechanism in "plain", "login":
        done = ask("pass\n", "--mechanism", mechanism)
        assert (done.returncode, done.stdout[:16]) == (0, "OK 1 user=alice "), done
        done = ask("wrong\n", "--mechanism", mechanism, "--json")
        told = json.loads(done.stdout)
        assert (done.returncode, told["answer"], told["mechanisms"]) == (1, "FAIL", ["PLAIN", "LOGIN"])


DOVECOT = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t7\nCUID\t1\nCOOKIE\t00\nDONE\n"


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        ((DOVECOT, b"", b"", b"OK\t1\tuser=alice\n"), 0, "OK 1 user=alice"),
        ((DOVECOT, b"", b"", b"FAIL\t1\tuser=alice\ttemp\n"), 75, "temp"),
        ((DOVECOT, b"", b"", b"FAIL\t1\tcode=temp_fail\n"), 75, "code=temp_fail"),
        ((DOVECOT, b"", b"", b"FAIL\t1\treason=\x1b[2J\n"), 1, r"\x1b[2J"),
        ((DOVECOT, b"", b""), 75, "hung up"),
        ((DOVECOT, b"", b"", b"OK\t2\tuser=bob\n"), 75, "no answer"),
        ((DOVECOT, b"", b"", b"CONT\t1\t\n"), 75, "no answer"),
        ((b"",), 75, "hung up"),
        ((b"VERSION\t1\t0\nSPID\t7\n",), 75, "another kind of socket"),
        ((b"VERSION\t2\t0\n",), 75, "another major version"),
        ((b"X\n" * 200,), 75, "does not end"),
        ((b"X" * 20000,), 75, "hung up"),
    ],
)
def test_whatever_is_answered_is_told_and_only_ok_is_a_yes(said, status, words):
    with server(*said) as path:
        done = submitward("/nowhere", "auth", "ask", "--socket", path, "alice", stdin="pass\n")
    assert done.returncode == status
    assert words in done.stdout + done.stderr
    assert "pass" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ((), 2),
        (("--socket", "/nowhere/auth"), 75),
        (("--socket", "inet:localhost"), 75),
        (("--socket", "inet:127.0.0.1:1"), 75),
        (("--socket", "inet:127.0.0.1:²"), 75),
        (("--socket", "inet:127.0.0.1:0"), 75),
        (("--socket", "inet:127.0.0.1:65537"), 75),
        (("--socket", f"inet:127.0.0.1:{'9' * 5000}"), 75),
        (("--socket", "inet:..:25"), 75),
        (("--socket", f"inet:{'a' * 70}.example:25"), 75),
        (("--socket", "/nowhere/auth", "--rip", "a\tb"), 2),
    ],
)
def test_where_there_is_no_socket_it_says_so(words, status):
    done = submitward("/nowhere", "auth", "ask", *words, "alice", stdin="pass\n")
    assert done.returncode == status
    assert done.stderr.startswith("submitward auth ask: ")
    assert done.stderr.count("\n") == 1
