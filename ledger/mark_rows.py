"""The marks of the SQLite ledger (see `ledger.marks`), and secrets that all who share the ledger share.

Knows the SQL of both. Must not know transactions, nor what time it is, nor what a mark stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ledger.marks import Mark, Pair, Seen
from ledger.schema import Connection

_COUNT = "SELECT ?, count(*), coalesce(max(name = ?), 0) FROM marks WHERE key = ? AND due > ?"
_NOTE = """INSERT INTO marks (key, name, due) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET due = max(excluded.due, due)"""
_FOREVER = 9e15  # epoch seconds


class MarkRows:
    """Marks within the caller's transaction, which sets `now` (epoch seconds)."""

    def __init__(self, connection: Connection) -> None:
        self._execute = connection.execute
        self.now = 0.0

    def look(self, pairs: Iterable[Pair]) -> tuple[Seen, ...]:
        """See `Marks.look`."""
        pairs = tuple(pairs)
        if not pairs:
            return ()
        values = [value for at, (key, name) in enumerate(pairs) for value in (at, name, key, self.now)]
        rows = self._execute(" UNION ALL ".join([_COUNT] * len(pairs)), values).fetchall()
        return tuple(Seen(count, bool(holds)) for _, count, holds in sorted(rows))

    def note(self, marks: Iterable[Mark]) -> bool:
        """See `Marks.note`."""
        marks = tuple(marks)
        for mark in marks:
            if mark.most:
                (seen,) = self.look([(mark.key, mark.name)])
                if seen.count - seen.holds >= mark.most:
                    return False
        for mark in marks:
            due = _FOREVER if mark.seconds is None else self.now + mark.seconds
            self._execute(_NOTE, (mark.key, mark.name, due))
        return True

    def drop(self, pairs: Iterable[Pair]) -> None:
        """See `Marks.drop`."""
        for key, name in pairs:
            if name:
                self._execute("DELETE FROM marks WHERE key = ? AND name = ?", (key, name))
            else:
                self._execute("DELETE FROM marks WHERE key = ?", (key,))

    def names(self, key: str) -> tuple[str, ...]:
        """See `Marks.names`."""
        rows = self._execute(
            "SELECT name FROM marks WHERE key = ? AND due > ? ORDER BY name", (key, self.now)
        )
        return tuple(row[0] for row in rows)

    def tidy(self, rows: int) -> None:
        """Delete some of the marks that have ended."""
        self._execute(
            "DELETE FROM marks WHERE (key, name) IN (SELECT key, name FROM marks WHERE due <= ? LIMIT ?)",
            (self.now, rows),
        )

    def secret(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The secret of that name; the first who asks makes it."""
        self._execute("INSERT OR IGNORE INTO secrets (name, value) VALUES (?, ?)", (name, make()))
        value: bytes = self._execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()[0]
        return value
