"""What the commands on the ledger share: the book, who is asking, and how an answer is told.

Knows exit codes and both forms of output. Must not know what any command does with the book.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ledger.book import Book
from ledger.bookfile import open_book
from ledger.charges import Unavailable
from ledger.desk import Desk, open_desk
from policyd.settings import Settings, load_settings
from sidecar.settings import SettingsError

DONE, NO, USAGE, UNAVAILABLE = 0, 1, 2, 75


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has to say: its exit code, and the same for people (`lines`) and programs (`value`).
    `notes` are what to look at besides; they go to standard error."""

    status: int
    value: object
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Refused(Exception):
    """The command cannot be done as it was given: `status` is the exit code, the text says why."""

    def __init__(self, text: str, status: int = USAGE) -> None:
        super().__init__(text)
        self.status = status


def answer(options: Any, work: Callable[[Settings], Answer]) -> int:
    """Do `work` with the settings and tell its answer; returns the exit code.

    Nothing is told before `work` is over, so that what it wrote into the book is committed.
    """

    def tell(settings: Settings) -> int:
        told = work(settings)
        print(json.dumps(told.value, indent=2) if options.json else "\n".join(told.lines))
        for note in told.notes:
            print(f"submitward {options.command}: {note}", file=sys.stderr)
        return told.status

    return guarded(options, tell)


def guarded(options: Any, work: Callable[[Settings], int]) -> int:
    """Do `work` with the settings, which tells by itself; returns its exit code, or that of what is wrong."""
    try:
        return work(load_settings(options.settings))
    except SettingsError as error:
        return _complain(str(error), USAGE)
    except Refused as error:
        return _complain(f"submitward {options.command}: {error}", error.status)
    except Unavailable as error:
        return _complain(f"submitward {options.command}: the ledger is unavailable: {error}", UNAVAILABLE)


@contextmanager
def the_book(settings: Settings) -> Iterator[Book | Desk]:
    """The ledger within one transaction of this host's file, which other processes wait for. Raises
    Unavailable."""
    if settings.ledger.kind == "sqlite":
        with open_book(settings.ledger.sqlite.path) as book:
            yield book
        return
    with open_desk(settings.ledger) as desk:
        if desk.away:
            print(f"{desk.away}. This host's own blocks are used, and published later.", file=sys.stderr)
        yield desk


def author() -> str:
    """Who is asking, for the audit trail: the login behind sudo, else that of the process."""
    uid = os.getuid()
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def moment(at: float) -> str:
    """A moment (epoch seconds) in local time, ``2026-11-21 14:05:00 +0100``."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(at))


def printable(text: str) -> str:
    """Text that a peer may have written, fit for a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _complain(text: str, status: int) -> int:
    print(text, file=sys.stderr)
    return status
