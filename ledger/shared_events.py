"""Events and blocks set by themselves, in the ledger that several hosts share.

Knows what is said for a verb, what its answer means, and what becomes of an event while Redis is away: this
host's file keeps it, and it is told to Redis later. Must not know Redis, nor why an event is noted.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from ledger import event_script
from ledger.blocks import Block
from ledger.charges import Unavailable
from ledger.copies import Copies
from ledger.events import Event
from ledger.runner import Runner
from ledger.script import Clock
from ledger.tombstones import Tombstone

TOLD_AT_ONCE = 64  # events that are read from the file at one time


class SharedEvents:
    """A part of `ledger.shared.SharedLedger`."""

    runner: Runner
    copies: Copies
    _telling = False

    def note_event(self, event: Event) -> Deferred[bool]:
        """See `charges.Ledger`, as for all verbs below."""

        async def note() -> bool:
            try:
                return await self.runner.ask(event_script.note(event), lambda answer, _: bool(answer == b"1"))
            except Unavailable:
                return await self.copies.local.note_event(event)

        return Deferred.fromCoroutine(note())

    def events_of(self, subject: str) -> Deferred[tuple[Event, ...]]:
        async def found() -> tuple[Event, ...]:
            try:
                return await self.runner.ask(event_script.of(subject), event_script.read_events)
            except Unavailable:
                return await self.copies.local.events_of(subject)

        return Deferred.fromCoroutine(found())

    def history(self) -> Deferred[tuple[Tombstone, ...]]:
        return Deferred.fromCoroutine(self.copies.history())

    def block_once(self, block: Block) -> Deferred[bool]:
        return Deferred.fromCoroutine(self.copies.block_once(block))

    async def tell_events(self, log: Any) -> None:
        """Tell Redis, which is back, what this host noted meanwhile."""
        if self._telling:
            return
        self._telling, local = True, self.copies.local
        try:
            while events := await local.events_after(0, TOLD_AT_ONCE):
                for event in events:
                    await self.runner.hand(event_script.note(event), _done)
                    await local.forget_event(event.id)
        except (Unavailable, CancelledError) as trouble:
            log.warning("ledger", store="redis", reason=f"not all events are told yet: {trouble}")
        finally:
            self._telling = False


def _done(answer: Any, clock: Clock) -> None:
    """Whatever it is: it is there."""
