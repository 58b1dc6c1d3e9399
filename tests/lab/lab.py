"""The lab: a Postfix of its own on loopback, OpenDKIM, the three sidecars, and a mailbox host that keeps the
mail.

Knows the order in which things start and end, and what lab.json tells. Must not know the story that is told
in it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tests.lab import files
from tests.lab.announcement import Announcement
from tests.lab.processes import Child, LabError, answers, connects, is_free, members, tail, wait_for
from tests.lab.remains import CLONE, PREFIX, clear_stale, environment, hold, remove, undisturbed

PORTS = {"submission": 587, "submissions": 465, "smtp": 25}
SIDECARS = ("policyd", "saslauthd", "milter")
_PROGRAMS = {"postfix": "postfix", "opendkim": "opendkim", "openssl": "openssl"}


class Lab:
    """One lab. ``with Lab() as lab:`` starts and ends it; `announce` is where lab.json and the link go."""

    def __init__(self, *, port_base: int = 10000, announce: Path = CLONE / ".lab") -> None:
        self.services = {name: f"127.0.0.1:{port_base + port}" for name, port in PORTS.items()}
        self.submission, self.submissions, self.mx = self.services.values()
        self.places = files.Places(Path("/var/tmp") / f"{PREFIX}{secrets.token_hex(3)}")
        self.announcement = Announcement(announce, self.places.directory)
        self.logins = files.make_logins()
        self._children: dict[str, Child] = {}
        self._pids: dict[str, int] = {}
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="pids", daemon=True)
        self._lock: TextIO | None = None

    # ---- life

    def __enter__(self) -> Lab:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make everything and start everything; returns when mail can be sent. LabError says what is in the
        way."""
        self._check()
        self.places.directory.mkdir()
        self._lock = hold(self.places.directory)
        files.make_directories(self.places)
        files.make_keys(self.places)
        files.write_directory(self.places, self.logins)
        files.write_settings(self.places)
        sink = self._start_sink()
        files.write_postfix(self.places, self.services, sink)
        self.submitward("export", "postfix", "--directory", str(self.places.postfix / "submitward"))
        self.start_sidecars()
        self._start_opendkim()
        self._start_postfix()
        files.hand_over(*self.places.tls.iterdir())
        self._note_pids()
        self.announcement.make(self.describe())
        self._watcher.start()

    def stop(self) -> None:
        """End everything, remove the directory, and withdraw lab.json. Signals wait until it is done."""
        with undisturbed():
            self._ended.set()
            if self._watcher.ident is not None:
                self._watcher.join()
            self.announcement.withdraw()
            if self.places.directory.exists():
                self._stop_postfix()
                for name in ("opendkim", "supervisor", "sink"):
                    self._stop_child(name)
                remove(self.places.directory)
            if self._lock is not None:
                self._lock.close()

    def _check(self) -> None:
        if os.geteuid() != 0:
            raise LabError("Postfix's master needs root: run script/demo, which uses sudo")
        clear_stale()
        missing = [package for program, package in _PROGRAMS.items() if not shutil.which(program)]
        if missing:
            raise LabError(f"missing: {', '.join(missing)}. Install: apt-get install {' '.join(missing)}")
        taken = [address for address in self.services.values() if not is_free(*_pair(address))]
        if taken:
            raise LabError(
                f"in use: {', '.join(taken)}. Stop what listens there, or choose other ports with --port-base"
            )

    # ---- the parts

    def _child(self, name: str, command: list[str]) -> Child:
        child = Child(
            name,
            command,
            log=self.places.log / name,
            directory=self.places.directory,
            cwd=CLONE,
            environ=environment(),
        )
        self._children[name] = child
        return child

    def _stop_child(self, name: str) -> None:
        if child := self._children.pop(name, None):
            child.stop()

    def _start_sink(self) -> str:
        child = self._child("sink", [sys.executable, "-m", "tests.lab.sink", str(self.places.sink)])
        port = self.places.sink / "port"
        wait_for("the sink listens", port.exists, child=child)
        return f"127.0.0.1:{port.read_text()}"

    def start_sidecars(self) -> None:
        """Start `submitward serve all` and wait until its three sockets answer."""
        command = ["-m", "submitward", "--settings", str(self.places.settings), "serve", "all"]
        child = self._child("supervisor", [sys.executable, *command, "--pid-directory", str(self.places.run)])
        for name in ("policy", "auth", "milter"):
            path = self.places.socket(name)
            wait_for(f"{path} answers", lambda path=path: connects(path), child=child)
        wait_for("the sidecars write their pids", lambda: len(self._sidecar_pids()) == 3, child=child)

    def stop_sidecars(self) -> None:
        """SIGTERM for the supervisor, which ends all three; their sockets are gone after it."""
        self._stop_child("supervisor")

    def _start_opendkim(self) -> None:
        child = self._child("opendkim", ["opendkim", "-f", "-x", str(self.places.postfix / "opendkim.conf")])
        path = self.places.socket("opendkim")
        wait_for(f"{path} answers", lambda: connects(path), child=child)

    def _start_postfix(self) -> None:
        self.postfix("start")
        for address in self.services.values():
            wait_for(f"Postfix listens on {address}", lambda address=address: answers(*_pair(address)))

    def _stop_postfix(self) -> None:
        if (self.places.queue / "pid" / "master.pid").exists():
            self.postfix("stop", check=False)

    def postfix(self, verb: str, *, check: bool = True) -> None:
        """``postfix -c DIRECTORY verb`` on the lab's instance."""
        log = self.places.log / "postfix-commands"
        with log.open("ab") as output:
            done = subprocess.run(
                ["postfix", "-c", str(self.places.postfix), verb],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environment(), "SUBMITWARD_LAB": str(self.places.directory)},
                start_new_session=True,
                check=False,
            )
        if check and done.returncode:
            raise LabError(f"postfix {verb} failed:\n{tail(log)}\n{tail(self.places.log / 'postfix')}")

    # ---- what a story does with it

    def submitward(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the operator's command on the lab's settings."""
        done = subprocess.run(
            [sys.executable, "-m", "submitward", "--settings", str(self.places.settings), *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=CLONE,
            env={**environment(), "SUBMITWARD_LAB": str(self.places.directory)},
            check=False,
        )
        if check and done.returncode:
            raise LabError(
                f"submitward {' '.join(arguments)} exits {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def pid(self, name: str) -> int:
        """The process now running as policyd, saslauthd, milter, supervisor or opendkim."""
        return {**self._pids, **self._child_pids(), **self._sidecar_pids()}[name]

    def wait_pid(self, name: str, old: int, seconds: float = 30) -> bool:
        """Wait until `name` runs again under another pid than `old`; whether it does."""
        deadline = time.monotonic() + seconds
        while (back := self.pid(name) != old) is False and time.monotonic() < deadline:
            time.sleep(0.05)
        return back

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a process of the lab; returns its pid."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def processes(self) -> list[int]:
        """Every process of this lab."""
        return members(self.places.directory)

    def received(self, token: str) -> list[bytes]:
        """The messages in the sink that hold `token`, oldest first, each with its two envelope lines."""
        new = self.places.sink / "new"
        messages = (path.read_bytes() for path in sorted(new.iterdir()))
        return [message for message in messages if token.encode() in message]

    def wait_received(self, token: str, count: int, seconds: float = 30) -> list[bytes]:
        """What `received` gives as soon as there are `count`; what there is when the time is over."""
        deadline = time.monotonic() + seconds
        while len(found := self.received(token)) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def log(self, name: str) -> str:
        """The text of a log: postfix, supervisor, opendkim or sink."""
        return (self.places.log / name).read_text(errors="replace")

    # ---- lab.json

    def describe(self) -> dict[str, Any]:
        """What lab.json holds."""
        places = self.places
        return {
            "submission": self.submission,
            "submissions": self.submissions,
            "mx": self.mx,
            "logins": self.logins,
            "application_host": files.APPLICATION_HOST,
            "client_certificate": str(places.tls / "printer.crt"),
            "client_key": str(places.tls / "printer.key"),
            "ca": str(places.tls / "ca.crt"),
            "sink": str(places.sink),
            "dns": str(places.dns),
            **{
                f"{name}_socket": str(places.socket(name))
                for name in ("policy", "auth", "milter", "opendkim")
            },
            "postfix": str(places.postfix),
            "settings": str(places.settings),
            "ledger": str(places.ledger),
            "pids": self._pids,
        }

    def _child_pids(self) -> dict[str, int]:
        return {
            name: child.pid for name, child in self._children.items() if name in ("supervisor", "opendkim")
        }

    def _sidecar_pids(self) -> dict[str, int]:
        pids = {}
        for name in SIDECARS:
            try:
                pids[name] = int((self.places.run / f"{name}.pid").read_text())
            except (FileNotFoundError, ValueError):
                continue
        return pids

    def _note_pids(self) -> bool:
        """Look at the pids again; whether any has changed."""
        now = {**self._pids, **self._child_pids(), **self._sidecar_pids()}
        order = ("supervisor", *SIDECARS, "opendkim")
        before, self._pids = self._pids, {name: now[name] for name in order if name in now}
        return before != self._pids

    def _watch(self) -> None:
        """Keep the pids in lab.json true when a sidecar is restarted."""
        while not self._ended.wait(0.2):
            if self._note_pids():
                self.announcement.update(self.describe())


def _pair(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
