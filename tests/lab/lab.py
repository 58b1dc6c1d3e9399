"""The lab: Postfix on loopback, OpenDKIM, the three sidecars, and a mailbox host that keeps the mail.

Knows the order in which things start and end, and what lab.json tells. Must not know the story told in it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tests.lab import files
from tests.lab.announcement import Announcement
from tests.lab.processes import LabError, is_free, members
from tests.lab.remains import CLONE, PREFIX, ROOM, clear_stale, environment, hold, remove, undisturbed
from tests.lab.running import Running, split_address

PORTS = {"submission": 587, "submissions": 465, "smtp": 25}
_PROGRAMS = {"postfix": "postfix", "opendkim": "opendkim", "openssl": "openssl"}


class Lab:
    """One lab. ``with Lab() as lab:`` starts and ends it; `announce` is where lab.json and the link go."""

    def __init__(
        self, *, port_base: int = 10000, announce: Path = CLONE / ".lab", directory: str = "file"
    ) -> None:
        self.directory = directory
        self.services = {name: f"127.0.0.1:{port_base + port}" for name, port in PORTS.items()}
        self.submission, self.submissions, self.mx = self.services.values()
        self.places = files.Places(ROOM / f"{PREFIX}{secrets.token_hex(3)}")
        self.announcement = Announcement(announce, self.places.directory)
        self.logins = files.make_logins()
        self.running = Running(self.places, self.logins["bob"])
        self.slapd: Any = None  # the directory, when it is LDAP
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
        """Make and start everything; returns when mail can be sent. LabError says what is in the way."""
        self._check()
        self.places.directory.mkdir()
        self._lock = hold(self.places.directory)
        files.make_directories(self.places)
        files.make_keys(self.places)
        self._make_directory()
        sink = self.running.start_sink()
        files.write_postfix(self.places, self.services, sink)
        self.submitward("export", "postfix", "--directory", str(self.places.postfix / "submitward"))
        self.running.start_sidecars()
        self.running.start_opendkim()
        self.running.start_postfix(self.services.values())
        files.hand_over(*self.places.tls.iterdir())
        self._note_pids()
        self.announcement.make(self.describe())
        self._watcher.start()

    def _make_directory(self) -> None:
        """The principals: a YAML file, or a slapd of the lab's own."""
        if self.directory == "file":
            files.write_directory(self.places, self.logins)
            files.write_settings(self.places)
            return
        from tests.lab.ldap import Slapd

        self.slapd = Slapd(self.places)
        files.write_settings(self.places, self.slapd.make(self.logins))
        self.start_slapd()

    def stop(self) -> None:
        """End everything, remove the directory, and withdraw lab.json. Signals wait until it is done."""
        with undisturbed():
            self._ended.set()
            if self._watcher.ident is not None:
                self._watcher.join()
            self.announcement.withdraw()
            if self.places.directory.exists():
                self.running.stop()
                remove(self.places.directory)
            if self._lock is not None:
                self._lock.close()

    def _check(self) -> None:
        if os.geteuid() != 0:
            raise LabError("Postfix's master needs root: run script/demo, which uses sudo")
        clear_stale()
        programs = {**_PROGRAMS, **({"slapd": "slapd"} if self.directory == "ldap" else {})}
        missing = [
            package
            for program, package in programs.items()
            if not shutil.which(program, path=environment()["PATH"])
        ]
        if missing:
            raise LabError(f"missing: {', '.join(missing)}. Install: apt-get install {' '.join(missing)}")
        taken = [address for address in self.services.values() if not is_free(*split_address(address))]
        if taken:
            raise LabError(
                f"in use: {', '.join(taken)}. Stop what listens there, or choose other ports with --port-base"
            )

    # ---- what a story does with it

    def submitward(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the operator's command on the lab's settings; LabError when `check` and it does not exit 0."""
        done = self.running.submitward(*arguments)
        if check and done.returncode:
            said = f"{done.stdout}{done.stderr}"
            raise LabError(f"submitward {' '.join(arguments)} exits {done.returncode}:\n{said}")
        return done

    def start_sidecars(self) -> None:
        """Start all three again after `stop_sidecars`."""
        self.running.start_sidecars()

    def stop_sidecars(self) -> None:
        """End all three; their sockets are gone after it."""
        self.running.stop_sidecars()

    def start_slapd(self) -> None:
        """Start the directory; returns when it listens."""
        self.running.start_slapd(self.slapd.command, self.slapd.plain_port)

    def stop_slapd(self) -> None:
        """End the directory."""
        self.running.stop_slapd()

    def pid(self, name: str) -> int:
        """The process now running as policyd, saslauthd, milter, supervisor, opendkim or slapd."""
        return {**self._pids, **self.running.pids()}[name]

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

    def _note_pids(self) -> bool:
        """Look at the pids again; whether any has changed. What is just being started keeps its old one."""
        before, self._pids = self._pids, {**self._pids, **self.running.pids()}
        return before != self._pids

    def _watch(self) -> None:
        """Keep the pids in lab.json true when a sidecar is restarted."""
        while not self._ended.wait(0.2):
            if self._note_pids():
                self.announcement.update(self.describe())
