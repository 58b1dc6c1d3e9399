"""Blocks with their end: what is left of a block when it is lifted, and which of two copies is right.

Knows versions. Must not know where copies are kept, or what time it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger.blocks import Block

KEPT = 30 * 86400.0  # seconds for which a tombstone keeps the block from coming back, and ended ones are told


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A block that was kept once, and who lifted it when (epoch seconds; None while it isn't lifted)."""

    block: Block
    lifted: float | None
    lifted_by: str | None
    lifted_why: str | None

    def beats(self, other: Tombstone) -> bool:
        """Whether this copy of a block stands in place of `other`: the highest version wins, of equal ones
        a tombstone over its block."""
        if self.block.version != other.block.version:
            return self.block.version > other.block.version
        return self.lifted is not None and other.lifted is None

    def is_over(self, now: float) -> bool:
        """Whether at `now` no other node needs this any more: lifted, or ended, long ago."""
        gone = self.block.end if self.lifted is None else self.lifted
        return gone is not None and gone < now - KEPT
