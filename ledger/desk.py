"""The shared ledger for the operator's command: one verb after another, each waited for.

Knows the same verbs as `ledger.book`, said to Redis, with this node's copy of the blocks beside it. Must not
know the reactor, nor who asks.

While Redis is away, blocks are kept and lifted in this node's copy; its sidecars publish them later. The
file's lock is never held while Redis is waited for: the sidecars need it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from secrets import token_bytes
from typing import Any, NamedTuple

from ledger import auth_script, script
from ledger.app_passwords import AppPassword
from ledger.blocks import Block
from ledger.book import Book
from ledger.bookfile import open_book, short_id
from ledger.charges import Admitted, Unavailable
from ledger.limits import Limit, Standing
from ledger.marks import Mark, Pair
from ledger.redis import Link, Trouble
from ledger.script import Clock, Verb
from ledger.settings import LedgerSettings
from ledger.tombstones import Tombstone

PAGE = 1000  # subjects in one answer
BATCH = 64  # verbs in one call


class Copy(NamedTuple):
    """This node's copy of the blocks as it was read last: those in force, and all with their tombstones."""

    blocks: tuple[Block, ...]
    tombstones: tuple[Tombstone, ...]

    def current(self) -> tuple[Block, ...]:
        """See `register.Register.current`."""
        return self.blocks

    def history(self) -> tuple[Tombstone, ...]:
        """See `register.Register.history`."""
        return self.tombstones


@contextlib.contextmanager
def open_desk(settings: LedgerSettings) -> Iterator[Desk]:
    """The desk, its copy brought up to date if Redis is there. Raises Unavailable."""
    with asyncio.Runner() as runner:
        link = Link(settings.redis)
        try:
            yield Desk(link, settings.sqlite.path, runner)
        finally:
            runner.run(_close(link))


class Desk:
    """Verbs of an operator, with this node's file at `path`. `away` says why Redis does not answer."""

    def __init__(self, link: Link, path: Path, runner: asyncio.Runner) -> None:
        self._link = link
        self._path = path
        self._runner = runner
        self.register = self._see(lambda book: None)
        self.away = ""
        try:
            self._connect()
        except Unavailable as away:
            self.away = str(away)

    def standing(self, pairs: tuple[tuple[str, Limit], ...]) -> tuple[Standing, ...]:
        """See `charges.Ledger.standing`, as for all verbs below."""
        held = tuple((subject, limit, True) for subject, limit in pairs)
        outcome = script.read_outcome(self._ask(script.standing(pairs)), held, Clock())
        return outcome.standings if isinstance(outcome, Admitted) else ()

    def spenders(self) -> tuple[str, ...]:
        """See `transaction.Transaction.spenders`."""
        found: dict[str, None] = {}
        seen = 0
        while page := self._ask(script.spenders(seen, PAGE)):
            seen += len(page)
            found |= dict.fromkeys(map(script.read, page))
        return tuple(sorted(found))

    def reset(self, subject: str, author: str, reason: str) -> int:
        return int(self._ask(script.reset(subject, author, reason)))

    def block(self, block: Block) -> Block:
        if self.away:
            with open_book(self._path) as book:
                return book.block(block)
        name, version = self._ask(script.keep(block, tuple(short_id() for _ in range(8))))
        kept = replace(block, id=script.read(name), version=int(version))
        self._take(Tombstone(kept, None, None, None))
        return kept

    def lift(self, block_id: str, author: str, reason: str) -> bool:
        known = next((block for block in self.register.current() if block.id == block_id), None)
        if known is None:
            return False
        if self.away:
            with open_book(self._path) as book:
                return book.lift(block_id, author, reason)
        text = self._ask(script.lift(known, author, reason))
        if text:
            self._take(script.read_block(script.write(block_id), text))
        return bool(text)

    def secret(self, name: str) -> bytes:
        return auth_script.read_secret(self._ask(auth_script.secret(name, token_bytes(32))))

    def app_passwords_of(self, login: str) -> tuple[AppPassword, ...]:
        return auth_script.read_apps(login, self._ask(auth_script.apps(login)), Clock())

    def keep_app_password(self, one: AppPassword, author: str) -> bool:
        return bool(self._ask(auth_script.keep(one, author)) == b"1")

    def revoke_app_password(self, login: str, id: str, author: str) -> bool:
        return bool(self._ask(auth_script.revoke(login, id, author)) == b"1")

    def note(self, author: str, action: str, subject: str, reason: str) -> None:
        """See `transaction.Transaction.note`."""
        self._ask((b"audit", script.audit_of(author, action, subject, "", reason)))

    def announce(self, mark: Mark, dropped: tuple[Pair, ...]) -> None:
        """See `transaction.Transaction.announce`."""
        self._ask(auth_script.drop(dropped))
        self._ask(auth_script.note((mark,), move=True))

    def _connect(self) -> None:
        self._wait(self._link.open)
        self._ask_all([script.merge(one) for one in self.register.tombstones])
        _, flat = self._ask((b"blocks",))
        self._take(*script.read_blocks(flat))

    def _take(self, *copies: Tombstone) -> None:
        self.register = self._see(lambda book: book.merge(copies))

    def _see(self, change: Callable[[Book], object]) -> Copy:
        with open_book(self._path) as book:
            change(book)
            return Copy(book.register.current(), book.history())

    def _ask(self, verb: Verb) -> Any:
        (answer,) = self._ask_all([verb])
        return answer

    def _ask_all(self, verbs: list[Verb]) -> list[Any]:
        answers = []
        for at in range(0, len(verbs), BATCH):
            answers += self._call(verbs[at : at + BATCH])
        for answer in answers:
            if isinstance(answer, bytes) and answer.startswith(b"!"):
                raise Unavailable(answer[1:].decode("utf-8", "replace"))
        return answers

    def _call(self, verbs: list[Verb]) -> list[Any]:
        words = [word for verb in verbs for word in verb if isinstance(word, bytes)]
        answers: list[Any] = self._wait(lambda: self._link.run([b"", b"16", *words]))
        return answers[1:]

    def _wait(self, call: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return await call()

        try:
            return self._runner.run(run())
        except Trouble as trouble:
            raise Unavailable(f"Redis: {trouble}: {trouble.mend}") from None


async def _close(link: Link) -> None:
    link.close()
