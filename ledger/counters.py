"""The counters of the reference ledger: what was taken, from whom and when.

Knows how limits are judged on what was taken before. Must not know charges, a database or what time it is.

Each thing taken is an object of its own. Giving it back, moving it (the clock was set back) or forgetting it
(a reset) changes that very object, so no bookkeeping can miss it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.charges import Amounts, Held, Refused, last_to_reopen
from ledger.limits import PER_MESSAGE, Limit, Standing, Unit, bucket_of, oldest_counted, reopens_at

_Key = tuple[str, Unit, int]  # subject, unit, window


@dataclass(slots=True)
class Taking:
    """`amount` of `unit`, taken in sub-window `bucket`."""

    unit: Unit
    bucket: int
    amount: int


class Counters:
    """All that was taken and may still count."""

    def __init__(self) -> None:
        self._taken: dict[_Key, list[Taking]] = {}

    def take(self, limits: Iterable[Held], amounts: Amounts, now: float) -> list[Taking]:
        """Take `amounts` under each limit with a window, once where two limits share a counter."""
        takings = []
        for key in dict.fromkeys(_key(subject, limit) for subject, limit, _ in limits if limit.window):
            amount = getattr(amounts, key[1])
            if amount:
                taking = Taking(key[1], bucket_of(now, key[2]), amount)
                self._taken.setdefault(key, []).append(taking)
                takings.append(taking)
        return takings

    def standings(self, limits: Iterable[Held], now: float) -> tuple[Standing, ...]:
        """What each subject has used of each limit at `now`."""
        return tuple(self._standing(subject, limit, now) for subject, limit, _ in limits)

    def failing(self, limits: Iterable[Held], whole: Amounts, over: Amounts, now: float) -> list[Held]:
        """The enforced limits under which `over` cannot be taken, `whole` being all the message has."""
        failing = []
        for held in limits:
            subject, limit, enforce = held
            wanted = getattr(over, limit.unit)
            if limit.window == PER_MESSAGE:
                fits = getattr(whole, limit.unit) <= limit.amount
            else:
                fits = self._standing(subject, limit, now).used + wanted <= limit.amount
            if enforce and wanted and not fits:
                failing.append(held)
        return failing

    def refused(self, failing: Iterable[Held], amounts: Amounts, now: float) -> Refused:
        """The refusal of `amounts` by the one of the failing limits that reopens last."""
        return last_to_reopen(
            Refused(limit, self._standing(subject, limit, now), self._reopens(subject, limit, amounts, now))
            for subject, limit, _ in failing
        )

    def forget(self, subject: str, now: float) -> int:
        """Forget what `subject` has used; gives how many counters held something."""
        mine = [key for key in self._taken if key[0] == subject]
        held = sum(1 for key in mine if sum(amount for _, amount in self._buckets(key, now)))
        for key in mine:
            del self._taken[key]
        return held

    def _buckets(self, key: _Key, now: float) -> list[tuple[int, int]]:
        """What counts at `now`; what lies in the future is now's from here on."""
        current, oldest = bucket_of(now, key[2]), oldest_counted(now, key[2])
        takings = [taking for taking in self._taken.get(key, ()) if taking.bucket >= oldest]
        self._taken[key] = takings
        for taking in takings:
            taking.bucket = min(taking.bucket, current)
        return [(taking.bucket, taking.amount) for taking in takings]

    def _standing(self, subject: str, limit: Limit, now: float) -> Standing:
        if limit.window == PER_MESSAGE:
            return Standing(subject, limit, 0)
        buckets = self._buckets(_key(subject, limit), now)
        used = sum(amount for _, amount in buckets)
        reopens = reopens_at(buckets, limit, 1, now) if used >= limit.amount else None
        return Standing(subject, limit, used, reopens)

    def _reopens(self, subject: str, limit: Limit, amounts: Amounts, now: float) -> float | None:
        if limit.window == PER_MESSAGE:
            return None
        return reopens_at(self._buckets(_key(subject, limit), now), limit, getattr(amounts, limit.unit), now)


def _key(subject: str, limit: Limit) -> _Key:
    return subject, limit.unit, limit.window
