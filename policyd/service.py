"""The service as its door sees it: start, reload, drain, state.

Knows which parts of the settings belong to which store, and keeps what works when new settings don't. Must
not know connections or judgement.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IProtocolFactory

from directory.gauges import tell_state
from directory.identity import Directory
from directory.settings import open_directory
from ledger.charges import Ledger
from ledger.clock import uptime
from ledger.flushes import Flushes
from ledger.settings import open_ledger
from policyd.alarms import Alarms
from policyd.facts import Facts
from policyd.inquiry import plan
from policyd.journal import Counters
from policyd.judge import Judge
from policyd.restrictions import decide
from policyd.server import PolicyFactory
from policyd.settings import Settings
from policyd.wire import Reader, encode
from sidecar.exchange import Exchange
from sidecar.listen import Listener
from sidecar.log import Log
from sidecar.metrics import Metrics
from sidecar.settings import digest

_SELF_QUERY = b"request=smtpd_access_policy\nprotocol_state=RCPT\nsender=\nclient_address=192.0.2.1\n\n"


class PolicyService:
    """Serves policy requests by `settings`; `load` reads them again and raises SettingsError when wrong."""

    def __init__(
        self,
        settings: Settings,
        *,
        reactor: Any,
        log: Log,
        metrics: Metrics,
        load: Callable[[], Settings],
        open_directory: Callable[..., Directory] = open_directory,
        open_ledger: Callable[..., Ledger] = open_ledger,
    ) -> None:
        self.settings = settings
        self._reactor = reactor
        self._log = log
        self._load = load
        self._factories: list[tuple[Listener, PolicyFactory]] = []
        self._counters = Counters(metrics)
        directory = open_directory(settings.directory, reactor=reactor, log=log)
        ledger = open_ledger(settings.ledger, reactor=reactor, log=log)
        self._judge = Judge(settings.rules, directory, ledger, reactor=reactor, log=log, uptime=uptime)
        self._alarms = Alarms(
            lambda: self._judge.ledger, reactor=reactor, log=log, count=self._counters.events.count
        )
        self._escalate_by(settings)
        place = partial(Exchange, reactor=reactor, log=log)
        self._directory = place(
            "directory", settings.directory, directory, open=open_directory, take=self._take_directory
        )
        self._ledger = place("ledger", settings.ledger, ledger, open=open_ledger, take=self._take_ledger)
        self._flushes = Flushes(self._forget, log, reactor)
        self._flushes.follow(ledger)
        tell_state(metrics, lambda: self._judge.directory)
        metrics.gauge(
            "policy_settlements_waiting",
            "Settlements and releases that the ledger must still take.",
            self._waiting,
        )

    def _waiting(self) -> float:
        return float(len(self._judge.settlements))

    def factory(self, listener: Listener) -> IProtocolFactory:
        """The factory of one listener."""
        factory = PolicyFactory(
            self._judge,
            name=listener.address,
            context=listener.context,
            mta=listener.mta or self.settings.mta,
            reactor=self._reactor,
            log=self._log,
            counters=self._counters,
            hear=self._alarms.hear,
        )
        self._factories.append((listener, factory))
        return factory

    def start(self) -> None:
        """Begin to follow directory and ledger."""
        self._judge.start()
        self._say_settings("settings")

    def reload(self) -> None:
        """Read the settings again. Raises SettingsError, and everything stays, when they are wrong.

        Directory and ledger are opened anew only when their section has changed, and the old ones serve until
        the new ones can; listeners need a restart.
        """
        new, old, judge = self._load(), self.settings, self._judge
        self._directory.want(new.directory)
        self._ledger.want(new.ledger)
        if (new.plans, new.limits) != (old.plans, old.limits):
            judge.forget_standings()
        judge.rules = new.rules
        self._escalate_by(new)
        for listener, factory in self._factories:
            factory.mta = listener.mta or new.mta
        self.settings = new
        if new.listen != old.listen or new.log != old.log:
            self._log.notice("settings", text="listen and log take effect with a restart")
        self._say_settings("settings")

    def _escalate_by(self, settings: Settings) -> None:
        self._alarms.escalation = settings.policy.escalation.numbers
        self._alarms.contact = settings.policy.contact

    def _take_directory(self, directory: Directory) -> None:
        self._judge.directory = directory

    def _forget(self, login: str) -> None:
        self._judge.directory.flush(login)

    def _take_ledger(self, ledger: Ledger) -> None:
        self._flushes.follow(ledger)
        self._judge.ledger = ledger

    def _say_settings(self, event: str) -> None:
        settings = self.settings
        restrictions = " ".join(f"{name}:{mode}" for name, mode in settings.policy.ordered)
        self._log.notice(
            event,
            digest=digest(settings),
            mta=settings.mta,
            environment=settings.environment,
            charge=settings.policy.charge,
            restrictions=restrictions,
        )

    def drain(self) -> Deferred[None]:
        """Answer what is in flight, deliver what waits, let go of the stores."""
        self._directory.stop()
        self._ledger.stop()
        self._flushes.stop()
        done = gatherResults([factory.drain() for _, factory in self._factories])
        return done.addBoth(lambda _: Deferred.fromCoroutine(self._stop()))

    async def _stop(self) -> None:
        judge = self._judge
        await judge.settlements.flush()
        judge.settlements.stop()
        await self._alarms.flush()
        self._alarms.stop()
        judge.directory.stop()
        await judge.ledger.stop()

    def healthy(self) -> bool:
        """Whether a request can be read, judged and answered; asks no store."""
        reader = Reader()
        reader.feed(_SELF_QUERY)
        request = reader.take()
        if request is None:
            return False
        inquiry = plan(request, "submission")
        verdict = decide(request, inquiry, Facts(now=0.0), self._judge.rules)
        return encode(verdict.action).startswith(b"action=")

    def state(self) -> str:
        """``ok``, or ``degraded`` and which store is how."""
        states = {"directory": self._directory.state(), "ledger": self._ledger.state()}
        bad = [f"{name}={state}" for name, state in states.items() if state != "ok"]
        if self._judge.blocks is None:
            bad.append("blocks=unread")
        return " ".join(["degraded", *bad]) if bad else "ok"
