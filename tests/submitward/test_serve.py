"""`submitward serve` with the real sidecars: sockets, signals, and what an operator reads when it cannot."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sidecar.conftest import ROOT, connect, wait_until

SETTINGS = """
version: 1
mta: mx1.example.org
listen:
  policy: ["unix:DIR/policy"]
  auth: ["unix:DIR/auth"]
  milter: ["unix:DIR/milter"]
directory: {file: {path: DIR/directory.yaml}}
ledger: {sqlite: {path: DIR/ledger.sqlite}}
log: {format: json}
"""
REQUEST = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nsender=a@example.org\nrecipient=b@example.net\n\n"
)


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    (path / "directory.yaml").write_text("logins: {}\n")
    (path / "settings.yaml").write_text(SETTINGS.replace("DIR", str(path)))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def serve(directory) -> Iterator:
    started: list[subprocess.Popen] = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [
            sys.executable,
            "-m",
            "submitward",
            "--settings",
            str(directory / "settings.yaml"),
            "serve",
        ]
        with (directory / "log").open("ab") as log:
            started.append(subprocess.Popen([*command, *arguments], stderr=log, cwd=ROOT))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def said(directory: Path, **fields: object) -> int:
    entries = [json.loads(line) for line in (directory / "log").read_text().splitlines()]
    return sum(all(entry.get(name) == value for name, value in fields.items()) for entry in entries)


def ask_policy(directory: Path) -> bytes:
    with connect(str(directory / "policy")) as connection:
        connection.sendall(REQUEST)
        return connection.makefile("rb").readline()


def greeting(directory: Path) -> bytes:
    with connect(str(directory / "auth")) as connection:
        return connection.makefile("rb").readline()


def test_all_three_answer_behind_one_supervisor_and_come_back(directory, serve):
    process = serve("all", "--pid-directory", str(directory))
    wait_until(lambda: (directory / "milter.pid").exists())
    assert ask_policy(directory).startswith(b"action=")
    assert greeting(directory).startswith((b"VERSION\t", b"MECH\t"))
    connect(str(directory / "milter")).close()
    for sidecar in ("policyd", "saslauthd", "milter"):
        pid = int((directory / f"{sidecar}.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda s=sidecar, p=pid: int((directory / f"{s}.pid").read_text()) != p)
    assert ask_policy(directory).startswith(b"action=")
    assert greeting(directory).startswith((b"VERSION\t", b"MECH\t"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    left = sorted(path.name for path in directory.iterdir() if not path.name.startswith("ledger"))
    assert left == ["directory.yaml", "log", "settings.yaml"]


def test_a_reload_with_wrong_settings_changes_nothing_in_any_of_them(directory, serve):
    process = serve("all")
    wait_until(lambda: (directory / "log").exists() and said(directory, event="start") == 3)
    (directory / "settings.yaml").write_text("version: 1\nnonsense: 1\n")
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: said(directory, event="config_reload_failed") == 3)
    assert ask_policy(directory).startswith(b"action=")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("sidecar", "name"), [("policyd", "policy"), ("saslauthd", "auth"), ("milter", "milter")]
)
def test_one_sidecar_serves_in_this_very_process(directory, serve, sidecar, name):
    process = serve(sidecar)
    wait_until(lambda: (directory / "log").exists() and said(directory, event="start", program=sidecar))
    connect(str(directory / name)).close()
    assert not (directory / ("auth" if name != "auth" else "policy")).exists()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not (directory / name).exists()


@pytest.mark.parametrize(
    "command",
    [
        ["policyd"],
        ["saslauthd"],
        ["milter"],
        *(["submitward", "serve", name] for name in ("policyd", "saslauthd", "milter", "all")),
    ],
    ids=" ".join,
)
def test_sigterm_while_it_imports_ends_it_with_0(directory, command):
    """An import that takes long stands for all of them."""
    (directory / "slow" / "yaml").mkdir(parents=True)
    slow = f"import pathlib, time\npathlib.Path({str(directory / 'importing')!r}).touch()\ntime.sleep(30)\n"
    (directory / "slow" / "yaml" / "__init__.py").write_text(slow)
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--settings", str(directory / "settings.yaml")],
        env={**os.environ, "PYTHONPATH": str(directory / "slow")},
        cwd=ROOT,
    )
    try:
        wait_until((directory / "importing").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not (directory / "policy").exists()
    finally:
        process.kill()
        process.wait()


def test_a_sidecar_without_listeners_is_not_started(directory, serve):
    text = (directory / "settings.yaml").read_text().replace(f'  milter: ["unix:{directory}/milter"]\n', "")
    (directory / "settings.yaml").write_text(text)
    process = serve("all")
    wait_until(lambda: (directory / "log").exists() and said(directory, event="start") == 2)
    assert said(directory, event="started", sidecar="milter") == 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "submitward", "serve", "--settings", str(directory / "settings.yaml")]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )


def test_without_any_listener_there_is_nothing_to_serve(directory):
    (directory / "settings.yaml").write_text("version: 1\n")
    result = run(directory, "all")
    assert (result.returncode, result.stderr) == (
        2,
        f"{directory}/settings.yaml: listen: nothing to serve; give policy, auth or milter a listener\n",
    )


def test_a_socket_that_is_served_already_stops_the_start_and_leaves_the_others_unbound(directory):
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(directory / "auth"))
        live.listen()
        result = run(directory, "all")
    assert result.returncode == 1
    assert "another process listens there; stop it first" in result.stderr
    assert not (directory / "policy").exists()
    assert (directory / "auth").exists()


def test_a_pid_directory_goes_with_all_only(directory):
    assert run(directory, "policyd", "--pid-directory", "/tmp").returncode == 2


def test_an_unknown_sidecar_is_a_usage_error(directory):
    assert run(directory, "postfix").returncode == 2
