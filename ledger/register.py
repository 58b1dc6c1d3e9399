"""The register of the SQLite ledger: blocks, their tombstones, and who did what.

Knows how blocks and the audit trail are kept. Must not know counters or transactions, nor what time it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ledger.blocks import Block, actions_of
from ledger.charges import ENDED_BLOCK_KEPT
from ledger.schema import Connection
from ledger.tombstones import Tombstone

_COLUMNS = "id, subject, extent, author, reason, contact, start, until, version, terms"
_TOMBSTONES = f"SELECT {_COLUMNS}, lifted, lifted_by, lifted_why FROM blocks"  # noqa: S608
_KEEP = """INSERT INTO blocks (id, subject, extent, author, reason, contact, start, until, version, terms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET subject = excluded.subject,
    extent = excluded.extent, author = excluded.author, reason = excluded.reason,
    contact = excluded.contact, start = excluded.start, until = excluded.until, version = excluded.version,
    terms = excluded.terms"""


class Register:
    """Blocks and the audit trail, within the caller's transaction. `new_id` gives short random ids."""

    def __init__(self, connection: Connection, new_id: Callable[[], str]) -> None:
        self._execute = connection.execute
        self._new_id = new_id
        self.now = 0.0

    def current(self) -> tuple[Block, ...]:
        """Every block that is not lifted, without those that ended a day ago or more."""
        since = self.now - ENDED_BLOCK_KEPT
        rows = self._execute(
            f"SELECT {_COLUMNS} FROM blocks WHERE lifted IS NULL AND (until IS NULL OR until > ?)"  # noqa: S608
            " ORDER BY start, id",
            (since,),
        )
        return tuple(Block(*row) for row in rows)

    def history(self) -> tuple[Tombstone, ...]:
        """Every block there ever was, ended and lifted ones too, oldest first."""
        return tuple(map(_tombstone, self._execute(f"{_TOMBSTONES} ORDER BY start, id")))

    def keep(self, block: Block) -> Block:
        """Keep a block: a known id is changed, and its version grows; else it is a new one."""
        row = self._execute("SELECT version, lifted FROM blocks WHERE id = ?", (block.id,)).fetchone()
        if row and row[1] is None:
            block = replace(block, version=row[0] + 1)
        elif row or not block.id:
            block = replace(block, id=self._unused_id(), version=1)
        self._write(block)
        self.note(block.author, actions_of(block.extent)[0], block.subject, block.id, block.said)
        return block

    def keep_once(self, block: Block) -> bool:
        """Keep a new block unless its id is known, lifted or not."""
        if self._execute("SELECT 1 FROM blocks WHERE id = ?", (block.id,)).fetchone():
            return False
        self.keep(block)
        return True

    def _write(self, block: Block) -> None:
        values = (block.id, block.subject, block.extent, block.author, block.reason, block.contact)
        self._execute(_KEEP, (*values, block.start, block.end, block.version, block.terms))

    def _unused_id(self) -> str:
        while True:
            new = self._new_id()
            if not self._execute("SELECT 1 FROM blocks WHERE id = ?", (new,)).fetchone():
                return new

    def lift(self, block_id: str, author: str, reason: str) -> bool:
        """Lift a block, leaving its tombstone. False when there is none such or it is lifted already."""
        row = self._execute(
            "UPDATE blocks SET lifted = ?, lifted_by = ?, lifted_why = ?, version = version + 1"
            " WHERE id = ? AND lifted IS NULL RETURNING subject, extent",
            (self.now, author, reason, block_id),
        ).fetchone()
        if row is None:
            return False
        subject, extent = row
        self.note(author, actions_of(extent)[1], subject, block_id, reason)
        return True

    def merge(self, one: Tombstone) -> bool:
        """Take over another node's copy of a block. False when ours is as good or better."""
        row = self._execute(f"{_TOMBSTONES} WHERE id = ?", (one.block.id,)).fetchone()
        if one.is_over(self.now) or (row is not None and not one.beats(_tombstone(row))):
            return False
        self._write(one.block)
        self._execute(
            "UPDATE blocks SET lifted = ?, lifted_by = ?, lifted_why = ? WHERE id = ?",
            (one.lifted, one.lifted_by, one.lifted_why, one.block.id),
        )
        return True

    def trail(self, most: int) -> list[tuple[float, str, str, str, str, str]]:
        """The newest lines of the audit trail, the newest first: its columns but the first."""
        rows: list[tuple[float, str, str, str, str, str]] = self._execute(
            "SELECT at, author, action, subject, block, reason FROM audit ORDER BY id DESC LIMIT ?", (most,)
        ).fetchall()
        return rows

    def note(self, author: str, action: str, subject: str, block: str, reason: str) -> None:
        """Write who did what into the audit trail."""
        self._execute(
            "INSERT INTO audit (at, author, action, subject, block, reason) VALUES (?, ?, ?, ?, ?, ?)",
            (self.now, author, action, subject, block, reason),
        )


def _tombstone(row: tuple[Any, ...]) -> Tombstone:
    return Tombstone(Block(*row[:10]), *row[10:])
