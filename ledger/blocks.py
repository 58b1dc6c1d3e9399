"""Blocks: who is stopped, why, by whom and until when.

Knows the life of a block. Must not know where blocks are kept, or what time it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Extent = Literal["sending", "login"]


@dataclass(frozen=True, slots=True)
class Block:
    """A stop for `subject` (``login:alice``, ``domain:example.org``, ``relay`` …).

    `extent` ``sending`` refuses mail, ``login`` refuses AUTH as well. `start` and `end` are epoch seconds; `end`
    None is for good. `contact` is what the blocked sender may read. `version` grows with each change.
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

    def holds(self, now: float) -> bool:
        """Whether the block is in force at `now` (epoch seconds)."""
        return self.start <= now and (self.end is None or now < self.end)
