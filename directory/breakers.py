"""Which server is asked: their order, a breaker for each, and when one that failed is tried again.

Knows failures, times and weights. Must not know what a server is asked, nor the clock: `now` is in seconds
that never go back, and `random` gives numbers from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Seconds of rest after the first failure: one server alone is soon tried again, while others answer there is
#: time. At most LONGEST; half to all of it, by chance.
ALONE, AMONG_OTHERS, LONGEST = 1.0, 4.0, 5.0
TOLD_EVERY = 60.0  # seconds after which the same trouble is told again
PROBE_MAX = 10.0  # seconds after which a probe that never ended is forgotten


@dataclass(slots=True)
class _Breaker:
    failures: int = 0
    opens_at: float = 0.0
    probe_since: float | None = None
    why: str = ""
    told_at: float = 0.0


class Breakers:
    """One breaker per server; `weights` all 0 keeps the order as written."""

    def __init__(self, weights: Sequence[int], random: Callable[[], float]) -> None:
        self._weights = tuple(weights)
        self._random = random
        self._breakers = [_Breaker() for _ in weights]

    def candidates(self, now: float) -> list[int]:
        """The servers to try, in order; empty when all of them failed a moment ago.

        A server whose time is over is tried by one caller only, until that one has said how it went.
        """
        return [index for index in self._order() if self._may_try(self._breakers[index], now)]

    def begin(self, index: int, now: float) -> bool:
        """Say that a server is about to be asked; False when another caller is trying it out right now."""
        breaker = self._breakers[index]
        if not self._may_try(breaker, now):
            return False
        if breaker.failures:
            breaker.probe_since = now
        return True

    def is_down(self, index: int) -> bool:
        """Whether the server did not answer when it was asked last."""
        return self._breakers[index].failures > 0

    def succeeded(self, index: int) -> bool:
        """The server answered. True when it had failed before."""
        breaker = self._breakers[index]
        was_down = breaker.failures > 0
        breaker.failures, breaker.probe_since, breaker.why = 0, None, ""
        return was_down

    def failed(self, index: int, now: float, why: str) -> bool:
        """The server did not answer. True when that is to be told: it had been fine, or fails for another
        reason, or has failed for another minute."""
        breaker = self._breakers[index]
        is_new = breaker.why != why or now - breaker.told_at >= TOLD_EVERY
        breaker.told_at = now if is_new else breaker.told_at
        breaker.failures += 1
        least = ALONE if len(self._breakers) == 1 else AMONG_OTHERS
        span = min(LONGEST, least * 2 ** min(breaker.failures - 1, 3))
        breaker.opens_at = now + span * (0.5 + 0.5 * self._random())
        breaker.probe_since = None
        breaker.why = why
        return is_new

    def given_up(self, index: int) -> None:
        """Whoever asked the server waits no more: that says nothing about the server."""
        self._breakers[index].probe_since = None

    def why(self) -> str:
        """Why servers are not asked, for a message."""
        return "; ".join(dict.fromkeys(breaker.why for breaker in self._breakers if breaker.why))

    @property
    def all_down(self) -> bool:
        """Whether no server answered when it was asked last."""
        return all(breaker.failures for breaker in self._breakers)

    def _may_try(self, breaker: _Breaker, now: float) -> bool:
        if not breaker.failures:
            return True
        probing = breaker.probe_since is not None and now - breaker.probe_since < PROBE_MAX
        return now >= breaker.opens_at and not probing

    def _order(self) -> list[int]:
        rest = list(range(len(self._weights)))
        if not any(self._weights):
            return rest
        order = []
        while rest:
            at = self._random() * sum(self._weights[i] or 0.001 for i in rest)
            for i in rest:
                at -= self._weights[i] or 0.001
                if at <= 0:
                    break
            order.append(i)
            rest.remove(i)
        return order
