"""The supervisor behind `serve all`: holds the sockets, starts the sidecars, starts them again.

Knows processes, signals and inherited sockets (sd_listen_fds(3)); it is one thread that waits. Must not know
Twisted, nor what the sidecars do.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from sidecar import ending
from sidecar.inheritance import FIRST
from sidecar.listen import Held
from sidecar.log import Level, Log
from sidecar.notify import Notifier

FIRST_PAUSE = 1.0  # seconds before a sidecar that ended is started again; doubles
LONGEST_PAUSE = 30.0
SETTLED = 60.0  # seconds of running after which the pause is short again
STOP = 6.0  # seconds from SIGTERM to SIGKILL; a sidecar ends by itself within 5
PR_SET_PDEATHSIG = 1  # prctl(2)

_WATCHED = (signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
_OURS = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_libc = ctypes.CDLL(None)
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


@dataclass
class Child:
    """One sidecar: what it is called, how it is started, which sockets it gets under which name."""

    name: str
    arguments: tuple[str, ...]
    socket_name: str
    held: Sequence[Held]
    pid: int = 0
    started: float = 0.0
    pause: float = FIRST_PAUSE
    due: float | None = field(default=0.0)  # when to start it; None while it runs

    def ended(self, now: float) -> None:
        """Plan the next start."""
        if now - self.started >= SETTLED:
            self.pause = FIRST_PAUSE
        self.pid, self.due = 0, now + self.pause
        self.pause = min(self.pause * 2, LONGEST_PAUSE)


class Supervisor:
    """Keeps children running until it is told to stop."""

    def __init__(self, children: Sequence[Child], log: Log, *, pid_directory: Path | None = None) -> None:
        self._children = children
        self._log = log
        self._pid_directory = pid_directory
        self._notifier = Notifier(os.environ)
        self._stopping = False

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; returns 0. The sockets stay open all the time."""
        # Blocked signals wait for sigtimedwait: nothing is lost, nothing interrupts.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        self._write_pid("supervisor", os.getpid())
        self._start_due(before)
        self._notifier.send(
            "READY=1", f"STATUS=supervises {', '.join(child.name for child in self._children)}"
        )
        while True:
            info = signal.sigtimedwait(_WATCHED, self._patience())
            number = info.si_signo if info else None
            if number in (signal.SIGTERM, signal.SIGINT):
                break
            if number == signal.SIGHUP:
                self._pass_on(signal.SIGHUP)
            self._reap()
            self._start_due(before)
            if self._notifier.watchdog:
                self._notifier.send("WATCHDOG=1")
        self._stop()
        return 0

    def _patience(self) -> float:
        now = time.monotonic()
        waits = [max(0.0, child.due - now) for child in self._children if child.due is not None]
        if self._notifier.watchdog:
            waits.append(self._notifier.watchdog / 2)
        return min(waits, default=3600.0)

    def _start_due(self, mask: set[signal.Signals | int]) -> None:
        for child in self._children:
            now = time.monotonic()
            if child.due is None or child.due > now:
                continue
            try:
                child.pid = spawn(child, os.environ, mask)
            except OSError as error:
                self._log.error("cannot_start", sidecar=child.name, text=error.strerror)
                child.started = now
                child.ended(now)
                continue
            child.started, child.due = now, None
            self._write_pid(child.name, child.pid)
            self._log.notice("started", sidecar=child.name, pid=child.pid)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in self._children:
                if child.pid == pid:
                    ran = time.monotonic() - child.started
                    child.ended(time.monotonic())
                    code = os.waitstatus_to_exitcode(status)
                    told = self._stopping or code in (0, -signal.SIGTERM)
                    level: Level = "notice" if told else "warning"
                    self._log.write(level, "ended", sidecar=child.name, pid=pid, status=code, ran=ran)

    def _pass_on(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, number)

    def _stop(self) -> None:
        self._stopping = True
        self._notifier.send("STOPPING=1")
        self._log.notice("stop")
        self._pass_on(signal.SIGTERM)
        deadline = time.monotonic() + STOP
        while any(child.pid for child in self._children):
            left = deadline - time.monotonic()
            info = signal.sigtimedwait(_WATCHED, max(0.0, left))
            if left <= 0 or (info and info.si_signo in (signal.SIGTERM, signal.SIGINT)):
                self._pass_on(signal.SIGKILL)
                deadline = time.monotonic() + STOP
            self._reap()
        for child in self._children:
            for held in child.held:
                held.release()
        self._remove_pids()

    def _write_pid(self, name: str, pid: int) -> None:
        """Atomically, for a reader must never see half a number."""
        if self._pid_directory is None:
            return
        path = self._pid_directory / f"{name}.pid"
        fresh = path.with_suffix(".pid.new")
        try:
            fresh.write_text(f"{pid}\n", encoding="ascii")
            fresh.replace(path)
        except OSError as error:
            self._log.warning("pid_file", path=str(path), text=error.strerror)

    def _remove_pids(self) -> None:
        if self._pid_directory is not None:
            for name in ("supervisor", *(child.name for child in self._children)):
                with contextlib.suppress(OSError):
                    (self._pid_directory / f"{name}.pid").unlink()


def spawn(child: Child, environ: Mapping[str, str], mask: set[signal.Signals | int]) -> int:
    """Start a child with its sockets as descriptors 3 and up; returns its pid. Raises OSError."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(child, environ, mask, parent)
    except OSError as error:
        os.write(2, f"<3>submitward: event=cannot_start sidecar={child.name} errno={error.errno}\n".encode())
    finally:
        os._exit(127)


def _become(
    child: Child, environ: Mapping[str, str], mask: set[signal.Signals | int], parent: int
) -> NoReturn:
    """The child's way from fork to exec."""
    # An orphan would hold the sockets, and nobody would start it again: it dies with the supervisor.
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(127)
    count = len(child.held)
    # Out of the way first: a socket may stand where another one has to go.
    high = [fcntl.fcntl(held.socket, fcntl.F_DUPFD_CLOEXEC, FIRST + count) for held in child.held]
    for index, descriptor in enumerate(high):
        os.dup2(descriptor, FIRST + index, inheritable=True)
    os.closerange(FIRST + count, 65536)
    env = {name: value for name, value in environ.items() if name not in _OURS}
    env |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count)}
    env["LISTEN_FDNAMES"] = ":".join([child.socket_name] * count)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    # These stay blocked until the child has handlers for them; their default would kill the child.
    signal.pthread_sigmask(signal.SIG_SETMASK, {*mask, *ending.SIGNALS, signal.SIGHUP})
    os.execve(sys.executable, [sys.executable, *child.arguments], env)  # noqa: S606  # no shell is the point
