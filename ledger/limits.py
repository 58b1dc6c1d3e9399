"""Limits: how they are written, and the arithmetic of a sliding window.

Knows amounts, windows and sub-windows. Must not know who pays, where counters are kept, or what time it is.

A window is counted in sixtieths. What was taken at t lies in sub-window floor(t / (window / 60)); what
counts at `now` is the sub-window of now, the sixty before it and all later ones. So nothing is forgotten
before its window is over, and nothing is held longer than one sixtieth after that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Unit = Literal["messages", "recipients", "bytes"]
SUBWINDOWS = 60  # a window is counted in sixtieths: capacity returns at most one sixtieth late
AMOUNT_MAX = 2**48  # 281 TB: far above any mail, far below what a 64 bit sum can hold
PER_MESSAGE = 0

_SPANS = {"minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_WINDOW_MAX = 31 * 86400
_BYTES = {
    "GB": 10**9, "MB": 10**6, "kB": 10**3, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "bytes": 1
}  # fmt: skip
_MULTIPLES = {name.lower(): size for name, size in _BYTES.items()} | {"byte": 1}
_COUNTED: dict[str, Unit] = {
    "message": "messages", "messages": "messages", "recipient": "recipients", "recipients": "recipients"
}  # fmt: skip
_WRITTEN = re.compile(
    r"(\d{1,18}(?:\.\d{1,9})?)\s*([a-z]+)\s+per\s+(?:(\d{1,9})\s+)?([a-z]+)", re.IGNORECASE | re.ASCII
)


@dataclass(frozen=True, slots=True)
class Limit:
    """`amount` of `unit` in any `window` seconds (a multiple of 60); `window` 0 means per message."""

    amount: int
    unit: Unit
    window: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What `subject` has used of `limit`.

    `reopens_at` (epoch seconds) is when one more fits, None if it does now (or never: an amount of 0).
    Of a limit per message nothing is ever used.
    """

    subject: str
    limit: Limit
    used: int
    reopens_at: float | None = None

    @property
    def remaining(self) -> int:
        """What is left, never below 0."""
        return max(0, self.limit.amount - self.used)


def parse_limit(text: str) -> Limit:
    """The limit in ``500 recipients per day``, ``100 messages per 10 minutes``, ``25 MB per message``.

    Bytes may be written in kB, MB, GB (powers of 1000) or KiB, MiB, GiB. Raises ValueError.
    """
    written = _WRITTEN.fullmatch(text.strip())
    if written is None:
        raise ValueError(
            f"{text!r} is no limit: write for example 500 recipients per day, or 25 MB per message"
        )
    number, noun, count, span = written.groups()
    amount, unit = _amount(number, noun)
    window = _window(count, span)
    if window == PER_MESSAGE and unit == "messages":
        raise ValueError(f"{text!r} limits nothing: per message there are recipients or bytes")
    return Limit(amount, unit, window)


def _amount(number: str, noun: str) -> tuple[int, Unit]:
    unit: Unit | None = _COUNTED.get(noun.lower())
    multiple = 1 if unit else _MULTIPLES.get(noun.lower())
    if multiple is None:
        raise ValueError(
            f"{noun!r} cannot be limited: messages, recipients, {', '.join(reversed(_BYTES))} can"
        )
    amount = Decimal(number) * multiple
    if amount != int(amount):
        raise ValueError(f"{number} {noun} is no whole number")
    if amount > AMOUNT_MAX:
        raise ValueError(f"{number} {noun} is too much: at most {AMOUNT_MAX} can be counted")
    return int(amount), unit or "bytes"


def _window(count: str | None, span: str) -> int:
    word = span.lower()
    if word == "message" and count is None:
        return PER_MESSAGE
    seconds = _SPANS.get(word.removesuffix("s") if count else word)
    if seconds is None:
        raise ValueError(
            f"per {count + ' ' if count else ''}{span} is no window: per message, minute, hour, day, week or"
            " a number of them (10 minutes) is"
        )
    window = seconds * int(count or 1)
    if not 60 <= window <= _WINDOW_MAX:
        raise ValueError(f"per {count} {span} is no window: from 1 minute to 31 days can be counted")
    return window


def format_limit(limit: Limit) -> str:
    """The limit as people say it; `parse_limit` gives the same limit back."""
    return f"{format_amount(limit.amount, limit.unit)} {format_window(limit.window)}"


def format_amount(amount: int, unit: Unit) -> str:
    """``1 message``, ``500 recipients``, ``25 MB``: bytes in the largest unit that leaves no fraction."""
    if unit != "bytes":
        return f"{amount} {unit.removesuffix('s') if amount == 1 else unit}"
    name, size = next(
        (name, size) for name, size in _BYTES.items() if (amount > 0 and amount % size == 0) or size == 1
    )
    return f"{amount // size} {name}"


def format_window(window: int) -> str:
    """``per message``, ``per hour``, ``per 10 minutes``."""
    if window == PER_MESSAGE:
        return "per message"
    name, span = next((n, s) for n, s in reversed(_SPANS.items()) if window % s == 0)
    return f"per {name}" if window == span else f"per {window // span} {name}s"


def bucket_of(now: float, window: int) -> int:
    """The number of the sub-window that holds `now` (epoch seconds)."""
    return int(now // (window // SUBWINDOWS))


def oldest_counted(now: float, window: int) -> int:
    """The number of the oldest sub-window that still counts at `now`."""
    return bucket_of(now, window) - SUBWINDOWS


def leaves_at(bucket: int, window: int) -> float:
    """When (epoch seconds) what was taken in `bucket` counts no longer."""
    return float((bucket + SUBWINDOWS + 1) * (window // SUBWINDOWS))


def reopens_at(buckets: Iterable[tuple[int, int]], limit: Limit, wanted: int, now: float) -> float | None:
    """When `wanted` more fit, given (sub-window, amount) pairs that count at `now`; None if never.

    Sub-windows later than now's (the clock was set back) are taken as now's.
    """
    if wanted > limit.amount:
        return None
    current = bucket_of(now, limit.window)
    ordered = sorted((min(bucket, current), amount) for bucket, amount in buckets)
    used = sum(amount for _, amount in ordered)
    reopens = now
    for bucket, amount in ordered:
        if used + wanted <= limit.amount:
            break
        used -= amount
        reopens = leaves_at(bucket, limit.window)
    return reopens
