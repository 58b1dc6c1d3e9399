"""The life of a sidecar: start, reload, drain, stop, and the words to the service manager in between.

Knows signals, the watchdog and the order of things. Must not know what the service does: it is
asked through `Service` only.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from sidecar import ending
from sidecar import metrics as metrics_page
from sidecar.gate import Gate
from sidecar.host import check_backlog, raise_descriptors
from sidecar.listen import Held, Listener, ListenError, hold, sockets
from sidecar.log import Log, capture_twisted
from sidecar.metrics import Metrics
from sidecar.notify import Notifier
from sidecar.settings import SettingsError

DRAIN = 4.0  # seconds to answer what is in flight
FLUSH = 0.5  # seconds to send what was answered
STOP = 5.0  # seconds after SIGTERM at which the process ends, whatever hangs
PAGE_MOST = 32  # readers of the metrics page at one time
STATE_EVERY = 1.0  # seconds between two looks at the state

_twisted = Logger()


class Service(Protocol):
    """What a shell offers its door."""

    def factory(self, listener: Listener) -> IProtocolFactory:
        """What serves the connections of one listener."""

    def start(self) -> None:
        """Begin; the reactor runs, nothing is accepted yet. Logs the digest of its settings."""

    def reload(self) -> None:
        """Take over the settings as they are now; raises SettingsError and keeps the old ones if wrong."""

    def drain(self) -> Deferred[None] | None:
        """Answer what is in flight, then let go of everything; nothing new is accepted any more."""

    def healthy(self) -> bool:
        """A cheap question to itself for the watchdog, which no backend's absence may answer with False."""

    def state(self) -> str:
        """``ok``, or ``degraded`` with the reason, as one line."""


def run(
    reactor: Any,
    *,
    name: str,
    listeners: tuple[Listener, ...],
    service: Service,
    log: Log,
    metrics_address: str = "",
    metrics: Metrics | None = None,
) -> int:
    """Serve until SIGTERM; returns the exit status: 0, or 1 when it could not start.

    `name` is that of the inherited sockets (LISTEN_FDNAMES) and of the list in `listen`.
    """
    ending.wait()
    undo = capture_twisted(log)
    most = raise_descriptors(log)
    check_backlog(log)
    try:
        held = sockets(name, listeners, os.environ)
    except ListenError as error:
        log.error("listen", text=str(error))
        return 1
    daemon = _Daemon(reactor, Gate(reactor, log, most), held, service, log, metrics or Metrics())
    reactor.callWhenRunning(daemon.begin, metrics_address)
    reactor.run()  # with Twisted's own handlers, whose wake-up descriptor makes ours prompt
    for one in held:
        one.release()  # for an end that nobody asked for
    undo()
    return daemon.status


