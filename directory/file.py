"""The directory in a file: read, followed while it changes, and asked.

Knows when the file is another one, that a broken file never replaces a good one, and that a password is
judged in a thread. Must not know how an entry is written.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from directory.drafts import Reading
from directory.entries import read
from directory.identity import (
    BadLogin,
    Credentials,
    Denied,
    Directory,
    Principal,
    Question,
    Unavailable,
    Verified,
    normal_login,
)
from directory.passwords import Unjudged, dummy_hash, is_acceptable, matches
from directory.roll import Roll
from sidecar.problems import Problem, SettingsError

POLL = 0.5  # seconds between two looks at the file
LARGE = 64_000  # octets over which a file is read in a thread: about 25 ms of work
LARGE_AT_START, LARGEST = 8 * LARGE, 1 << 28  # a million logins fit
WORKERS = 2  # threads that judge passwords, per process
SHOWN = 20  # mistakes of one broken file that are logged
WAITING_MAX = 64  # passwords that wait or are being judged; over it the answer is Unavailable

#: What tells one state of a file from another.
Signature = tuple[int, int, int, int, int]


def read_file(path: Path, reading: Reading) -> Roll:
    """The roll in the file at `path`. Raises SettingsError, also for a file that cannot be read."""
    return _read(path, reading)[0]


def _read(path: Path, reading: Reading) -> tuple[Roll, Signature]:
    try:
        with open(path, "rb") as file:
            # Before it is read, so that what is written meanwhile is seen as another state.
            signature = _signature(os.fstat(file.fileno()))
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise SettingsError([Problem(str(path), 0, 0, "", f"is larger than {LARGEST} octets")])
        text = content.decode("utf-8-sig")
    except OSError as wrong:
        raise SettingsError([Problem(str(path), 0, 0, "", f"cannot be read: {wrong.strerror}")]) from None
    except UnicodeDecodeError as wrong:
        line = content.count(b"\n", 0, wrong.start) + 1
        raise SettingsError([Problem(str(path), line, 1, "", "is not UTF-8 here")]) from None
    return read(text, str(path), reading), signature


def _signature(status: os.stat_result) -> Signature:
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)


class FileDirectory(Directory):
    """A directory.identity.Directory whose entries stand in one YAML file."""

    def __init__(self, path: Path, reading: Reading, *, reactor: Any, log: Any) -> None:
        self._path = path
        self._reading = reading
        self._reactor = reactor
        self._log = log
        self._roll: Roll | None = None
        self._dummy = dummy_hash(())
        self._good = False
        self._loaded: Signature | str | None = None  # what was read last, whether it was good or not
        self._seen: Signature | str | None = None
        self._busy = False
        self._call: Any = None
        self._waiting = 0
        self._judges = _threads(WORKERS, "directory-passwords")
        self._readers = _threads(1, "directory-file")
        self._stopped = False
        self._awaiting: list[Deferred[None]] = []

    def start(self) -> None:
        """Read the file and follow it. A broken or missing one is logged, not raised."""
        self._judges.start()
        self._readers.start()
        self._seen = self._look()
        self._reload(self._seen, LARGE_AT_START)
        self._call = self._reactor.callLater(POLL, self._poll)

    def stop(self) -> None:
        """Let the file and the threads go; waits for the passwords that are being judged."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        if self._stopped:
            return
        self._stopped = True
        self._judges.stop()
        if not self._busy:  # a huge file may take longer than we have
            self._readers.stop()
        self._wake()

    def state(self) -> str:
        """``ok``, ``stale`` (the file is broken, the last good one answers) or ``unavailable``."""
        if self._roll is None:
            return "unavailable"
        return "ok" if self._good else "stale"

    def look_up(self, question: Question) -> Principal | Deferred[Principal | None] | None:
        """The principal, or None, at once; later only while a large file is read for the first time.

        Raises Unavailable when no good file was read.
        """
        if self._roll is None and self._busy:
            return self._first_reading().addCallback(lambda _: self._known().look_up(question))
        return self._known().look_up(question)

    def principals(self) -> Deferred[tuple[Principal, ...]]:
        """Every listed principal; fails with Unavailable."""
        return self._first_reading().addCallback(lambda _: self._known().principals)

    def verify(self, credentials: Credentials) -> Deferred[Verified | Denied]:
        """Judge a credential in a thread; fails with Unavailable when too many wait or there is no file."""
        return self._first_reading().addCallback(lambda _: self._judge(self._known(), credentials))

    def _known(self) -> Roll:
        if self._roll is None:
            raise Unavailable(f"no good directory was read from {self._path} yet")
        return self._roll

    def _first_reading(self) -> Deferred[None]:
        """Fires when there is something to answer from, or nothing is on its way."""
        if self._roll is not None or not self._busy:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._awaiting.append(waiting)
        return waiting

    def _wake(self) -> None:
        awaiting, self._awaiting = self._awaiting, []
        for waiting in awaiting:
            if not waiting.called:  # else given up by who asked
                waiting.callback(None)

    def _judge(self, roll: Roll, credentials: Credentials) -> Deferred[Verified | Denied]:
        if self._stopped:
            raise Unavailable("this process is ending")
        if self._waiting >= WAITING_MAX:
            raise Unavailable(f"{self._waiting} passwords are waiting to be judged")
        try:
            principal = roll.logins.get(normal_login(credentials.login))
        except BadLogin:
            principal = None
        encoded = roll.hashes.get(principal.name) if principal is not None else None
        if not is_acceptable(credentials.password):
            return succeed(_outcome(principal, False))
        judged: Deferred[bool] = Deferred()
        self._waiting += 1
        hashed, password = encoded or self._dummy, credentials.password
        self._judges.callInThreadWithCallback(
            lambda _, result: self._reactor.callFromThread(self._judged, judged, result),
            lambda: not judged.called and matches(hashed, password),  # not for who gave up meanwhile
        )
        # Without a hash of its own an entry has no right password, whatever the dummy says.
        return judged.addCallback(lambda right: _outcome(principal, right and encoded is not None))

    def _judged(self, judged: Deferred[bool], result: bool | Failure) -> None:
        self._waiting -= 1  # only now, also for who gave up: the thread was busy until now
        if isinstance(result, Failure) and isinstance(result.value, Unjudged) and not judged.called:
            judged.errback(Unavailable(f"a password could not be judged: {result.value}"))
        elif not judged.called:
            judged.callback(result)

    def _look(self) -> Signature | str:
        try:
            return _signature(os.stat(self._path))
        except OSError as wrong:
            return f"cannot be read: {wrong.strerror}"

    def _poll(self) -> None:
        self._call = self._reactor.callLater(POLL, self._poll)
        seen, before = self._look(), self._seen
        self._seen = seen
        # Left alone until it rests: half of a file may well be valid YAML that lacks half of the logins.
        if seen != self._loaded and seen == before and not self._busy:
            self._reload(seen, LARGE)

    def _reload(self, seen: Signature | str, large: int) -> None:
        self._loaded = seen
        if not isinstance(seen, str) and seen[2] > large:
            self._busy = True
            reading = deferToThreadPool(self._reactor, self._readers, self._attempt)
            reading.addCallback(self._take)
            reading.addErrback(self._fault)
            reading.addBoth(lambda _: self._wake())
        else:
            self._take(self._attempt())

    def _attempt(self) -> tuple[Roll, Signature, str] | SettingsError:
        """Read the file; runs in a thread when it is large, so it changes nothing of ours."""
        try:
            roll, signature = _read(self._path, self._reading)
        except SettingsError as wrong:
            return wrong
        return roll, signature, dummy_hash(roll.hashes.values())

    def _take(self, result: tuple[Roll, Signature, str] | SettingsError) -> None:
        self._busy = False
        if isinstance(result, SettingsError):
            self._good = False
            kept = "last good" if self._roll is not None else "none"
            said = {"file": self._path, "problems": len(result.problems), "kept": kept}
            for problem in result.problems[:SHOWN]:
                self._log.error("directory_broken", problem=problem, **said)
            return
        self._roll, self._loaded, self._dummy = result
        self._good = True
        self._log.notice("directory_read", file=self._path, principals=len(self._roll.principals))

    def _fault(self, failure: Failure) -> None:
        self._busy = False
        self._good = False
        self._log.error("directory_fault", file=self._path, traceback=failure.getTraceback())


def _threads(count: int, name: str) -> ThreadPool:
    pool: Any = ThreadPool(0, count, name)
    # A process that ends without stop() must not wait for them.
    pool.threadFactory = partial(Thread, daemon=True)
    return cast(ThreadPool, pool)


def _outcome(principal: Principal | None, right: bool) -> Verified | Denied:
    if principal is None:
        return Denied("unknown_login")
    if not right:
        return Denied("wrong_password")
    return Denied("disabled") if principal.disabled else Verified(principal.name)
