"""When a limit that trips again and again becomes a block, and a block that comes back one for good.

Knows how tripped windows and earlier blocks are counted, and the words of a block that nobody has asked for.
Must not know where either is kept, or what time it is.

The block's id follows from the first trip that counts for it, so hosts that come to it at the same time come
to the same block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from ledger.blocks import Block
from ledger.events import ITSELF, Event, Kind
from ledger.limits import parse_limit
from ledger.tombstones import Tombstone

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


class Escalation(NamedTuple):
    """`windows` (0: never) tripped `within` seconds set a block of `block` seconds; one that has come back
    `returns` times (0: never) in `period` seconds is for good."""

    windows: int = 3
    within: float = 86400.0
    block: float = 3600.0
    returns: int = 3
    period: float = 7 * 86400.0


def decide(
    subject: str,
    events: Iterable[Event],
    history: Iterable[Tombstone],
    numbers: Escalation,
    now: float,
    contact: str,
) -> Block | None:
    """The block that is due for `subject` at `now` (epoch seconds), None when none is.

    `events` and `history` are what is known of the subject; what came before its last block ended or was
    lifted counts no more, but that there was one does. `contact` is whom the sender may ask.
    """
    history = tuple(history)
    mine = [one for one in history if one.block.subject == subject and not one.block.is_grant]
    if not numbers.windows or any(one.lifted is None and one.block.holds(now) for one in mine):
        return None
    trips = windows(events, numbers.within, max((_over(one) for one in mine), default=0.0))
    if len(trips) < numbers.windows:
        return None
    before = [one for one in mine if one.block.author == ITSELF and one.block.start > now - numbers.period]
    for_good = 0 < numbers.returns <= len(before)
    id = _id(trips[0], {one.block.id for one in history})
    return _block(id, subject, trips, len(before) if for_good else 0, numbers, now, contact)


def windows(events: Iterable[Event], within: float, since: float = 0.0) -> list[Event]:
    """The trips that count as a window each, the oldest first: of one limit no two that are less than its
    window apart, and none older than `within` seconds before the newest or not after `since`.

    All moments are those of the store's clock, so one that is set does not count anything twice.
    """
    trips = sorted((one for one in events if one.kind == "trip"), key=lambda one: one.at)
    counted: list[Event] = []
    last: dict[tuple[str, int], float] = {}
    for one in trips:
        limit = parse_limit(one.limit)
        key = limit.unit, limit.window
        if one.at > trips[-1].at - within and one.at >= last.get(key, 0.0) + limit.window:
            last[key] = one.at
            counted += [one] if one.at > since else []
    return counted


def event_of(block: Block, mta: str) -> Event:
    """What is told of a block that has set itself; its id is the block's."""
    kind: Kind = "permanent" if block.end is None else "block"
    return Event(block.id, kind, block.subject, mta, block.subject, text=block.reason)


def _over(one: Tombstone) -> float:
    """When a block that does not hold any more has ended."""
    ends = [end for end in (one.lifted, one.block.end) if end is not None]
    return min(ends, default=0.0)


def _block(
    id: str, subject: str, trips: list[Event], returned: int, numbers: Escalation, now: float, contact: str
) -> Block:
    limits = ", ".join(dict.fromkeys(one.limit for one in trips))
    reason = f"{len(trips)} windows tripped within {_span(numbers.within)} ({limits[:100]})"
    ask = f"ask {contact or 'the postmaster'}"
    if returned:
        reason += f", after {returned} blocks within {_span(numbers.period)}: for good"
        said = f"its limits were exceeded again and again: {ask} to lift this"
        return Block(id, subject, "sending", ITSELF, reason, said, now, None)
    end = now + numbers.block
    until = datetime.fromtimestamp(-(-end // 60) * 60, UTC)
    said = f"its limits were exceeded {len(trips)} times, sending reopens {until:%Y-%m-%d %H:%M} UTC."
    said += f" If that was not you change its password, or {ask}"
    return Block(id, subject, "sending", ITSELF, reason, said, now, end)


def _id(first: Event, taken: set[str]) -> str:
    """Five letters and digits as every block has, from the trip that counts first."""
    number = int.from_bytes(
        hashlib.sha256(f"block {first.id} {first.subject}".encode(errors="replace")).digest()
    )
    while True:
        id = ""
        for _ in range(5):
            number, letter = divmod(number, len(_LETTERS))
            id += _LETTERS[letter]
        if id not in taken or not number:
            return id


def _span(seconds: float) -> str:
    """``24 h``, ``7 d``, ``10 min``, ``30 s``."""
    for name, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (name == "h" and seconds >= size):
            return f"{seconds / size:g} {name}"
    return f"{seconds:g} s"