class _Daemon:
    """One process from the first accept to the last answer."""

    def __init__(
        self, reactor: Any, gate: Gate, held: list[Held], service: Service, log: Log, metrics: Metrics
    ) -> None:
        self.status = 0
        self._reactor = reactor
        self._gate = gate
        self._held = held
        self._service = service
        self._log = log
        self._notifier = Notifier(os.environ)
        self._metrics = metrics
        self._page = Gate(reactor, log, PAGE_MOST)
        self._state = ""
        self._refused = False  # whether the settings of the last reload were
        self._stopping = False
        self._reload_failed = metrics.counter("config_reload_failed", "Reloads refused: wrong settings.")
        metrics.gauge("connections", "Connections open now.", lambda: gate.open)
        metrics.gauge(
            "peers_refused", "TCP peers not on the allow-list, since the start.", lambda: gate.refused
        )
        metrics.gauge("log_lines_lost", "Log lines that could not be written.", lambda: log.lost)
        metrics.gauge("degraded", "1 when a backend is out, 0 when all is well.", self._degraded)

    def begin(self, metrics_address: str) -> None:
        """Start the service, accept, and say so."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, self._on_term)
        ending.resume()
        maybeDeferred(self._open, metrics_address).addErrback(self._cannot_start)

    def _open(self, metrics_address: str) -> None:
        self._service.start()
        for held in self._held:
            self._gate.add(held, self._service.factory(held.listener))
        if metrics_address:
            self._serve_metrics(metrics_address)
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reload))
        # A supervisor starts its children with SIGHUP blocked, so that an early one is late and not deadly.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        self._every(STATE_EVERY, self._watch_state)
        if self._notifier.watchdog:
            self._every(self._notifier.watchdog / 2, self._feed_watchdog)
        where = [held.listener.address for held in self._held]
        inherited = sum(held.inherited for held in self._held)
        self._log.notice("start", listen=where, inherited=inherited, connections=self._gate.most)
        self._notifier.send("READY=1", f"STATUS={self._told()}")

    def _cannot_start(self, failure: Failure) -> None:
        _twisted.failure("cannot start", failure)
        self.status = 1
        self._gate.close()
        for held in self._held:
            held.release()
        self._reactor.stop()

    def _serve_metrics(self, address: str) -> None:
        """Mail does not wait for its statistics: without the page the sidecar serves all the same."""
        try:
            held = hold(Listener(address))
        except ListenError as error:
            self._log.error("metrics", text=str(error))
            return
        metrics_page.serve(self._page, held, self._metrics, self._told)

    def _every(self, seconds: float, function: Callable[[], None]) -> None:
        call = LoopingCall(function)
        call.clock = self._reactor
        ended = call.start(seconds, now=False)
        ended.addErrback(lambda failure: _twisted.failure("a periodic task ended", failure))

    def _feed_watchdog(self) -> None:
        if self._service.healthy():
            self._notifier.send("WATCHDOG=1")
        else:
            self._log.error("unhealthy", text="the watchdog is not fed; the service manager will restart us")

    def _told(self) -> str:
        """The state of the service, and that it goes on with settings with which it would not start again."""
        state = self._service.state()
        return (
            f"degraded settings=refused{state.removeprefix('ok').removeprefix('degraded')}"
            if self._refused
            else state
        )

    def _degraded(self) -> float:
        return 0.0 if self._told() == "ok" else 1.0

    def _watch_state(self) -> None:
        state = self._told()
        if state == self._state:
            return
        if self._state or state != "ok":
            self._log.write("notice" if state == "ok" else "warning", "state", state=state)
        self._state = state
        self._notifier.send(f"STATUS={state}")

    def _reload(self) -> None:
        if self._stopping:
            return
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={now}")
        self._refused = True
        with _twisted.failuresHandled("while reloading"):
            self._take_over()
        if self._refused:
            self._reload_failed.count()
        self._watch_state()
        self._notifier.send("READY=1", f"STATUS={self._state}")

    def _take_over(self) -> None:
        try:
            self._service.reload()
        except SettingsError as error:
            for problem in error.problems:
                self._log.error("config_reload_failed", problem=str(problem))
        else:
            self._refused = False
            self._log.notice("reload")

    def _on_term(self, *_: object) -> None:
        """Runs in the signal handler. The second one ends the process where it stands."""
        if self._stopping:
            os._exit(0)
        self._stopping = True
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.setitimer(signal.ITIMER_REAL, STOP)
        self._reactor.callFromThread(self._drain)

    def _drain(self) -> None:
        self._notifier.send("STOPPING=1")
        self._log.notice("stop", connections=self._gate.open)
        self._gate.close()
        self._page.close()
        draining = maybeDeferred(self._service.drain)
        draining.addTimeout(DRAIN, self._reactor)
        draining.addErrback(lambda failure: _twisted.failure("while draining", failure))
        draining.addCallback(lambda _: self._gate.hang_up().addTimeout(FLUSH, self._reactor))
        draining.addErrback(_forgive_slow_peer)
        draining.addBoth(lambda _: self._reactor.stop())


def _forgive_slow_peer(failure: Failure) -> None:
    failure.trap(TimeoutError)  # type: ignore[no-untyped-call]
