"""A node's own copy of the blocks, kept the same as Redis' in both directions.

Knows when what is copied where: nothing that Redis lost is lost, and nothing that was lifted comes back. Must
not know how either keeps its blocks (ledger.register, charge.lua), nor judge anybody.

The copy in the node's local file is what its sidecars judge by. What others change is merged into it within
POLL; when Redis was away, or its epoch is another one (it was emptied), the whole copy is published again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from secrets import token_hex
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure

from ledger import script
from ledger.blocks import Block
from ledger.bookfile import short_id
from ledger.charges import Unavailable
from ledger.script import Clock, Verb
from ledger.sqlite import SqliteLedger
from ledger.tombstones import Tombstone

SHARED = 512  # verbs that are handed in together

Changed = Callable[[int, tuple[Block, ...]], None]
Hand = Callable[[Verb, Callable[[Any, Clock], Any]], Deferred[Any]]


class Copies:
    """`local` holds this node's copy; `hand` hands a verb to Redis."""

    def __init__(self, local: SqliteLedger, hand: Hand, log: Any) -> None:
        self.local = local
        self._hand = hand
        self._log = log
        self._epoch = b""
        self._seen: tuple[bytes, bytes] = (b"", b"")  # generation, number of changes to blocks
        self._generation = self._local_generation = 0
        self._base = 0  # generations of epochs that are gone
        self._known: tuple[Block, ...] | None = None
        self._watchers: list[Changed] = []
        self._ahead: dict[str, Tombstone] = {}  # what Redis has and the file could not take
        self._said = ""
        self._busy = self._again = self._publish = False
        local.watch(self._local_news)

    def start(self) -> None:
        """Begin to follow the local file."""
        self.local.start()

    def stop(self) -> Deferred[None]:
        """Let go of the local file."""
        return self.local.stop()

    def watch(self, changed: Changed) -> None:
        """See `charges.Ledger.watch`."""
        self._watchers.append(changed)
        if self._known is not None:
            changed(self._total(self._local_generation), self._with_ahead(self._known))

    def away(self) -> None:
        """Redis is away: what it knew is to be compared anew."""
        self._seen = (b"", b"")

    def seen(self, looked: list[bytes | None], fresh: bool) -> None:
        """What a look at Redis gave; `fresh` when it was not there before."""
        generation, epoch, changes = (value or b"" for value in looked)
        publish = fresh or epoch != self._epoch
        moved = self._seen[0] not in (b"", generation)
        stale = publish or changes != self._seen[1]
        if epoch != self._epoch:
            self._base += self._generation
        self._epoch, self._seen = epoch, (generation, changes)
        self._generation = int(generation)
        if moved or publish:
            self._tell()
        if stale:
            self._compare(publish)

    def look(self) -> Verb:
        """The verb whose answer `seen` takes. Each offers a new epoch, so that an emptied Redis shows."""
        return script.look(token_hex(8).encode())

    async def blocks(self) -> tuple[int, tuple[Block, ...]]:
        """See `charges.Ledger.blocks`: this node's copy, after a look at Redis if that serves."""
        with contextlib.suppress(Unavailable):
            await self._fetch()
        generation, known = await self.local.blocks()
        return self._total(generation), known

    async def block(self, block: Block) -> Block:
        """See `charges.Ledger.block`. While Redis is away this node blocks alone and publishes it later."""
        ids = tuple(short_id() for _ in range(8))
        try:
            await self._fetch()
            name, version = await self._hand(script.keep(block, ids), _as_it_is)
        except Unavailable:
            self._log.warning("ledger", store="redis", text="blocked on this host; the others learn it later")
            return await self.local.block(block)
        kept = replace(block, id=script.read(name), version=int(version))
        await self.local.merge((Tombstone(kept, None, None, None),))
        return kept

    async def block_once(self, block: Block) -> bool:
        """See `charges.Ledger.block_once`. While Redis is away this node blocks alone; another that does the
        same gives it the same id, so that they are one block once they meet."""
        try:
            await self._fetch()
            if await self._hand(script.keep_once(block), _as_it_is) != b"1":
                return False
        except Unavailable:
            return await self.local.block_once(block)
        await self.local.merge((Tombstone(block, None, None, None),))
        return True

    async def history(self) -> tuple[Tombstone, ...]:
        """See `charges.Ledger.history`: this node's copy, after a look at Redis if that serves."""
        with contextlib.suppress(Unavailable):
            await self._fetch()
        return await self.local.history()

    async def lift(self, block_id: str, author: str, reason: str) -> bool:
        """See `charges.Ledger.lift`. While Redis is away this node lifts alone and publishes it later."""
        try:
            await self._fetch()
            _, known = await self.local.blocks()
            block = next((block for block in known if block.id == block_id), None)
            if block is None:
                return False
            text = await self._hand(script.lift(block, author, reason), _as_it_is)
        except Unavailable:
            self._log.warning("ledger", store="redis", text="lifted on this host; the others learn it later")
            return await self.local.lift(block_id, author, reason)
        if text:
            await self.local.merge((script.read_block(script.write(block_id), text),))
            return True
        return await self.local.lift(block_id, author, reason)

    async def _fetch(self) -> None:
        """Merge what Redis has into the copy. A file that cannot take it keeps no block from holding here."""
        generation, flat = await self._hand((b"blocks",), _as_it_is)
        self._generation = max(self._generation, int(generation))
        found = script.read_blocks(flat)
        strange = "some blocks cannot be read: does another host run a newer version?"
        try:
            await self.local.merge(found)
            self._ahead = {}
            self._say(strange if len(found) < len(flat) // 2 else "")
        except Unavailable:
            self._ahead = {one.block.id: one for one in found}
            self._base += 1
            self._tell()
            raise

    def _compare(self, publish: bool) -> None:
        """Have both the same, beginning now or when the last comparison has ended."""
        self._publish = self._publish or publish
        if self._busy:
            self._again = True
            return
        self._busy, self._again = True, False
        Deferred.fromCoroutine(self._synchronise()).addBoth(self._compared)

    async def _synchronise(self) -> None:
        publish, self._publish = self._publish, False
        try:
            if publish:
                await self._give(await self.local.history())
            await self._fetch()
        except (Unavailable, CancelledError, ValueError) as trouble:
            self._publish = self._publish or publish
            self._seen = (b"", b"")  # the next look tries again
            self._say(f"blocks not compared: {trouble}")

    async def _give(self, history: tuple[Tombstone, ...]) -> None:
        """Publish the copy, which shares its calls, and have Redis bury what is over."""
        verbs = [*map(script.merge, history), (b"bury",)]
        for at in range(0, len(verbs), SHARED):
            asked = [self._hand(verb, _as_it_is) for verb in verbs[at : at + SHARED]]
            for _, answer in await DeferredList(asked, consumeErrors=True):
                if isinstance(answer, Failure):
                    answer.raiseException()

    def _say(self, reason: str) -> None:
        """Log it once, until there is something else to say."""
        if reason and reason != self._said:
            self._log.warning("ledger", store="redis", reason=reason)
        self._said = reason

    def _compared(self, result: object) -> None:
        self._busy = False
        if isinstance(result, Failure):
            self._log.error("ledger", store="redis", reason=f"blocks not compared: {result.value!r}")
        elif self._again:
            self._compare(False)

    def _local_news(self, generation: int, blocks: tuple[Block, ...]) -> None:
        self._local_generation, self._known = generation, blocks
        self._tell()

    def _tell(self) -> None:
        """To everybody who watches, once this node's own copy has been read."""
        if self._known is not None:
            blocks = self._with_ahead(self._known)
            for changed in self._watchers:
                changed(self._total(self._local_generation), blocks)

    def _with_ahead(self, known: tuple[Block, ...]) -> tuple[Block, ...]:
        if not self._ahead:
            return known
        held = {block.id: Tombstone(block, None, None, None) for block in known}
        held |= {id: one for id, one in self._ahead.items() if id not in held or one.beats(held[id])}
        return tuple(one.block for one in held.values() if one.lifted is None)

    def _total(self, local: int) -> int:
        """One number that moves when either generation moves."""
        return self._base + self._generation + local


def _as_it_is(answer: Any, clock: Clock) -> Any:
    return answer
