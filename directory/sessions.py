"""Errands to LDAP servers: each in a thread, on a kept connection, with a deadline that ends it.

Knows threads, kept connections, deadlines and which server is next. Must not know what an errand does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.threadpool import ThreadPool

from directory.breakers import Breakers
from directory.identity import Unavailable
from directory.ldap import Session
from directory.servers import Server
from directory.troubles import Puzzling, Refused, Transport

#: Service account refused; timeLimitExceeded, busy, unavailable, other (RFC 4511, appendix A).
_SERVERS_OWN = frozenset({-1, 3, 51, 52, 80})
WAITING_MAX = 256  # errands that wait for a thread; over it the answer is Unavailable at once
IDLE_MAX, AGE_MAX = 60.0, 1800.0  # seconds; below what servers and firewalls allow

T = TypeVar("T")
Errand = Callable[[Session], T]

#: Makes a connected session ready for errands; raises Unavailable.
Prepare = Callable[[Session], None]


@dataclass(slots=True)
class _Kept:
    session: Session
    made: float
    used: float


@dataclass(slots=True, eq=False)
class _Ticket:
    """One errand under way."""

    done: Deferred[Any]
    session: Session | None = None
    index: int = -1
    over: bool = False


class Sessions:
    """Runs errands on `servers`; at most `size` at a time."""

    def __init__(
        self,
        servers: Sequence[Server],
        weights: Sequence[int],
        prepare: Prepare,
        *,
        size: int,
        retry: bool,
        patience: int = 0,
        reactor: Any,
        log: Any,
        name: str,
    ) -> None:
        self._servers = tuple(servers)
        self._breakers = Breakers(weights, random.random)
        self._prepare = prepare
        self._retry = retry
        self._patience = patience
        self._reactor = reactor
        self._log = log
        self._pool = ThreadPool(0, size, name)
        self._lock = Lock()
        self._idle: dict[int, list[_Kept]] = {index: [] for index in range(len(self._servers))}
        self._tickets: set[_Ticket] = set()
        self._is_stopped = False

    def start(self) -> None:
        """Allow errands."""
        self._pool.start()

    def stop(self) -> None:
        """Hang up on all servers, which sets the threads free; not waited for, since the reactor would."""
        if self._is_stopped:
            return
        with self._lock:  # from here on nothing is kept
            self._is_stopped = True
        for ticket in tuple(self._tickets):
            self._give_up(ticket, "the directory is being closed")
        Thread(target=self._pool.stop, name="ldap-stop", daemon=True).start()
        for kept in self._idle.values():
            while kept:
                kept.pop().session.close()

    @property
    def is_down(self) -> bool:
        """Whether no server answered when it was asked last."""
        return self._breakers.all_down

    def run(self, errand: Errand[T], deadline: float) -> Deferred[T]:
        """Run an errand; fails with Unavailable, at the latest after `deadline` seconds."""
        if self._is_stopped:
            return fail(Unavailable("the directory is closed"))
        if len(self._tickets) >= WAITING_MAX:
            return fail(Unavailable(f"{len(self._tickets)} requests are waiting for the directory"))
        if not self._breakers.candidates(self._reactor.seconds()):
            return fail(Unavailable(f"no LDAP server answers: {self._breakers.why()}"))
        ticket = _Ticket(Deferred(lambda _: self._close(ticket)))
        self._tickets.add(ticket)
        expiry = self._reactor.callLater(deadline, self._expire, ticket, deadline)

        def finish(succeeded: bool, result: Any) -> None:
            self._reactor.callFromThread(self._finish, ticket, expiry, result)

        self._pool.callInThreadWithCallback(finish, self._attempt, ticket, errand)
        return ticket.done

    # ---- in the reactor

    def _finish(self, ticket: _Ticket, expiry: Any, result: Any) -> None:
        if expiry.active():
            expiry.cancel()
        if not ticket.over:
            self._close(ticket)
            ticket.done.callback(result)  # a Failure becomes an errback

    def _expire(self, ticket: _Ticket, deadline: float) -> None:
        if ticket.over:
            return
        where = "no thread was free"
        if ticket.session is not None:
            where = f"{ticket.session.server} did not answer"
            self._note_failure(ticket.index, where)
        self._give_up(ticket, f"{where} within {deadline:g} s")

    def _give_up(self, ticket: _Ticket, why: str) -> None:
        if not ticket.over:
            self._close(ticket)
            ticket.done.errback(Unavailable(why))

    def _close(self, ticket: _Ticket) -> None:
        ticket.over = True
        self._tickets.discard(ticket)
        if (session := ticket.session) is not None:
            session.hang_up()

    # ---- in a thread

    def _attempt(self, ticket: _Ticket, errand: Errand[T]) -> T:
        """Try server after server. Raises what the last one had to say."""
        trouble = Unavailable(f"no LDAP server answers: {self._breakers.why()}")
        for index in self._breakers.candidates(self._reactor.seconds()):
            if ticket.over:
                break
            with self._lock:
                if not self._breakers.begin(index, self._reactor.seconds()):
                    continue
            try:
                result = self._on(index, ticket, errand)
            except Puzzling:
                self._note_success(index)
                raise
            except (Transport, Refused) as wrong:
                trouble = wrong
                if ticket.over or (isinstance(wrong, Refused) and self._is_about_us(wrong, index)):
                    break
                self._note_failure(index, str(wrong))
                if self._retry:
                    continue
                break
            self._note_success(index)
            return result
        raise trouble

    def _is_about_us(self, wrong: Refused, index: int) -> bool:
        """Whether the server did well to refuse: then another one would too."""
        if wrong.code in _SERVERS_OWN:
            return False
        self._note_success(index)
        return True

    def _on(self, index: int, ticket: _Ticket, errand: Errand[T]) -> T:
        kept, began = self._take(index), self._reactor.seconds()
        if kept is not None:
            try:
                return self._use(index, ticket, kept, errand)
            except Transport:
                if ticket.over or not self._retry or self._reactor.seconds() - began > 0.5:
                    raise
        # Not kept, or it had ended while idle (a server that is slow is not tried again): a fresh one.
        now = self._reactor.seconds()
        session = Session(self._servers[index], patience=self._patience)
        return self._use(index, ticket, _Kept(session, now, now), errand, fresh=True)

    def _use(self, index: int, ticket: _Ticket, kept: _Kept, errand: Errand[T], *, fresh: bool = False) -> T:
        session = kept.session
        ticket.index, ticket.session = index, session
        try:
            if fresh:
                session.connect()
                self._prepare(session)
            result = errand(session)
        except BaseException:
            ticket.session = None
            session.close()
            raise
        ticket.session = None
        self._keep(index, kept)
        return result

    def _take(self, index: int) -> _Kept | None:
        now = self._reactor.seconds()
        while True:
            with self._lock:
                if not self._idle[index]:
                    return None
                kept = self._idle[index].pop()  # the one used last
            if now - kept.used < IDLE_MAX and now - kept.made < AGE_MAX and kept.session.is_usable:
                return kept
            kept.session.close()

    def _keep(self, index: int, kept: _Kept) -> None:
        kept.used = self._reactor.seconds()
        with self._lock:
            if not self._is_stopped and kept.session.is_usable:
                self._idle[index].append(kept)
                return
        kept.session.close()

    def _note_failure(self, index: int, why: str) -> None:
        with self._lock:
            is_new = self._breakers.failed(index, self._reactor.seconds(), why)
        if is_new:
            self._tell("ldap_server_failed", index, why)

    def _note_success(self, index: int) -> None:
        with self._lock:
            was_down = self._breakers.succeeded(index)
        if was_down:
            self._tell("ldap_server_back", index, "")

    def _tell(self, event: str, index: int, why: str) -> None:
        """Into the log, from any thread: each change once."""
        write = self._log.error if why else self._log.notice
        with suppress(RuntimeError):  # the reactor is over
            self._reactor.callFromThread(write, event, server=str(self._servers[index]), problem=why)
