"""Exchange: something new that serves in the place of something old, once it can.

Knows how long the new one may take, and that the old one serves meanwhile. Must not know what either of them
is: it is started, asked for its state, and stopped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

PATIENCE = 10.0  # seconds that a newly opened one gets until it serves
LOOK = 0.05  # seconds between two looks at it

_twisted = Logger()


class Serving(Protocol):
    """What can be exchanged. `state` is ``unavailable`` while it cannot serve."""

    def start(self) -> None:
        """Begin; waits for nothing."""

    def state(self) -> str:
        """How it is."""

    def stop(self) -> Awaitable[None] | None:
        """Let go."""


T = TypeVar("T", bound=Serving)


class Exchange(Generic[T]):
    """The place of the one called `name`, where `serving` serves, opened by `settings` and not yet started.

    `open` opens another one (``open(settings, reactor=, log=)``); `take` is told when that one serves.
    """

    def __init__(
        self,
        name: str,
        settings: object,
        serving: T,
        *,
        open: Callable[..., T],
        take: Callable[[T], None],
        reactor: Any,
        log: Any,
    ) -> None:
        self._name = name
        self._settings = self._wanted = settings
        self._serving = serving
        self._open = open
        self._take = take
        self._reactor = reactor
        self._log = log
        self._coming: tuple[object, T, float] | None = None  # its settings, itself, when we give it up
        self._timer: Any = None

    def want(self, settings: object) -> None:
        """From now on these settings are meant. If they are others than those by which the present one was
        opened, a new one takes over as soon as it can serve. If it cannot in time, the present one stays,
        unless that one cannot serve either; then the same settings may be wanted again."""
        self._wanted = settings
        if self._coming is not None:
            if settings == self._coming[0]:
                return
            self.stop()
        if settings == self._settings:
            return
        new = self._open(settings, reactor=self._reactor, log=self._log)
        new.start()
        self._coming = settings, new, self._reactor.seconds() + PATIENCE
        self._look()

    def state(self) -> str:
        """How the present one is; ``behind`` while it serves and is not the one that is wanted.

        The next start will have none but that one.
        """
        state = self._serving.state()
        return "behind" if state == "ok" and self._wanted != self._settings else state

    def stop(self) -> None:
        """Give up the one that has not taken over yet, if there is one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._coming is not None:
            _, new, _ = self._coming
            self._coming = None
            _let_go(new)

    def _look(self) -> None:
        if self._coming is None:
            return
        self._timer = None
        settings, new, ends = self._coming
        if new.state() != "unavailable":
            self._take_over(settings, new, f"the new {self._name} serves")
        elif self._reactor.seconds() < ends:
            self._timer = self._reactor.callLater(LOOK, self._look)
        elif self._serving.state() == "unavailable":
            self._take_over(settings, new, f"the new {self._name} is unavailable, as the old one is")
        else:
            text = f"the new {self._name} is unavailable; the old one goes on serving"
            self._log.error("settings", text=f"{text}; reload again once the new one can be reached")
            self.stop()

    def _take_over(self, settings: object, new: T, text: str) -> None:
        gone, self._serving, self._settings, self._coming = self._serving, new, settings, None
        self._take(new)
        self._log.notice("settings", text=text)
        _let_go(gone)


def _let_go(gone: Serving) -> None:
    maybeDeferred(gone.stop).addErrback(lambda failure: _twisted.failure("while closing", failure))
