"""Marks: what is remembered under a key for a while, counted, and bounded in one step.

Knows that marks end, and that a note is taken whole or not at all. Must not know what a mark stands for, nor
what time it is; `Marks` is the plain form in memory that every store is held to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Under this key stand the logins that the operator has flushed, as "login id".
FLUSHES = "flushes"
#: A key, and the name of one mark under it.
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Mark:
    """`name` under `key` for `seconds` (None: until it is dropped). `most` > 0 refuses it where that many
    other marks are under the key already. Noted again it is one mark still, and lasts anew."""

    key: str
    name: str
    seconds: float | None
    most: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """How many marks are under a key, and whether the one that was asked for is among them."""

    count: int
    holds: bool


class Marks:
    """Marks in memory; `now` in seconds that never go back."""

    def __init__(self) -> None:
        self._marks: dict[str, dict[str, float]] = {}

    def look(self, pairs: Iterable[Pair], now: float) -> tuple[Seen, ...]:
        """What is under each key now."""
        found = []
        for key, name in pairs:
            living = self._living(key, now)
            found.append(Seen(len(living), name in living))
        return tuple(found)

    def note(self, marks: Iterable[Mark], now: float) -> bool:
        """Take all marks, or none and say False."""
        marks = tuple(marks)
        for mark in marks:
            if mark.most and len(self._living(mark.key, now).keys() - {mark.name}) >= mark.most:
                return False
        for mark in marks:
            end = float("inf") if mark.seconds is None else now + mark.seconds
            self._marks.setdefault(mark.key, {})[mark.name] = end
        return True

    def drop(self, pairs: Iterable[Pair]) -> None:
        """Forget these marks; an empty name forgets all under its key."""
        for key, name in pairs:
            if name:
                self._marks.get(key, {}).pop(name, None)
            else:
                self._marks.pop(key, None)

    def names(self, key: str, now: float) -> tuple[str, ...]:
        """The marks under a key, in order of their names."""
        return tuple(sorted(self._living(key, now)))

    def _living(self, key: str, now: float) -> dict[str, float]:
        living = {name: end for name, end in self._marks.get(key, {}).items() if end > now}
        if living:
            self._marks[key] = living
        else:
            self._marks.pop(key, None)
        return living
