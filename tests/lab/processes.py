"""The lab's processes: started in sessions of their own, waited for, and ended to the last one.

Knows processes, ports and UNIX sockets of one lab directory. Must not know what runs in them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

#: Every process of a lab carries its directory under this name, so that none can be overlooked.
MARK = "SUBMITWARD_LAB"
_POSTFIX = "/usr/lib/postfix/"


class LabError(RuntimeError):
    """The lab cannot do what was asked; the text says why and what to do."""


class Child:
    """One process of the lab, its output going to a log."""

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        log: Path,
        directory: Path,
        cwd: Path,
        environ: Mapping[str, str],
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env={**environ, MARK: str(directory)},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self, seconds: float = 10) -> None:
        """SIGTERM, and SIGKILL to its whole session when it has not ended in time."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()

    def tail(self, lines: int = 20) -> str:
        return tail(self.log, lines)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, or a word that there are none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) or "(the log is empty)"
    except FileNotFoundError:
        return "(there is no log)"


def wait_for(
    what: str, ready: Callable[[], bool], *, child: Child | None = None, seconds: float = 30
) -> None:
    """Wait until `ready()`; LabError with the tail of the child's log when it ends or the time is over."""
    deadline = time.monotonic() + seconds
    while not ready():
        ended = child is not None and child.process.poll() is not None
        if ended or time.monotonic() > deadline:
            how = f"{child.name} ended" if ended and child else f"not within {seconds:g} s"
            said = f"; its log ends:\n{child.tail()}" if child else ""
            raise LabError(f"{what}: {how}{said}")
        time.sleep(0.05)


def connects(path: Path) -> bool:
    """Whether somebody listens on this UNIX socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def answers(host: str, port: int) -> bool:
    """Whether somebody listens on this port."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def members(directory: Path) -> list[int]:
    """The processes that belong to the lab in `directory`, this one excepted."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _belongs(entry, directory):
            found.append(int(entry.name))
    return found


def _belongs(entry: Path, directory: Path) -> bool:
    """Marked by us, or of a Postfix on the lab's configuration, which cleans its environment."""
    try:
        variables = (entry / "environ").read_bytes().split(b"\0")
        if f"{MARK}={directory}".encode() in variables:
            return True
        program = os.readlink(entry / "exe")
    except OSError:
        return False
    # A person's shell may have MAIL_CONFIG too: a daemon is known by its program, postfix-script by what
    # it is given.
    daemon = program.startswith(_POSTFIX) or any(word.startswith(b"daemon_directory=") for word in variables)
    return daemon and f"MAIL_CONFIG={directory}/postfix".encode() in variables


def sweep(directory: Path, seconds: float = 5) -> list[int]:
    """End whatever is left of the lab in `directory`; returns the processes that had to be killed."""
    killed = []
    deadline = time.monotonic() + seconds
    while left := members(directory):
        if time.monotonic() > deadline:
            raise LabError(f"these processes of {directory} do not end: {left}")
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed += left
        time.sleep(0.05)
    return killed
