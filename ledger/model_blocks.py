"""The reference ledger's blocks, with their tombstones.

Knows what the verbs of `ledger.charges` for blocks mean. Must not know charges, a database, or what time it
is: whoever inherits this says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ledger.blocks import Block, actions_of
from ledger.charges import ENDED_BLOCK_KEPT
from ledger.tombstones import Tombstone


class BlocksModel:
    """A part of `ledger.model.ModelLedger`, which begins every verb and tells that something has moved."""

    audit: list[tuple[float, str, str, str, str]]
    _clock: Callable[[], float]
    _generation: int

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[str, Block] = {}
        self._lifted: dict[str, tuple[float, str, str]] = {}

    def _begin(self) -> float:
        raise NotImplementedError

    def _moved(self) -> None:
        raise NotImplementedError

    async def blocks(self) -> tuple[int, tuple[Block, ...]]:
        self._begin()
        return self._generation, self._current()

    async def block(self, block: Block) -> Block:
        now = self._begin()
        old = self._blocks.get(block.id)
        kept = replace(block, version=old.version + 1) if old and block.id not in self._lifted else block
        if not block.id or block.id in self._lifted:
            kept = replace(block, id=f"b{len(self._blocks) + 1}", version=1)
        self._blocks[kept.id] = kept
        self.audit.append((now, kept.author, actions_of(kept.extent)[0], kept.subject, kept.said))
        self._moved()
        return kept

    async def lift(self, block_id: str, author: str, reason: str) -> bool:
        now = self._begin()
        if block_id not in self._blocks or block_id in self._lifted:
            return False
        self._lifted[block_id] = now, author, reason
        lifted = self._blocks[block_id]
        self.audit.append((now, author, actions_of(lifted.extent)[1], lifted.subject, reason))
        self._moved()
        return True

    async def block_once(self, block: Block) -> bool:
        self._begin()
        return block.id not in self._blocks and bool(await self.block(block))

    async def history(self) -> tuple[Tombstone, ...]:
        self._begin()
        nobody = (None, None, None)
        held = (Tombstone(block, *self._lifted.get(block.id, nobody)) for block in self._blocks.values())
        return tuple(sorted(held, key=lambda one: (one.block.start, one.block.id)))

    def _current(self) -> tuple[Block, ...]:
        since = self._clock() - ENDED_BLOCK_KEPT
        held = (block for block in self._blocks.values() if block.id not in self._lifted)
        return tuple(block for block in held if block.end is None or block.end > since)
