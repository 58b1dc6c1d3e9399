"""Reading what has happened, for the operator's command: events, the audit trail, blocks.

Knows where each store keeps them. Must not know what is done with them, and changes nothing: no file is made,
no lock is held, nobody waits for a reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from ledger import event_script
from ledger.bookfile import TROUBLE, BookFile, mend
from ledger.charges import Unavailable
from ledger.clock import HostClock
from ledger.event_script import read_events
from ledger.events import Event
from ledger.redis import Link, Trouble
from ledger.script import Clock, Verb, read, read_blocks
from ledger.settings import LedgerSettings
from ledger.tombstones import Tombstone

T = TypeVar("T")


class Deed(NamedTuple):
    """One line of the audit trail: who did what to whom when (epoch seconds), and why. `id` is that of a
    block or an app password."""

    at: float
    author: str
    action: str
    subject: str
    id: str
    reason: str


class Page(NamedTuple):
    """Some events, the oldest first. `last` is the serial of the newest there is, `era` names what counts
    them: in another one serials begin anew."""

    era: str
    last: int
    events: tuple[Event, ...]


@contextlib.contextmanager
def open_lookout(settings: LedgerSettings) -> Iterator[Lookout]:
    """Where things can be seen from; every verb raises Unavailable for what cannot be seen now."""
    lookout = SharedLookout(settings) if settings.kind == "redis" else Lookout(settings)
    try:
        yield lookout
    finally:
        lookout.close()


class Lookout:
    """What one host's file has."""

    def __init__(self, settings: LedgerSettings) -> None:
        self._path = settings.sqlite.path
        self._file: BookFile | None = None
        self._opened = 0  # files, one after the other: a new one may have the inode of the one before

    def events_after(self, serial: int, most: int) -> Page:
        """The events after `serial`, `most` at most."""

        def look(file: BookFile) -> Page:
            return Page(f"{self._opened}", file.book.events.last(), file.book.events.after(serial, most))

        return self._see(look)

    def event(self, id: str) -> Event | None:
        """The event of that id."""
        return self._see(lambda file: file.book.events.find(id))

    def deeds(self, most: int) -> tuple[Deed, ...]:
        """The newest lines of the audit trail, the newest first."""
        return self._see(lambda file: tuple(Deed(*row) for row in file.book.register.trail(most)))

    def history(self) -> tuple[Tombstone, ...]:
        """Every block that is known, ended and lifted ones too, oldest first."""
        return self._see(lambda file: file.book.history())

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _see(self, look: Callable[[BookFile], T]) -> T:
        try:
            if self._file is not None and self._file.moved_away():
                self.close()
            if self._file is None:
                if not self._path.exists():
                    raise Unavailable(
                        f"{self._path}: there is no ledger yet; policyd makes it when it starts"
                    )
                self._file = BookFile(self._path)
                self._opened += 1
                self._file.book.peek(HostClock().tell)
            return look(self._file)
        except TROUBLE as trouble:
            raise Unavailable(f"{self._path}: {trouble}: {mend(trouble, self._path)}") from trouble


class SharedLookout(Lookout):
    """What Redis has, and what this host's file has besides: what was done while Redis was away."""

    def __init__(self, settings: LedgerSettings) -> None:
        super().__init__(settings)
        self._runner = asyncio.Runner()
        self._link = Link(settings.redis)

    def events_after(self, serial: int, most: int) -> Page:
        era, last, *flat = self._ask(event_script.after(serial, most))
        return Page(read(era), int(last), read_events(flat, Clock()))

    def events_here(self) -> tuple[Event, ...]:
        """What this host noted and Redis does not know yet."""
        return super().events_after(0, 1000).events

    def event(self, id: str) -> Event | None:
        here = self._here(super().event, id)
        return here or next(iter(read_events(self._ask(event_script.find(id)), Clock())), None)

    def deeds(self, most: int) -> tuple[Deed, ...]:
        texts = self._ask((b"audit_tail", b"%d" % most))
        there = tuple(_deed(at, what) for at, what in zip(texts[::2], texts[1::2], strict=True))
        both = (*there, *self.deeds_here(most))
        return tuple(sorted(both, key=lambda deed: -deed.at))[:most]

    def deeds_here(self, most: int) -> tuple[Deed, ...]:
        """What was done on this host while Redis was away."""
        return self._here(super().deeds, most) or ()

    def history(self) -> tuple[Tombstone, ...]:
        """The better of both copies of each; while Redis is away, this host's."""
        here = super().history() if self._path.exists() else None
        try:
            there = read_blocks(self._ask((b"blocks",))[1])
        except Unavailable:
            if here is None:
                raise
            there = ()
        best: dict[str, Tombstone] = {}
        for one in (*(here or ()), *there):
            known = best.get(one.block.id)
            best[one.block.id] = one if known is None or one.beats(known) else known
        return tuple(sorted(best.values(), key=lambda one: (one.block.start, one.block.id)))

    def close(self) -> None:
        self._runner.run(self._hang_up())
        self._runner.close()
        super().close()

    async def _hang_up(self) -> None:
        self._link.close()

    def _here(self, look: Callable[[Any], T], value: Any) -> T | None:
        """What this host's file has, None when it has no file."""
        return look(value) if self._path.exists() else None

    def _ask(self, verb: Verb) -> Any:
        async def ask() -> list[Any]:
            if not self._link.is_open:
                await self._link.open()
            return await self._link.run([b"", b"0", *(word for word in verb if isinstance(word, bytes))])

        try:
            answer = self._runner.run(ask())[1]
        except Trouble as trouble:
            raise Unavailable(f"Redis: {trouble}: {trouble.mend}") from None
        if isinstance(answer, bytes) and answer.startswith(b"!"):
            raise Unavailable(f"Redis: {answer[1:].decode('utf-8', 'replace')}")
        return answer


def _deed(at: bytes, what: bytes) -> Deed:
    said = json.loads(read(what))
    return Deed(
        float(at), *(str(said.get(k, "")) for k in ("author", "action", "subject", "block", "reason"))
    )
