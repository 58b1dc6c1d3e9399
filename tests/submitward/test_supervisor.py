"""The supervisor with real children: held sockets, restarts, signals, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.inheritance import FIRST
from sidecar.lines import parse_line
from submitward import supervisor as module
from submitward.supervisor import Child
from tests.sidecar.conftest import ROOT, ask, connect, wait_until


@pytest.fixture
def directory() -> Iterator[Path]:
    path = tempfile.mkdtemp(prefix="sw", dir="/var/tmp")
    yield Path(path)
    shutil.rmtree(path)


class Family:
    """A supervisor process and its echo services."""

    def __init__(self, directory: Path, *names: str, **environ: str) -> None:
        self.directory = directory
        self.log = directory / "log"
        self.names = names
        for name in names:
            self.settings(name)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.submitward.supervise_echo",
                    str(directory),
                    str(directory),
                    *names,
                ],
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                cwd=ROOT,
            )

    def settings(self, name: str, greeting: str = "echo") -> None:
        text = f"version: 1\ngreeting: {greeting}\nlisten: {{policy: ['unix:{self.directory}/{name}']}}\n"
        (self.directory / f"{name}.yaml").write_text(text)

    def socket(self, name: str) -> str:
        return str(self.directory / name)

    def pid(self, name: str) -> int:
        return int((self.directory / f"{name}.pid").read_text())

    def said(self, *texts: str) -> int:
        return sum(all(text in line for text in texts) for line in self.log.read_text().splitlines())

    def is_up(self) -> bool:
        """Whether the sockets are bound and every child is started, by this very supervisor."""
        files = [self.directory / f"{name}.pid" for name in ("supervisor", *self.names)]
        return all(file.exists() for file in files) and self.pid("supervisor") == self.process.pid

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def family(directory) -> Iterator:
    started: list[Family] = []

    def start(*names: str, **environ: str) -> Family:
        started.append(Family(directory, *names, **environ))
        one = started[-1]
        wait_until(lambda: one.is_up() or one.process.poll() is not None)
        return one

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_each_child_serves_the_sockets_that_were_bound_once(family):
    one = family("policyd", "milter")
    assert ask(one.socket("policyd"), b"a") == b"echo a\n"
    assert ask(one.socket("milter"), b"b") == b"echo b\n"
    assert one.pid("supervisor") == one.process.pid
    assert len({one.pid("supervisor"), one.pid("policyd"), one.pid("milter")}) == 3
    wait_until(lambda: one.said("echo: event=start", "inherited=1") == 2)
    assert one.stop() == 0


def test_no_connection_is_refused_while_a_child_is_killed_again_and_again(family):
    one = family("policyd")
    assert ask(one.socket("policyd"), b"first") == b"echo first\n"
    trouble: list[BaseException] = []
    answered = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            try:
                answered.append(ask(one.socket("policyd"), b"hi"))
            except ConnectionResetError:
                answered.append(b"")  # it was in the hands of the one that was killed
            except OSError as error:
                trouble.append(error)
            time.sleep(0.01)

    thread = threading.Thread(target=client)
    thread.start()
    try:
        for _ in range(3):
            pid = one.pid("policyd")
            before = len(answered)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: one.pid("policyd") != pid)
            wait_until(lambda before=before: len(answered) > before + 5)
    finally:
        stop.set()
        thread.join()
    assert not trouble
    assert set(answered) <= {b"echo hi\n", b""}
    assert one.stop() == 0


def test_a_child_that_cannot_start_is_tried_again_later_and_later_and_harms_nobody(family, directory):
    one = family("policyd", "milter")
    assert ask(one.socket("milter"), b"a") == b"echo a\n"
    (directory / "milter.yaml").write_text("nonsense: [\n")
    os.kill(one.pid("milter"), signal.SIGKILL)
    wait_until(lambda: one.said("event=ended", "sidecar=milter", "status=2") >= 2)
    assert ask(one.socket("policyd"), b"b") == b"echo b\n"
    with connect(one.socket("milter"), 60) as waiting:  # the socket is still there
        waiting.sendall(b"c\n")
        one.settings("milter")
        assert waiting.makefile("rb").readline() == b"echo c\n"
    assert one.stop() == 0


def test_hup_reaches_the_children_and_an_early_one_is_not_deadly(family):
    one = family("policyd", "milter")
    one.settings("policyd", "early")
    one.process.send_signal(signal.SIGHUP)  # before any child has a handler
    wait_until(lambda: one.said("event=reload") == 2)
    assert ask(one.socket("policyd"), b"a") == b"early a\n"
    assert one.said("event=ended") == 0
    one.settings("milter", "late")
    one.process.send_signal(signal.SIGHUP)
    wait_until(lambda: one.said("event=reload") == 4)
    assert ask(one.socket("milter"), b"a") == b"late a\n"
    assert one.stop() == 0


def test_after_sigterm_nothing_is_left(family, directory):
    one = family("policyd", "milter")
    assert ask(one.socket("policyd"), b"a") == b"echo a\n"
    pids = [one.pid("policyd"), one.pid("milter")]
    with connect(one.socket("policyd")) as connection:
        connection.sendall(b"slow\n")
        time.sleep(0.2)
        one.process.send_signal(signal.SIGTERM)
        assert connection.makefile("rb").readline() == b"echo slow\n"
    assert one.process.wait(20) == 0
    assert not any(is_alive(pid) for pid in pids)
    assert sorted(path.name for path in directory.iterdir()) == ["log", "milter.yaml", "policyd.yaml"]


def test_children_that_are_ended_while_they_start_end_with_0(family):
    one = family("policyd", "milter")
    assert one.stop() == 0  # before any child has a handler
    assert one.said("event=ended", "status=0") == 2
    assert one.said("<4>") == 0


def test_a_child_that_was_told_to_end_is_started_again_without_alarm(family):
    one = family("policyd")
    pid = one.pid("policyd")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: one.pid("policyd") != pid)
    assert one.said("<5>submitward: event=ended", "status=0") == 1
    assert ask(one.socket("policyd"), b"a") == b"echo a\n"
    assert one.stop() == 0


def test_a_child_that_hangs_is_killed_after_six_seconds(family):
    one = family("policyd")
    assert ask(one.socket("policyd"), b"a") == b"echo a\n"
    os.kill(one.pid("policyd"), signal.SIGSTOP)
    begin = time.monotonic()
    assert one.stop() == 0
    assert 5 < time.monotonic() - begin < 9


def test_the_children_die_with_the_supervisor(family):
    one = family("policyd", "milter")
    assert ask(one.socket("milter"), b"a") == b"echo a\n"
    pids = [one.pid("policyd"), one.pid("milter")]
    one.process.kill()
    one.process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    again = family("policyd", "milter")  # and the dead sockets are replaced
    assert ask(again.socket("policyd"), b"b") == b"echo b\n"


def test_a_second_supervisor_refuses_and_the_first_serves_on(family):
    one = family("policyd")
    assert ask(one.socket("policyd"), b"a") == b"echo a\n"
    second = family("policyd")
    assert second.process.wait(20) == 1
    assert second.said("another process listens there; stop it first")
    assert ask(one.socket("policyd"), b"b") == b"echo b\n"


def test_the_service_manager_hears_of_the_supervisor_alone(family, directory):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(20)
        one = family("policyd", NOTIFY_SOCKET=str(directory / "notify"), WATCHDOG_USEC="1000000")
        assert manager.recv(4096).startswith(b"READY=1\nSTATUS=supervises policyd")
        assert manager.recv(4096) == b"WATCHDOG=1"
        environ = Path(f"/proc/{one.pid('policyd')}/environ").read_bytes().split(b"\0")
        assert not any(line.startswith((b"NOTIFY_SOCKET", b"WATCHDOG_")) for line in environ)
        assert one.stop() == 0
        said = {manager.recv(4096)}
        while b"STOPPING=1" not in said:
            said.add(manager.recv(4096))
        assert said <= {b"WATCHDOG=1", b"STOPPING=1"}


def test_a_child_has_its_sockets_and_nothing_else_of_the_supervisors(family):
    one = family("policyd", "milter")
    assert ask(one.socket("milter"), b"a") == b"echo a\n"
    environ = Path(f"/proc/{one.pid('milter')}/environ").read_bytes().split(b"\0")
    assert f"LISTEN_PID={one.pid('milter')}".encode() in environ
    assert {b"LISTEN_FDS=1", b"LISTEN_FDNAMES=policy"} <= set(environ)
    unix = {line.split()[6]: line.split()[7] for line in unix_table() if len(line.split()) > 7}
    links = [os.readlink(path) for path in Path(f"/proc/{one.pid('milter')}/fd").iterdir() if path.exists()]
    named = {unix[link[8:-1]] for link in links if link[8:-1] in unix}
    assert named == {one.socket("milter")}


def unix_table() -> list[str]:
    return Path("/proc/net/unix").read_text().splitlines()[1:]


def test_every_line_of_the_family_can_be_read_back(family):
    one = family("policyd")
    os.kill(one.pid("policyd"), signal.SIGKILL)
    wait_until(lambda: one.said("event=started") == 2)
    assert one.stop() == 0
    for line in one.log.read_text().splitlines():
        parse_line(line)


def test_the_pause_doubles_to_thirty_seconds_and_is_short_again_after_a_minute():
    child, now, pauses = Child("x", (), "x", ()), 1000.0, []
    for _ in range(7):
        child.started = now
        child.ended(now)
        pauses.append(child.due - now)
        now = child.due
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    child.started = now
    child.ended(now + 60)
    assert child.due - (now + 60) == module.FIRST_PAUSE
    assert FIRST == 3
