"""Limits: how they are written, and the arithmetic of a sliding window.

Knows amounts, windows and sub-windows. Must not know who pays, where counters are kept, or what time it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["messages", "recipients", "bytes"]
SUBWINDOWS = 60  # a window is counted in sixtieths: capacity returns at most one sixtieth late


@dataclass(frozen=True, slots=True)
class Limit:
    """`amount` of `unit` in any `window` seconds; `window` 0 means per message."""

    amount: int
    unit: Unit
    window: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What `subject` has used of `limit`; `reopens_at` (epoch seconds) is when one more fits, None if it does now."""

    subject: str
    limit: Limit
    used: int
    reopens_at: float | None = None

    @property
    def remaining(self) -> int:
        """What is left, never below 0."""
        return max(0, self.limit.amount - self.used)


def parse_limit(text: str) -> Limit:
    """``500 recipients per day``, ``100 messages per 10 minutes``, ``25 MB per message``. Raises ValueError."""
    raise ValueError(text)
