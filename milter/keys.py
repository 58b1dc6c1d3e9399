"""The signer's tables on disk: read when asked for, read again when they have changed.

Knows files and their signatures. Must not know what the tables mean, nor read a key. Broken or unreadable
tables are never replaced by what was known before: the signer would not do so either.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from milter.judgement import KeysUnknown
from milter.tables import TableError, Tables, parse_tables

LOOK_EVERY = 1.0  # seconds between two looks at the files
REPEAT = 60.0  # seconds after which trouble is said again
TABLE_MAX = 8 << 20  # octets of one table

_Signature = tuple[tuple[int, int, int], ...]


class Keys:
    """A `judgement.SigningDomain` from two files. `clock` gives monotonic seconds."""

    def __init__(self, key_table: Path, signing_table: Path, *, clock: Callable[[], float], log: Any) -> None:
        self._paths = (key_table, signing_table)
        self._clock = clock
        self._log = log
        self._looked = -LOOK_EVERY
        self._signature: _Signature | None = None
        self._tables: Tables | None = None
        self._trouble = "not read yet"
        self._said = -REPEAT

    def __call__(self, author: str) -> str | None:
        """The signing domain for `author`. Raises KeysUnknown."""
        self.look()
        if self._tables is None:
            self._say()
            raise KeysUnknown(self._trouble)
        return self._tables.signing_domain(author)

    @property
    def trouble(self) -> str:
        """What is wrong with the tables, ``""`` when nothing is."""
        return "" if self._tables is not None else self._trouble

    def look(self) -> None:
        """Read the tables if they have changed since the last look, at most once a second."""
        now = self._clock()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        try:
            signature = tuple(_signature(path) for path in self._paths)
            if signature == self._signature:
                return
            self._read()
            self._signature = signature
        except (OSError, UnicodeDecodeError, TableError) as wrong:
            self._signature, self._tables = None, None
            self._fail(str(wrong))

    def _read(self) -> None:
        key_table, signing_table = (_text(path) for path in self._paths)
        self._tables = parse_tables(key_table, signing_table)
        self._trouble, self._said = "", -REPEAT
        self._log.info("tables", keys=len(self._tables.keys), lines=len(self._tables.lines))

    def _fail(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble, self._said = trouble, -REPEAT
        self._say()

    def _say(self) -> None:
        now = self._clock()
        if now - self._said >= REPEAT:
            self._said = now
            text = f"{self._trouble}; every message is deferred until this is mended"
            self._log.error("tables", text=text)


def _signature(path: Path) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size, status.st_ino


def _text(path: Path) -> str:
    with open(path, "rb") as file:
        data = file.read(TABLE_MAX + 1)
    if len(data) > TABLE_MAX:
        raise TableError(f"{path}: larger than {TABLE_MAX} bytes")
    return data.decode("utf-8")
