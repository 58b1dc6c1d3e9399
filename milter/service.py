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
from ledger.flushes import Flushes
from ledger.settings import open_ledger
from milter import wire
from milter.author import parse_mailbox
from milter.connections import MilterFactory
from milter.journal import Counters
from milter.judge import Judge
from milter.keys import Keys
from milter.legacy import Legacy
from milter.session import Answer, Session
from milter.settings import Settings, SignSettings
from milter.signer import Signer
from milter.wire import Options, Packet
from sidecar.exchange import Exchange
from sidecar.listen import Listener
from sidecar.log import Log
from sidecar.metrics import Metrics
from sidecar.settings import digest

_OFFER = wire.encode_options(Options(6, 0x1FF, 0x1FFFFF), {})[5:]


class MilterService:
    """Serves by `settings`; `load` reads them again and raises SettingsError when they are wrong."""

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
        self._factories: list[tuple[Listener, MilterFactory]] = []
        self._counters = Counters(metrics)
        self._legacy = Legacy(self._ledger_in_use, reactor=reactor, log=log)
        directory = open_directory(settings.directory, reactor=reactor, log=log)
        ledger = open_ledger(settings.ledger, reactor=reactor, log=log)
        self._keys = self._open_keys(settings.sign)
        self.judge = Judge(settings.rules, directory, ledger, self._keys, reactor=reactor, log=log)
        self.judge.signer = self._open_signer(settings.sign)
        place = partial(Exchange, reactor=reactor, log=log)
        self._directory = place(
            "directory", settings.directory, directory, open=open_directory, take=self._take_directory
        )
        self._ledger = place("ledger", settings.ledger, ledger, open=open_ledger, take=self._take_ledger)
        self._flushes = Flushes(self._forget, log, reactor)
        self._flushes.follow(ledger)
        tell_state(metrics, lambda: self.judge.directory)
        metrics.gauge("milter_refunds_waiting", "Refunds that the ledger has not taken yet.", self._waiting)

    def _ledger_in_use(self) -> Ledger:
        return self.judge.ledger

    def _waiting(self) -> float:
        return float(len(self.judge.refunds))

    def _open_keys(self, sign: SignSettings) -> Keys | None:
        if sign.key_table is None or sign.signing_table is None:
            return None
        return Keys(sign.key_table, sign.signing_table, clock=self._reactor.seconds, log=self._log)

    def _open_signer(self, sign: SignSettings) -> Signer | None:
        if not sign.confirm or sign.socket is None:
            return None
        return Signer(sign.socket, reactor=self._reactor)

    def factory(self, listener: Listener) -> IProtocolFactory:
        """The factory of one listener."""
        factory = MilterFactory(
            self.judge,
            name=listener.address,
            mta=listener.mta or self.settings.mta,
            reactor=self._reactor,
            log=self._log,
            counters=self._counters,
        )
        self._factories.append((listener, factory))
        return factory

    def start(self) -> None:
        """Begin to follow directory and ledger, look at the tables, and settle what a predecessor left.

        To be called before anything is accepted.
        """
        self.judge.directory.start()
        self.judge.ledger.start()
        if self.judge.rules.by_record:
            own = self.settings.mta
            self._legacy.give_back({listener.mta or own for listener in self.settings.listen.milter})
        self._look()
        self._say_settings()

    def _look(self) -> None:
        if self._keys is not None:
            self._keys.look()

    def reload(self) -> None:
        """Read the settings again. Raises SettingsError, and everything stays, when they are wrong.

        Directory and ledger are opened anew only when their section has changed, and the old ones serve until
        the new ones can; listeners need a restart.
        """
        new, old, judge = self._load(), self.settings, self.judge
        self._directory.want(new.directory)
        self._ledger.want(new.ledger)
        if new.sign != old.sign:
            self._keys = judge.keys = self._open_keys(new.sign)
            judge.signer = self._open_signer(new.sign)
            self._look()
        judge.rules = new.rules
        for listener, factory in self._factories:
            factory.mta = listener.mta or new.mta
        self.settings = new
        if new.listen != old.listen or new.log != old.log:
            self._log.notice("settings", text="listen and log take effect with a restart")
        self._say_settings()

    def _take_directory(self, directory: Directory) -> None:
        self.judge.directory = directory

    def _forget(self, login: str) -> None:
        self.judge.directory.flush(login)

    def _take_ledger(self, ledger: Ledger) -> None:
        self._flushes.follow(ledger)
        self.judge.ledger = ledger

    def _say_settings(self) -> None:
        settings = self.settings
        self._log.notice(
            "settings",
            digest=digest(settings),
            mta=settings.mta,
            environment=settings.environment,
            charge=settings.policy.charge,
            author=settings.author.mode,
            key_table=str(settings.sign.key_table or ""),
        )

    def drain(self) -> Deferred[None]:
        """Let each connection end its message, then let go of the stores."""
        self._directory.stop()
        self._ledger.stop()
        self._flushes.stop()
        done = gatherResults([factory.drain() for _, factory in self._factories])
        return done.addBoth(lambda _: Deferred.fromCoroutine(self._stop()))

    async def _stop(self) -> None:
        self._legacy.stop()
        self.judge.refunds.stop()
        self.judge.directory.stop()
        await self.judge.ledger.stop()

    def healthy(self) -> bool:
        """Whether a negotiation and a From field can be read; asks no store."""
        step = Session().receive(Packet(wire.NEGOTIATE, _OFFER))
        return isinstance(step, Answer) and parse_mailbox(b"a <a@b.example>").address == "a@b.example"

    def state(self) -> str:
        """``ok``, or ``degraded`` and what is how."""
        states = {"directory": self._directory.state(), "ledger": self._ledger.state()}
        bad = [f"{name}={state}" for name, state in states.items() if state != "ok"]
        if self._keys is not None and self._keys.trouble:
            bad.append("tables=broken")
        return " ".join(["degraded", *bad]) if bad else "ok"
