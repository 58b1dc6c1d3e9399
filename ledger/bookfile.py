"""The file that a SQLite ledger lives in: making it, opening it, and what can be wrong with it.

Knows SQLite and the file system. Must not know what a verb means (ledger.book), or which thread it is in.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from ledger.book import Book
from ledger.charges import Unavailable
from ledger.clock import HostClock
from ledger.schema import WrongSchema, prepare

BUSY = 1.0  # seconds to wait for another process' transaction
MODE = 0o660
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # without those that are read as others

#: What SQLite, the file system and a wrong file raise; all of it means "we cannot know now".
TROUBLE = (sqlite3.Error, OSError, WrongSchema)
#: Trouble that one verb's own values make: the file is as good as before.
MISFIT = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError)


class BookFile:
    """An open ledger file: its book, and whether it is still the file that stands at the path.

    `made` is True when there was none and it was made, empty. Used by one thread at a time.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`, making it when it is not there. Raises one of TROUBLE."""
        self._path = path
        self.made = _make(path)
        self._identity = _identity(path)
        self._connection = _connect(path)
        self.book = Book(self._connection, short_id)

    def moved_away(self) -> bool:
        """Whether somebody deleted or replaced the file: what is written now would be lost."""
        return _identity(self._path) != self._identity

    def data_version(self) -> int:
        """A number that moves when another connection has committed something (PRAGMA data_version)."""
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def abandon(self) -> None:
        """Undo the transaction that is open, if one is."""
        if self._connection.in_transaction:
            self._connection.rollback()

    def close(self) -> None:
        """Close; what is not committed is undone."""
        with contextlib.suppress(sqlite3.Error):
            self.abandon()
        self._connection.close()


@contextlib.contextmanager
def open_book(path: Path) -> Iterator[Book]:
    """The book of the file at `path` within one transaction, for the operator's command.

    Raises Unavailable, which says what to do; an exception from inside undoes the transaction.
    """
    try:
        file = BookFile(path)
    except TROUBLE as trouble:
        raise Unavailable(f"{path}: {trouble}: {mend(trouble, path)}") from trouble
    try:
        file.book.begin(HostClock().tell)
        yield file.book
        file.book.commit()
    except TROUBLE as trouble:
        raise Unavailable(f"{path}: {trouble}: {mend(trouble, path)}") from trouble
    finally:
        file.close()


def short_id() -> str:
    """A block's id: five letters and digits, to be read out and typed."""
    return "".join(secrets.choice(_LETTERS) for _ in range(5))


def mend(trouble: Exception, path: Path) -> str:
    """What the operator can do about it."""
    text = str(trouble).lower()
    if isinstance(trouble, FileNotFoundError | NotADirectoryError):
        return f"make the directory: install -d -m 2770 -g submitward {path.parent}"
    if isinstance(trouble, PermissionError) or "readonly" in text or "unable to open" in text:
        return f"the file and {path.parent} must be writable for the sidecars' group (submitward)"
    if "locked" in text:
        return "another process holds the file for long; it is tried again"
    if "full" in text or "disk i/o" in text:
        return "see to the disk: is it full, or mounted read-only?"
    if isinstance(trouble, WrongSchema):
        return "set ledger.sqlite.path to another file, or run the version that made this one"
    return (
        "it may be damaged and is left as it is: restore a copy, or move it away (use and blocks go with it)"
    )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=BUSY,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _make(path: Path) -> bool:
    """Make the file if there is none; it appears at `path` whole. True if it was made here.

    The write-ahead log of a deleted file must not meet the new one, so its leftovers go first. One process at
    a time (a lock on the directory), or one would take away what another has just made.
    """
    if _identity(path):
        return False
    with _locked(path.parent):
        if _identity(path):
            return False
        new = path.with_name(path.name + ".new")
        for leftover in (
            new,
            *(Path(f"{name}{suffix}") for name in (path, new) for suffix in ("-wal", "-shm")),
        ):
            leftover.unlink(missing_ok=True)
        _touch(new)
        _connect(new).close()
        new.rename(path)
    return True


def _touch(path: Path) -> None:
    """An empty file with MODE whatever the umask; what root makes belongs to the owner of the directory."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, MODE)
    try:
        os.fchmod(handle, MODE)
        if os.geteuid() == 0:
            owner = os.stat(path.parent)
            os.fchown(handle, owner.st_uid, owner.st_gid)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock on `directory`; raises BlockingIOError when it isn't to be had within BUSY seconds."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + BUSY
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        yield
    finally:
        os.close(handle)
