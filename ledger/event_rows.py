"""The events of the SQLite ledger (see `ledger.events`).

Knows the SQL of them, and how the oldest go. Must not know transactions, nor what an event stands for, nor
what time it is.
"""

from __future__ import annotations

from typing import Any

from ledger.events import KEPT, MOST, MOST_OF_ONE, Event, read_event, write_event
from ledger.rows import read, write
from ledger.schema import Connection

_NOTE = """INSERT INTO events (id, subject, at, body) VALUES (?, ?, ?, ?)
    ON CONFLICT DO NOTHING RETURNING serial"""
_SELECT = "SELECT id, subject, at, serial, body FROM events"


class EventRows:
    """Events within the caller's transaction, which sets `now` (epoch seconds)."""

    def __init__(self, connection: Connection) -> None:
        self._execute = connection.execute
        self.now = 0.0

    def note(self, event: Event) -> bool:
        """Keep an event; False when one of its id is there."""
        values = (event.id, write(event.subject), event.at or self.now, write_event(event))
        row = self._execute(_NOTE, values).fetchone()
        if row is not None:
            self._execute("DELETE FROM events WHERE serial <= ?", (row[0] - MOST,))
        return row is not None

    def of(self, subject: str) -> tuple[Event, ...]:
        """The newest events of a subject, the newest first."""
        sql = f"{_SELECT} WHERE subject = ? AND at > ? ORDER BY serial DESC LIMIT ?"
        return self._found(sql, (write(subject), self.now - KEPT, MOST_OF_ONE))

    def after(self, serial: int, most: int) -> tuple[Event, ...]:
        """The events that were noted after the one with this serial, the oldest first, `most` at most."""
        return self._found(f"{_SELECT} WHERE serial > ? ORDER BY serial LIMIT ?", (serial, most))

    def last(self) -> int:
        """The serial of the newest event, 0 when there is none."""
        serial: int = self._execute("SELECT coalesce(max(serial), 0) FROM events").fetchone()[0]
        return serial

    def find(self, id: str) -> Event | None:
        """The event of that id."""
        return next(iter(self._found(f"{_SELECT} WHERE id = ?", (id,))), None)

    def forget(self, id: str) -> None:
        """Forget an event that is kept elsewhere."""
        self._execute("DELETE FROM events WHERE id = ?", (id,))

    def tidy(self, rows: int) -> None:
        """Delete some of those that are too old."""
        self._execute(
            "DELETE FROM events WHERE serial IN (SELECT serial FROM events WHERE at <= ? LIMIT ?)",
            (self.now - KEPT, rows),
        )

    def _found(self, sql: str, values: tuple[Any, ...]) -> tuple[Event, ...]:
        rows = self._execute(sql, values).fetchall()
        return tuple(
            read_event(id, read(subject), at, serial, body) for id, subject, at, serial, body in rows
        )
