"""The lab itself: what it tells, that it runs from anywhere, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.lab.__main__ import how_to_talk
from tests.lab.cast import Cast
from tests.lab.processes import MARK, is_free, members
from tests.lab.remains import CLONE, PREFIX, ROOM, clear_stale
from tests.lab.story import BOB
from tests.postfix.conftest import free_port_base

KEYS = {
    *("submission", "submissions", "mx", "logins", "application_host", "client_certificate", "client_key"),
    *("ca", "sink", "dns", "policy_socket", "auth_socket", "milter_socket", "opendkim_socket", "postfix"),
    *("settings", "ledger", "pids"),
}
IGNORED = (".git", ".venv", ".lab", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info")


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working tree under a path of more than 200 characters, below a directory that is root's alone."""
    home = Path(ROOM) / f"swhome{os.getpid()}"
    home.mkdir(mode=0o700)
    path = home / "/".join(["a-long-directory-name-of-40-characters"] * 5) / "submitward"
    assert len(str(path)) > 200
    shutil.copytree(CLONE, path, ignore=shutil.ignore_patterns(*IGNORED), symlinks=True)
    yield path
    shutil.rmtree(home)


class Demo:
    """script/demo's program, run from the clone."""

    def __init__(self, clone: Path, *options: str) -> None:
        self.clone = clone
        self.base = free_port_base(40000)
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.lab", "--port-base", str(self.base), *options],
            cwd=clone,
            env={**os.environ, "PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said = ""

    def read_until(self, words: str) -> str:
        """Read its output up to a line that holds these words; returns that line."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.said += line
            if words in line:
                return line
        raise AssertionError(f"the demo ended without saying {words!r}:\n{self.said}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        said, _ = self.process.communicate(timeout=90)
        self.said += said
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture
def demo(clone: Path) -> Iterator[Callable[..., Demo]]:
    demos: list[Demo] = []

    def start(*options: str) -> Demo:
        demos.append(Demo(clone, *options))
        return demos[-1]

    yield start
    for started in demos:
        started.close()
    clear_stale()


def labs() -> set[Path]:
    return set(ROOM.glob(f"{PREFIX}*"))


def is_gone(demo: Demo, before: set[Path]) -> bool:
    """Whether neither process, directory, port nor lab.json of the demo is left."""
    left = [directory for directory in labs() - before if directory.exists()]
    ours = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_of(entry, demo.clone)]
    ports = all(is_free("127.0.0.1", demo.base + port) for port in (587, 465, 25))
    return not left and not ours and ports and not (demo.clone / ".lab").exists()


def _is_of(entry: Path, clone: Path) -> bool:
    try:
        return f"PYTHONPATH={clone}".encode() in (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def announced(lab: Lab) -> dict[str, object]:
    told: dict[str, object] = json.loads((lab.announcement.place / "lab.json").read_text())
    return told


def test_lab_json_tells_all_that_a_stranger_needs(lab: Lab) -> None:
    told = announced(lab)
    assert set(told) == KEYS
    for name in ("client_certificate", "client_key", "ca", "sink", "dns", "postfix", "settings", "ledger"):
        assert Path(str(told[name])).exists(), name
    for name in ("policy", "auth", "milter", "opendkim"):
        assert Path(str(told[f"{name}_socket"])).is_socket()
    assert set(told["pids"]) == {"supervisor", "policyd", "saslauthd", "milter", "opendkim"}  # type: ignore[call-overload]
    assert all(Path(f"/proc/{pid}").exists() for pid in lab.describe()["pids"].values())
    assert told["logins"] == lab.logins
    assert (lab.announcement.place / "directory").resolve() == lab.places.directory


def test_no_socket_path_comes_near_107_bytes(lab: Lab) -> None:
    for name in ("policy", "auth", "milter", "opendkim"):
        assert len(str(lab.places.socket(name))) < 90


def test_lab_json_follows_a_sidecar_that_is_started_again(lab: Lab, cast: Cast) -> None:
    old = lab.pid("milter")
    lab.kill("milter")
    assert lab.wait_pid("milter", old)
    deadline = time.monotonic() + 5
    while announced(lab)["pids"]["milter"] == old and time.monotonic() < deadline:  # type: ignore[index]
        time.sleep(0.05)
    assert announced(lab)["pids"]["milter"] == lab.pid("milter") != old  # type: ignore[index]
    cast.login("bob").close()
    assert BOB


def test_the_story_is_told_from_a_long_path_below_a_closed_directory(
    demo: Callable[..., Demo], lab: Lab, clone: Path
) -> None:
    """The second lab of this machine, beside the one of this session."""
    before = labs()
    assert lab.places.directory in before
    shown = demo("--keep")
    shown.read_until("Every step went as expected.")
    shown.read_until("The lab runs")
    told = json.loads((clone / ".lab" / "lab.json").read_text())
    for name in ("supervisor", "policyd", "saslauthd", "milter"):
        assert Path(f"/proc/{told['pids'][name]}/cwd").resolve() == clone
    with smtplib.SMTP(*told["mx"].split(":")) as smtp:
        assert smtp.ehlo()[0] == 250
    assert announced(lab)["submission"] == lab.submission
    assert shown.end() == 0
    assert "NOT as expected" not in shown.said
    assert is_gone(shown, before)


# How far the set-up has come when the signal arrives: seconds, or a file that is there.
MOMENTS = [
    "0.0",
    "0.3",
    "0.8",
    "postfix/tls/printer.crt",
    "sink/port",
    "postfix/main.cf",
    "run/milter.pid",
    "opendkim.pid",
]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_the_set_up_leaves_nothing(
    demo: Callable[..., Demo], moment: str, number: signal.Signals
) -> None:
    before = labs()
    shown = demo()
    shown.read_until("Setting up")
    _reach(moment, before)
    status = shown.end(number)
    assert status in (143, -signal.SIGTERM), shown.said
    assert "Traceback" not in shown.said
    assert is_gone(shown, before)


def _reach(moment: str, before: set[Path]) -> None:
    if re.fullmatch(r"\d\.\d", moment):
        time.sleep(float(moment))
        return
    deadline = time.monotonic() + 30
    while not any((directory / moment).exists() for directory in labs() - before):
        assert time.monotonic() < deadline, moment
        time.sleep(0.005)


@pytest.mark.parametrize("words", ["[1]", "[2]", "[8] policyd"])
def test_a_signal_in_the_middle_of_the_story_leaves_nothing(demo: Callable[..., Demo], words: str) -> None:
    before = labs()
    shown = demo()
    shown.read_until(words)
    assert shown.end() == 143, shown.said
    assert is_gone(shown, before)


def test_a_lab_that_was_killed_is_cleared_away_by_the_next(demo: Callable[..., Demo], clone: Path) -> None:
    before = labs()
    killed = demo("--keep")
    killed.read_until("[1]")
    killed.end(signal.SIGKILL)
    (abandoned,) = labs() - before
    assert members(abandoned)
    assert (clone / ".lab" / "lab.json").exists()
    second = demo("--keep")
    second.read_until("[1]")
    assert not abandoned.exists()
    assert not members(abandoned)
    assert (clone / ".lab" / "directory").resolve() in labs() - before
    assert second.end() == 143
    assert is_gone(second, before)


def test_a_port_in_use_is_said_before_anything_is_started(demo: Callable[..., Demo], clone: Path) -> None:
    before = labs()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        base = free_port_base(50000)
        taken.bind(("127.0.0.1", base + 465))
        taken.listen()
        shown = demo("--port-base", str(base))
        assert shown.wait() == 2
    assert f"in use: 127.0.0.1:{base + 465}" in shown.said
    assert "--port-base" in shown.said
    assert labs() == before
    assert not (clone / ".lab").exists()


def test_two_runs_of_the_tests_at_once_get_ports_of_their_own() -> None:
    ask = (
        "from tests.postfix.conftest import free_port_base; print(free_port_base(30000), flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", ask], cwd=CLONE, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        theirs = int(other.stdout.readline())
        mine = free_port_base(30000)
        other.communicate(b"\n", timeout=60)
    assert mine != theirs


@pytest.mark.parametrize("base", ["0", "65000", "x"])
def test_a_port_base_that_cannot_be_is_refused(demo: Callable[..., Demo], base: str) -> None:
    shown = demo("--port-base", base)
    assert shown.wait() == 2


def test_every_process_of_a_lab_is_known_as_its(lab: Lab) -> None:
    assert {*lab.describe()["pids"].values()} <= set(lab.processes())
    assert MARK not in os.environ


def test_the_commands_shown_for_a_kept_lab_can_be_pasted(lab: Lab) -> None:
    commands = [shlex.split(line) for line in how_to_talk(lab).splitlines() if " --" in line]
    (swaks,) = (words for words in commands if words[0] == "swaks")
    assert swaks[swaks.index("--auth-password") + 1] == lab.logins["alice"]
    assert swaks[swaks.index("--server") + 1] == lab.submission
    assert Path(swaks[swaks.index("--tls-ca-path") + 1]).is_file()
    (quota,) = (words for words in commands if words[0] == ".venv/bin/python")
    shown = subprocess.run([sys.executable, *quota[1:]], capture_output=True, text=True, cwd=CLONE)
    assert shown.returncode == 0
    assert "recipients" in shown.stdout


def _system() -> dict[str, tuple[int, bytes]]:
    """What of this machine must stay as it is: Postfix's own configuration, and who may start services."""
    paths = [Path("/usr/sbin/policy-rc.d"), *Path("/etc/postfix").rglob("*")]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths if path.is_file()}


def test_a_postfix_that_is_already_there_stays_byte_equal(demo: Callable[..., Demo]) -> None:
    before = _system()
    subprocess.run([CLONE / "script" / "bootstrap"], check=True, stdin=subprocess.DEVNULL, timeout=300)
    shown = demo()
    shown.read_until("[1]")
    assert shown.end() == 143
    assert _system() == before
