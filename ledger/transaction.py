"""One transaction on the SQLite ledger: its time, its counters, its register, and whether others must know.

Knows the generation and the era, which are read when it begins and written when it ends. Must not know what a
charge is.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_bytes

from ledger.app_password_rows import AppPasswordRows
from ledger.app_passwords import AppPassword
from ledger.blocks import Block
from ledger.clock import Time
from ledger.event_rows import EventRows
from ledger.mark_rows import MarkRows
from ledger.marks import Mark, Pair
from ledger.register import Register
from ledger.rows import FIELDS, Outstanding, outstanding
from ledger.schema import Connection
from ledger.tally import Tally
from ledger.tombstones import Tombstone

_OUTSTANDING = f"SELECT {FIELDS}, mta, instance, queue_id FROM charges WHERE state <= ? ORDER BY id LIMIT ?"  # noqa: S608
_CHARGED = 1  # reserved is 0, settled 1
_META = "SELECT generation, era, booted, shift FROM meta"


class Transaction:
    """One after the other on one connection.

    `register` holds blocks with their tombstones, `events` what became of them, `marks` and `app_passwords`
    what AUTH keeps; `generation`
    is the last that was read or committed.
    """

    def __init__(self, connection: Connection, new_id: Callable[[], str]) -> None:
        """`new_id` gives short random ids for blocks."""
        self._execute = connection.execute
        self._tally = Tally(connection)
        self.register = Register(connection, new_id)
        self.marks = MarkRows(connection)
        self.app_passwords = AppPasswordRows(connection)
        self.events = EventRows(connection)
        self._now = 0.0
        self._era = 0
        self._moved = False
        self.generation = 0

    def begin(self, tell_time: Callable[[str, float], Time]) -> None:
        """Begin a transaction that may write. The time is asked for when the lock is held, so that it never
        runs back between processes."""
        self._execute("BEGIN IMMEDIATE")
        self.generation, self._era, booted, shift = self._execute(_META).fetchone()
        time = tell_time(booted, shift)
        if (time.booted, time.shift) != (booted, shift):
            self._execute("UPDATE meta SET booted = ?, shift = ?", (time.booted, time.shift))
        self._now = self._tally.now = self.register.now = time.now
        self.marks.now = self.app_passwords.now = self.events.now = time.now
        self._tally.skew, self._tally.era = time.skew, self._era
        self._moved = False

    def peek(self, tell_time: Callable[[str, float], Time]) -> tuple[int, tuple[Block, ...]]:
        """The generation and the blocks as they are committed, without a writer's lock and outside of any
        transaction."""
        self._execute("BEGIN")
        try:
            self.generation, _, booted, shift = self._execute(_META).fetchone()
            self.register.now = tell_time(booted, shift).now
            return self.generation, self.register.current()
        finally:
            self._execute("COMMIT")

    def keep_app_password(self, one: AppPassword, author: str) -> bool:
        """See `charges.Ledger.keep_app_password`."""
        kept = self.app_passwords.keep(one)
        if kept:
            self.register.note(author, "app-password add", f"login:{one.login}", one.id, one.label)
        self._moved = self._moved or kept
        return kept

    def revoke_app_password(self, login: str, id: str, author: str) -> bool:
        """See `charges.Ledger.revoke_app_password`."""
        revoked = self.app_passwords.revoke(login, id)
        if revoked:
            self.register.note(author, "app-password revoke", f"login:{login}", id, "")
        self._moved = self._moved or revoked
        return revoked

    def secret(self, name: str) -> bytes:
        """See `charges.Ledger.secret`."""
        return self.marks.secret(name, lambda: token_bytes(32))

    def app_passwords_of(self, login: str) -> tuple[AppPassword, ...]:
        """See `charges.Ledger.app_passwords`."""
        return self.app_passwords.of(login)

    def note(self, author: str, action: str, subject: str, reason: str) -> None:
        """Write who did what to whom into the audit trail."""
        self.register.note(author, action, subject, "", reason)

    def announce(self, mark: Mark, dropped: tuple[Pair, ...]) -> None:
        """Note a mark, drop others, and move the generation, so that everybody looks."""
        self.marks.drop(dropped)
        self.marks.note((mark,))
        self._moved = True

    def outstanding(self, most: int) -> list[Outstanding]:
        """The oldest charges that are reserved or settled (the last value says which)."""
        rows = self._execute(_OUTSTANDING, (_CHARGED, most)).fetchall()
        return [outstanding(row, row[1] == _CHARGED) for row in rows]

    def spenders(self) -> tuple[str, ...]:
        """The subjects that have used something, and some that did lately; for `submitward quota list`."""
        return self._tally.spenders()

    def history(self) -> tuple[Tombstone, ...]:
        """Every block with its tombstone: this node's copy."""
        return self.register.history()

    def blocks(self) -> tuple[int, tuple[Block, ...]]:
        """See `charges.Ledger.blocks`. Only what is committed is of this generation."""
        return self.generation + self._moved, self.register.current()

    def block(self, block: Block) -> Block:
        """See `charges.Ledger.block`."""
        self._moved = True
        return self.register.keep(block)

    def lift(self, block_id: str, author: str, reason: str) -> bool:
        """See `charges.Ledger.lift`."""
        lifted = self.register.lift(block_id, author, reason)
        self._moved = self._moved or lifted
        return lifted

    def block_once(self, block: Block) -> bool:
        """See `charges.Ledger.block_once`."""
        kept = self.register.keep_once(block)
        self._moved = self._moved or kept
        return kept

    def merge(self, copies: tuple[Tombstone, ...]) -> int:
        """Take over another node's copies; how many were news."""
        news = sum(map(self.register.merge, copies))
        self._moved = self._moved or news > 0
        return news

    def commit(self) -> None:
        """Make all verbs since `begin` last."""
        if self._moved or self._tally.era != self._era:
            self.generation += self._moved
            self._execute("UPDATE meta SET generation = ?, era = ?", (self.generation, self._tally.era))
        self._execute("COMMIT")

    def rollback(self) -> None:
        """Undo all verbs since `begin`."""
        self._execute("ROLLBACK")
