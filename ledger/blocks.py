"""Blocks: who is stopped, why, by whom and until when; grants are kept in the same form.

Knows the life of a block. Must not know where blocks are kept, or what time it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

Extent = Literal["sending", "login", "limits"]
EXTENTS: tuple[Extent, ...] = ("sending", "login")  # those that stop somebody
_SET = 5.0  # seconds: a wall clock that is further off has been set (ledger.clock)


def actions_of(extent: Extent) -> tuple[str, str]:
    """What the audit trail calls keeping a block or grant, and lifting it."""
    return ("grant", "revoke") if extent == "limits" else ("block", "lift")


@dataclass(frozen=True, slots=True)
class Block:
    """A stop for `subject` (``login:alice``, ``domain:example.org``, ``relay`` …).

    `extent` ``sending`` refuses mail, ``login`` refuses AUTH as well. `start` and `end` are epoch seconds;
    `end` None is for good. `contact` is what the blocked sender may read. `version` grows with each change.

    One of the extent ``limits`` stops nobody: it is a grant with these `terms` (ledger.grants), kept like a
    block so that it has the same copies, versions and tombstones.
    """

    id: str
    subject: str
    extent: Extent
    author: str
    reason: str
    contact: str
    start: float
    end: float | None
    version: int = 1
    terms: str = ""

    @property
    def is_grant(self) -> bool:
        """Whether this is a grant."""
        return self.extent == "limits"

    @property
    def said(self) -> str:
        """Why, for the audit trail; of a grant with what was granted."""
        return f"{self.terms}: {self.reason}" if self.is_grant else self.reason

    def holds(self, now: float) -> bool:
        """Whether the block is in force at `now` (epoch seconds)."""
        return self.start <= now and (self.end is None or now < self.end)


class Blocklist:
    """All blocks of one generation, without grants, found by subject. Never changes: a new generation is a
    new Blocklist."""

    __slots__ = ("_by_subject", "_now")

    def __init__(self, blocks: Iterable[Block] = (), now: Callable[[], float] | None = None) -> None:
        """`now` tells the time by which these blocks start and end, where that is another than `find` is
        told."""
        self._now = now
        self._by_subject: dict[str, list[Block]] = {}
        for block in sorted((one for one in blocks if not one.is_grant), key=_longest_first):
            self._by_subject.setdefault(block.subject, []).append(block)

    def find(
        self, subjects: Iterable[str], now: float, *, extents: tuple[Extent, ...] = EXTENTS
    ) -> Block | None:
        """The block that stops one of `subjects` at `now` (epoch seconds), or None.

        Of the first subject that has one, the one that lasts longest. Mail is stopped by both extents, AUTH
        by ``login`` only.
        """
        if not self._by_subject:
            return None
        now = now if self._now is None else self._now()
        for subject in subjects:
            for block in self._by_subject.get(subject, ()):
                if block.extent in extents and block.holds(now):
                    return block
        return None

    def __len__(self) -> int:
        return sum(map(len, self._by_subject.values()))


class Calendar:
    """When blocks and grants start and end for a process, so that a wall clock that is set while it runs ends
    none and begins none: what is left of one is counted from when it was first read here.

    `wall` is the wall clock, `uptime` one that nobody sets; both in seconds.
    """

    def __init__(self, wall: Callable[[], float], uptime: Callable[[], float]) -> None:
        self._wall = wall
        self._uptime = uptime
        self._shift = wall() - uptime()
        self._seen: dict[tuple[str, int], float] = {}

    def tell(self) -> float:
        """Epoch seconds as they were when we began, gone on evenly."""
        return self._uptime() + self._shift

    def read(self, blocks: Iterable[Block]) -> Blocklist:
        """The blocks of a generation."""
        return Blocklist(self.date(blocks), self.tell)

    def date(self, blocks: Iterable[Block]) -> list[Block]:
        """The blocks and grants of a generation, by the time that `tell` gives."""
        blocks = tuple(blocks)
        ahead = self._wall() - self.tell()  # by so much the wall clock was set
        self._seen = {(b.id, b.version): self._seen.get((b.id, b.version), ahead) for b in blocks}
        return [_earlier(b, self._seen[b.id, b.version]) for b in blocks]


def _earlier(block: Block, seconds: float) -> Block:
    end = None if block.end is None else block.end - seconds
    return replace(block, start=block.start - seconds, end=end) if abs(seconds) > _SET else block


def _longest_first(block: Block) -> tuple[float, str]:
    return (float("-inf") if block.end is None else -block.end, block.id)
