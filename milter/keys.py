"""The signer's tables on disk: read when asked for, read again when they have changed.

Knows files and their signatures, and that a disk may take its time: `refresh` waits in a thread. Must not
know what the tables mean, nor read a key. Broken or unreadable tables are never replaced by what was known
before: the signer would not do so either.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from milter.questions import KeysUnknown
from milter.tables import TableError, Tables, parse_tables

LOOK_EVERY = 1.0  # seconds between two looks at the files
REPEAT = 60.0  # seconds after which trouble is said again
#: Seconds within which the signer is reloaded after a change. It reads its tables then and keeps them; on a
#: connection that began before it goes on with the older ones, and what these do not have leaves unsigned.
SETTLE = 60.0
VERSIONS = 8  # of the tables, kept for connections that last
TABLE_MAX = 8 << 20  # octets of one table

_Signature = tuple[tuple[int, int, int, int], ...]
_UNREADABLE = (OSError, UnicodeDecodeError, TableError)


class Keys:
    """The tables of two files. `clock` gives monotonic seconds; `look` blocks, `refresh` does not."""

    def __init__(self, key_table: Path, signing_table: Path, *, clock: Callable[[], float], log: Any) -> None:
        self._paths = (key_table, signing_table)
        self._clock = clock
        self._log = log
        self._looked = -LOOK_EVERY
        self._signature: _Signature | None = None
        self._tables: Tables | None = None
        self._versions: list[tuple[float, Tables]] = []
        self._trouble = "not read yet"
        self._said = -REPEAT
        self._waiting: list[Deferred[None]] = []

    @property
    def tables(self) -> Tables | KeysUnknown:
        """What was read last, or why it is not known."""
        if self._tables is None:
            self._say()
            return KeysUnknown(self._trouble)
        return self._tables

    def before(self, began: float) -> tuple[Tables, ...]:
        """The tables that the signer may have on a connection that began then (monotonic seconds): those that
        had been there for SETTLE, also when they were away for no longer than that."""
        ends = [*(since for since, _ in self._versions[1:]), math.inf]
        return tuple(
            tables
            for (since, tables), until in zip(self._versions, ends, strict=True)
            if since <= began - SETTLE < until + SETTLE
        )

    @property
    def version(self) -> object:
        """Tells one state of the files from another."""
        return self._signature

    @property
    def trouble(self) -> str:
        """What is wrong with the tables, ``""`` when nothing is."""
        return "" if self._tables is not None else self._trouble

    def look(self) -> None:
        """Read the tables if they have changed since the last look, at most once a second. Blocks."""
        if self._is_due():
            self._looked = self._clock()
            try:
                self._take(_read(self._paths, self._signature))
            except _UNREADABLE as wrong:
                self._fail(str(wrong))

    def refresh(self, reactor: Any) -> Deferred[None] | None:
        """The same in a thread; None when there is nothing to wait for.

        Whoever comes while a look is under way waits for that one: a disk that hangs holds one thread.
        """
        if not self._waiting:
            if not self._is_due():
                return None
            read = deferToThreadPool(reactor, reactor.getThreadPool(), _read, self._paths, self._signature)
            read.addCallbacks(self._take, self._failed)
            read.addBoth(self._seen)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def _is_due(self) -> bool:
        return self._clock() - self._looked >= LOOK_EVERY

    def _failed(self, failure: Failure) -> None:
        failure.trap(*_UNREADABLE)  # type: ignore[no-untyped-call]
        self._fail(str(failure.value))

    def _seen(self, result: Failure | None) -> None:
        """Whoever waits goes on; a failure that nobody thought of is theirs."""
        self._looked = self._clock()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if isinstance(result, Failure):
                one.errback(result)
            else:
                one.callback(None)

    def _take(self, found: tuple[_Signature, Tables] | None) -> None:
        if found is not None:
            self._signature, self._tables = found
            self._versions.append((self._since(found[0]) if self._versions else -math.inf, found[1]))
            if len(self._versions) > VERSIONS:
                del self._versions[1]  # as if the one before it had been in force: no line is older by that
            self._trouble, self._said = "", -REPEAT
            self._log.info("tables", keys=len(self._tables.keys), lines=len(self._tables.lines))

    def _since(self, signature: _Signature) -> float:
        """When the files came to be what they are: their inodes have changed then."""
        age = time.time() - max(changed for *_, changed in signature) / 1e9
        return max(self._clock() - max(age, 0.0), self._versions[-1][0])

    def _fail(self, trouble: str) -> None:
        self._signature, self._tables = None, None
        if trouble != self._trouble:
            self._trouble, self._said = trouble, -REPEAT
        self._say()

    def _say(self) -> None:
        now = self._clock()
        if now - self._said >= REPEAT:
            self._said = now
            text = f"{self._trouble}; every message is deferred until this is mended"
            self._log.error("tables", text=text)


def _read(paths: Iterable[Path], known: _Signature | None) -> tuple[_Signature, Tables] | None:
    """The tables with their files' signature, None when they are those that are known."""
    signature = tuple(_sign(path) for path in paths)
    if signature == known:
        return None
    key_table, signing_table = (_text(path) for path in paths)
    return signature, parse_tables(key_table, signing_table)


def _sign(path: Path) -> tuple[int, int, int, int]:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns


def _text(path: Path) -> str:
    with open(path, "rb") as file:
        data = file.read(TABLE_MAX + 1)
    if len(data) > TABLE_MAX:
        raise TableError(f"{path}: larger than {TABLE_MAX} bytes")
    return data.decode("utf-8")
