"""The service behind the connections: directory, blocks and settings, and how they are replaced.

Knows who judges a credential, the blocks held in memory, reload and drain. Must not know the protocol, nor
how a directory or a ledger finds its answers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred

from directory.gauges import tell_state
from directory.identity import Credentials, Directory, Verified
from directory.settings import open_logins
from ledger.blocks import Block, Calendar
from ledger.charges import Ledger
from ledger.clock import uptime
from ledger.flushes import Flushes
from ledger.settings import open_ledger
from saslauthd.answers import Request
from saslauthd.app_passwords import AppPasswords
from saslauthd.judge import Judge
from saslauthd.mechanisms import MECHANISMS, Refused
from saslauthd.recollection import Recollection
from saslauthd.reports import Reports
from saslauthd.sentry import Sentry
from saslauthd.server import AuthFactory, AuthProtocol
from saslauthd.session import Rules, Session
from saslauthd.settings import Settings
from saslauthd.wire import Reader
from sidecar.exchange import Exchange
from sidecar.listen import Listener
from sidecar.log import Log
from sidecar.metrics import Metrics
from sidecar.settings import digest

GRACE = 2.0  # seconds after the start in which AUTH waits for the blocks to be read and is not hung up on


class AuthService:
    """What saslauthd offers its door (sidecar.daemon.Service). `load` reads the settings again."""

    def __init__(
        self,
        settings: Settings,
        *,
        reactor: Any,
        log: Log,
        metrics: Metrics,
        load: Callable[[], Settings],
        open_directory: Callable[..., Directory] = open_logins,
        open_ledger: Callable[..., Ledger] = open_ledger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._load = load
        self._log = log
        self._clock = clock
        self._calendar = Calendar(clock, uptime if clock is time.time else clock)
        self._grace: Any = None
        self._waiting: list[Deferred[None]] = []
        self._factories: list[AuthFactory] = []
        self._directory = open_directory(settings.logins, reactor=reactor, log=log)
        self._ledger = open_ledger(settings.ledger, reactor=reactor, log=log)
        place = partial(Exchange, reactor=reactor, log=log)
        self._directories = place(
            "directory", settings.logins, self._directory, open=open_directory, take=self._take_directory
        )
        self._ledgers = place(
            "ledger", settings.ledger, self._ledger, open=open_ledger, take=self._take_ledger
        )
        self._reports = Reports(log, metrics)
        self._sentry = Sentry(settings.auth.guard.rules, self._ledger, reactor=reactor, log=log, clock=clock)
        self._judge = Judge(
            self._directory,
            self._sentry,
            Recollection(os.urandom(32)),
            AppPasswords(self._ledger, clock),
            reactor=reactor,
            clock=clock,
        )
        self._flushes = Flushes(self._forget, log, reactor)
        tell_state(metrics, lambda: self._directory)
        self._apply(settings)
        metrics.gauge("auth_requests", "Requests that wait for a verdict", self._running)

    def factory(self, listener: Listener) -> AuthFactory:
        """The connections of one listener."""
        rules, recall = self._settings.rules, self._judge.recall
        made = AuthFactory(self._reactor, self.judge, rules, self._reports, recall)
        self._factories.append(made)
        return made

    def start(self) -> None:
        """Open directory and ledger; waits for neither."""
        self._log.notice("settings", digest=digest(self._settings), environment=self._settings.environment)
        self._directory.start()
        self._grace = self._reactor.callLater(GRACE, self._release)
        self._ledger.start()
        self._follow(self._ledger)

    def reload(self) -> None:
        """Read the settings again and take what changed. Raises SettingsError, and then nothing changed.

        The old directory and ledger serve until the new ones can.
        """
        settings = self._load()
        old, self._settings = self._settings, settings
        self._directories.want(settings.logins)
        self._ledgers.want(settings.ledger)
        self._apply(settings)
        restart = [name for name in ("listen", "log") if getattr(settings, name) != getattr(old, name)]
        self._log.notice("settings", digest=digest(settings), needs_restart=",".join(restart))

    def _apply(self, settings: Settings) -> None:
        auth, judge = settings.auth, self._judge
        self._sentry.rules = auth.guard.rules
        if judge.admissions != auth.admissions:
            judge.admissions = auth.admissions
            judge.forget()
        judge.recollection.wrong_for = auth.cache.failures
        judge.recollection.right_for = auth.cache.successes
        for factory in self._factories:
            factory.rules = settings.rules

    def drain(self) -> Deferred[None]:
        """Answer what is in flight, close every connection, then let go of the stores."""
        return ensureDeferred(self._drain())

    def healthy(self) -> bool:
        """Whether a request that nobody is asked about is still answered; needs no store."""
        session = Session(Rules(tuple(MECHANISMS)))
        question = b"VERSION\t1\t0\nCPID\t1\nAUTH\t1\tPLAIN\tservice=watchdog\tresp=AAA=\n"
        events = [event for command in Reader().feed(question) for event in session.receive(command, 0.0)]
        return len(events) == 1

    def state(self) -> str:
        """``ok``, or ``degraded`` and which store is to blame."""
        blame = {"directory": self._directories.state(), "ledger": self._ledgers.state()}
        words = [f"{name}={state}" for name, state in blame.items() if state != "ok"]
        return " ".join(["degraded", *words]) if words else "ok"

    async def judge(self, credentials: Credentials, request: Request) -> Verified | Refused:
        """The outcome for credentials; right after the start it waits for the blocks. Raises Unavailable."""
        if self._judge.blocks is None and self._grace is not None:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting
        return await self._judge.judge(credentials, request)

    def _follow(self, ledger: Ledger) -> None:
        def changed(generation: int, blocks: tuple[Block, ...]) -> None:
            if ledger is self._ledger:
                self._judge.blocks = self._calendar.read(blocks)
                self._release()

        ledger.watch(changed)
        self._flushes.follow(ledger)

    def _forget(self, login: str) -> None:
        self._judge.forget()
        self._sentry.forget()
        self._directory.flush(login)
        known = self._settings.rules.realm.apply(login)
        if isinstance(known, str):
            self._directory.flush(known)

    def _release(self) -> None:
        """The blocks are known, or have taken too long: nobody waits for them any more."""
        if self._grace is not None and self._grace.active():
            self._grace.cancel()
        self._grace = None
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def _take_directory(self, directory: Directory) -> None:
        self._directory = self._judge.directory = directory
        self._judge.forget()

    def _take_ledger(self, ledger: Ledger) -> None:
        """The blocks that are known hold until the new ledger has told its own."""
        self._ledger = self._sentry.ledger = ledger
        self._judge.app_passwords = AppPasswords(ledger, self._clock)
        self._follow(ledger)

    async def _drain(self) -> None:
        self._directories.stop()
        self._ledgers.stop()
        self._release()
        self._judge.wake()
        await DeferredList([connection.drain() for connection in self._connections()])
        self._directory.stop()
        self._flushes.stop()
        self._sentry.returns.send()
        await self._ledger.stop()

    def _running(self) -> float:
        return float(sum(connection.running for connection in self._connections()))

    def _connections(self) -> list[AuthProtocol]:
        return [connection for factory in self._factories for connection in factory.connections]
