"""The thread that keeps the book: the only one that touches the database.

Knows how verbs that wait together become one transaction, how a store that is away is found again, and how a
change that another process made is noticed. Must not know what a verb means, nor touch the reactor: all that
it has to say goes out through one callable, once per turn.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ledger.blocks import Block
from ledger.book import Book
from ledger.bookfile import MISFIT, TROUBLE, BookFile, mend
from ledger.charges import Unavailable
from ledger.clock import HostClock

BATCH = 256  # verbs in one transaction
QUEUE = 10_000  # verbs that may wait
POLL = 0.25  # seconds between two looks for what others have changed, and between two attempts to open
TIDY = 10.0  # seconds between two rounds of tidying

#: What a verb raises when its own values are wrong. It is that caller's trouble alone.
FAULTS = (*MISFIT, ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)

Verb = Callable[[Book], Any]
State = Literal["ok", "unavailable"]


@dataclass(slots=True)
class Report:
    """What one turn of the clerk has to say.

    `answers` pairs what was handed in with the result or an Unavailable; `news` are the generation and the
    blocks when the generation moved; `notices` are lines for the log: level, fields.
    """

    state: State
    answers: list[tuple[Any, Any]] = field(default_factory=list)
    news: tuple[int, tuple[Block, ...]] | None = None
    notices: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    last: bool = False


class _NotYet(Exception):
    """The store was away a moment ago; it is too early to try again."""


class Clerk:
    """Runs `run` in a thread of its own; `hand` and `close` are called from another."""

    def __init__(self, path: Path, clock: HostClock, say: Callable[[Report], None]) -> None:
        self._path = path
        self._clock = clock
        self._say = say
        self._waiting: deque[tuple[Verb, Any]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._file: BookFile | None = None
        self._state: State = "unavailable"
        self._reason = ""
        self._next_look = self._next_tidy = self._next_open = 0.0
        self._version = 0
        self._stale = True
        self._told: int | None = None

    def hand(self, verb: Verb, tag: Any) -> bool:
        """Have `verb` done; its answer comes with `tag`. False when too many wait, or after `close`."""
        with self._wake:
            if self._closing or len(self._waiting) >= QUEUE:
                return False
            self._waiting.append((verb, tag))
            self._wake.notify()
        return True

    def close(self) -> None:
        """Have what waits done, and then end."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def run(self) -> None:
        """Work until closed."""
        ended = False
        while not ended:
            jobs, ended = self._wait()
            report = Report(self._state)
            self._turn(jobs, report)
            report.state, report.last = self._state, ended
            if ended:
                self._drop()
            if report.answers or report.news or report.notices or report.last:
                self._say(report)

    def _wait(self) -> tuple[list[tuple[Verb, Any]], bool]:
        """The next verbs, none when it is time to look around; and whether these are the last."""
        with self._wake:
            if not self._waiting and not self._closing:
                self._wake.wait(max(0.01, self._next_look - time.monotonic()))
            jobs = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            return jobs, self._closing and not self._waiting

    def _turn(self, jobs: list[tuple[Verb, Any]], report: Report) -> None:
        try:
            file = self._look_around(report)
            if jobs:
                self._work(file, jobs, report)
            self._tell_news(file, report)
            self._keep(report)
        except _NotYet:
            pass
        except TROUBLE as trouble:
            self._lose(trouble, report)
        except Exception as bug:  # noqa: BLE001  a thread that ends would leave every caller waiting
            self._lose(bug, report)
        unanswered = jobs[len(report.answers) :]
        report.answers.extend((tag, Unavailable(self._reason)) for _, tag in unanswered)

    def _look_around(self, report: Report) -> BookFile:
        """The open file, opened (again) if need be; every POLL seconds what others did is looked for."""
        now = time.monotonic()
        due = now >= self._next_look
        if due:
            self._next_look = now + POLL
        if self._file and due and self._file.moved_away():
            self._drop()
            report.notices.append(("error", {"reason": "its file was deleted or replaced"}))
        if self._file is None:
            return self._open(now, report)
        if due:
            version = self._file.data_version()
            self._stale = self._stale or version != self._version
            self._version = version
        if now >= self._next_tidy:
            self._tidy(self._file)
        return self._file

    def _open(self, now: float, report: Report) -> BookFile:
        if now < self._next_open:
            raise _NotYet
        self._file = BookFile(self._path)
        if self._file.made:
            report.notices.append(("notice", {"made": "a new file: nothing used, no blocks"}))
        self._tidy(self._file)  # which shows that it can be written, and keeps what time it is
        self._clock.adopt = False
        self._version, self._stale, self._told = self._file.data_version(), True, None
        return self._file

    def _tidy(self, file: BookFile) -> None:
        self._next_tidy = time.monotonic() + TIDY
        file.book.begin(self._clock.tell, sweep=1000)
        file.book.tidy()
        file.book.commit()

    def _work(self, file: BookFile, jobs: list[tuple[Verb, Any]], report: Report) -> None:
        """All jobs in one transaction; when one of them cannot be done, each in its own."""
        book = file.book
        try:
            book.begin(self._clock.tell, sweep=2 * len(jobs) + 16)
            answers = [(tag, verb(book)) for verb, tag in jobs]
            book.commit()
            report.answers.extend(answers)
        except FAULTS as fault:
            file.abandon()
            if len(jobs) > 1:
                for job in jobs:
                    self._work(file, [job], report)
            else:
                report.answers.append((jobs[0][1], Unavailable(f"the request cannot be kept: {fault!r}")))
                report.notices.append(("error", {"reason": f"a request cannot be kept: {fault!r}"}))

    def _tell_news(self, file: BookFile, report: Report) -> None:
        if self._stale or file.book.generation != self._told:
            generation, blocks = file.book.peek(self._clock.tell)
            self._stale = False
            if generation != self._told:
                self._told = generation
                report.news = (generation, blocks)

    def _keep(self, report: Report) -> None:
        """The store answers."""
        if self._state != "ok":
            report.notices.append(("notice", {"state": "ok"}))
        self._state, self._reason = "ok", ""

    def _lose(self, trouble: Exception, report: Report) -> None:
        """The store does not answer: it is opened again later. Said once for each reason."""
        self._drop()
        self._next_open = time.monotonic() + POLL
        reason = str(trouble)
        if (self._state, self._reason) != ("unavailable", reason):
            what_to_do = mend(trouble, self._path)
            report.notices.append(("error", {"state": "unavailable", "reason": reason, "mend": what_to_do}))
        self._state, self._reason = "unavailable", reason

    def _drop(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
