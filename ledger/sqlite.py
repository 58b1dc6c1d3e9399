"""The ledger in one SQLite file, as the reactor sees it: the embedded default.

Knows how a verb becomes a Deferred and a report of the clerk its answer. Must not touch the database, which
is the clerk's thread's alone, nor know what a verb means.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from ledger.app_passwords import AppPassword
from ledger.blocks import Block
from ledger.book import Book
from ledger.charges import Admitted, Amounts, ChargeId, Held, Refused, Submission, Unavailable
from ledger.clerk import Clerk, Report, State
from ledger.clock import HostClock
from ledger.events import Event
from ledger.limits import Limit, Standing
from ledger.marks import Mark, Pair, Seen
from ledger.rows import Gone, Outstanding
from ledger.tombstones import Tombstone

T = TypeVar("T")
Changed = Callable[[int, tuple[Block, ...]], None]


class SqliteLedger:
    """A `charges.Ledger`. Every verb gives a Deferred that fails with nothing but Unavailable."""

    def __init__(self, path: Path, *, reactor: Any, log: Any, clock: HostClock | None = None) -> None:
        """`log` is a sidecar's log; `clock` another than the host's, for tests."""
        self._reactor = reactor
        self._log = log
        self._path = path
        self._clock = clock or HostClock(adopt=True)
        self._clerk = Clerk(path, self._clock, self._hear)
        self._thread: threading.Thread | None = None
        self._state: State = "unavailable"
        self._news: tuple[int, tuple[Block, ...]] | None = None
        self._watchers: list[Changed] = []
        self._ended: Deferred[None] = Deferred()

    def reserve(
        self,
        charge: ChargeId,
        submission: Submission | None,
        amounts: Amounts,
        limits: tuple[Held, ...],
        *,
        final: bool = False,
    ) -> Deferred[Admitted | Refused]:
        """See `charges.Ledger`, as for all verbs below."""
        return self._ask(lambda book: book.reserve(charge, submission, amounts, limits, final=final))

    def settle(self, charge: ChargeId, amounts: Amounts) -> Deferred[Admitted | Refused]:
        return self._ask(lambda book: book.settle(charge, amounts))

    def release(self, charge: ChargeId) -> Deferred[bool]:
        return self._ask(lambda book: book.release(charge))

    def refund(self, mta: str, queue_id: str, subject: str) -> Deferred[bool]:
        return self._ask(lambda book: book.refund(mta, queue_id, subject))

    def record(self, mta: str, queue_id: str) -> Deferred[Submission | None]:
        return self._ask(lambda book: book.record(mta, queue_id))

    def take_up(self, mta: str, queue_id: str) -> Deferred[Submission | None]:
        return self._ask(lambda book: book.take_up(mta, queue_id))

    def refund_untaken(self, mta: str, older_than: float) -> Deferred[int]:
        # Counted from now, however long the file keeps us waiting.
        uptime = self._clock.uptime
        called = uptime() - older_than
        return self._ask(lambda book: book.refund_untaken(mta, uptime() - called))

    def standing(self, pairs: tuple[tuple[str, Limit], ...]) -> Deferred[tuple[Standing, ...]]:
        return self._ask(lambda book: book.standing(pairs))

    def reset(self, subject: str, author: str, reason: str) -> Deferred[int]:
        return self._ask(lambda book: book.reset(subject, author, reason))

    def blocks(self) -> Deferred[tuple[int, tuple[Block, ...]]]:
        return self._ask(lambda book: book.blocks())

    def block(self, block: Block) -> Deferred[Block]:
        return self._ask(lambda book: book.block(block))

    def lift(self, block_id: str, author: str, reason: str) -> Deferred[bool]:
        return self._ask(lambda book: book.lift(block_id, author, reason))

    def block_once(self, block: Block) -> Deferred[bool]:
        return self._ask(lambda book: book.block_once(block))

    def note_event(self, event: Event) -> Deferred[bool]:
        return self._ask(lambda book: book.events.note(event))

    def events_of(self, subject: str) -> Deferred[tuple[Event, ...]]:
        return self._ask(lambda book: book.events.of(subject))

    def events_after(self, serial: int, most: int) -> Deferred[tuple[Event, ...]]:
        """See `event_rows.EventRows.after`."""
        return self._ask(lambda book: book.events.after(serial, most))

    def forget_event(self, id: str) -> Deferred[None]:
        """See `event_rows.EventRows.forget`."""
        return self._ask(lambda book: book.events.forget(id))

    def guard_look(self, pairs: tuple[Pair, ...]) -> Deferred[tuple[Seen, ...]]:
        return self._ask(lambda book: book.marks.look(pairs))

    def guard_note(self, marks: tuple[Mark, ...]) -> Deferred[bool]:
        return self._ask(lambda book: book.marks.note(marks))

    def guard_drop(self, pairs: tuple[Pair, ...]) -> Deferred[None]:
        return self._ask(lambda book: book.marks.drop(pairs))

    def guard_names(self, key: str) -> Deferred[tuple[str, ...]]:
        return self._ask(lambda book: book.marks.names(key))

    def secret(self, name: str) -> Deferred[bytes]:
        return self._ask(lambda book: book.secret(name))

    def app_passwords(self, login: str) -> Deferred[tuple[AppPassword, ...]]:
        return self._ask(lambda book: book.app_passwords_of(login))

    def keep_app_password(self, one: AppPassword, author: str) -> Deferred[bool]:
        return self._ask(lambda book: book.keep_app_password(one, author))

    def revoke_app_password(self, login: str, id: str, author: str) -> Deferred[bool]:
        return self._ask(lambda book: book.revoke_app_password(login, id, author))

    def use_app_password(self, login: str, id: str, address: str) -> Deferred[None]:
        return self._ask(lambda book: book.app_passwords.use(login, id, address))

    def outstanding(self, most: int) -> Deferred[list[Outstanding]]:
        """See `book.Book.outstanding`."""
        return self._ask(lambda book: book.outstanding(most))

    def forget(self, charge: ChargeId, settled: bool) -> Deferred[Gone]:
        """See `book.Book.forget`."""
        return self._ask(lambda book: book.forget(charge, settled))

    def history(self) -> Deferred[tuple[Tombstone, ...]]:
        """See `book.Book.history`."""
        return self._ask(lambda book: book.history())

    def merge(self, copies: tuple[Tombstone, ...]) -> Deferred[int]:
        """See `book.Book.merge`."""
        return self._ask(lambda book: book.merge(copies))

    def watch(self, changed: Changed) -> None:
        self._watchers.append(changed)
        if self._news:
            changed(*self._news)

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._clerk.run, name="ledger", daemon=True)
            self._thread.start()

    def stop(self) -> Deferred[None]:
        self._clerk.close()
        if self._thread is None:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._ended.addCallback(lambda _: waiter.callback(None))
        return waiter

    def state(self) -> State:
        return self._state

    def _ask(self, verb: Callable[[Book], T]) -> Deferred[T]:
        """Hand `verb` to the clerk. A Deferred that its owner cancels changes nothing: the verb is done."""
        answer: Deferred[T] = Deferred()
        if self._thread is None:
            return fail(Unavailable("the ledger is not started"))
        if not self._clerk.hand(verb, answer):
            return fail(Unavailable("the ledger is stopped, or too many requests wait for it"))
        return answer

    def _hear(self, report: Report) -> None:
        """Called in the clerk's thread, once per turn."""
        self._reactor.callFromThread(self._deliver, report)

    def _deliver(self, report: Report) -> None:
        self._state = report.state
        for level, fields in report.notices:
            getattr(self._log, level)("ledger", path=str(self._path), **fields)
        for deferred, answer in report.answers:
            _fire(deferred, answer)
        if report.last:
            self._ended.callback(None)
        if report.news:
            self._news = report.news
            for changed in self._watchers:
                changed(*report.news)


def _fire(deferred: Deferred[Any], answer: Any) -> None:
    if deferred.called:  # its owner has cancelled it
        return
    if isinstance(answer, Unavailable):
        deferred.errback(answer)
    else:
        deferred.callback(answer)
