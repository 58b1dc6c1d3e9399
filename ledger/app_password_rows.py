"""The app passwords of the SQLite ledger.

Knows how they lie in columns. Must not know secrets, transactions, or what time it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ledger.app_passwords import AppPassword
from ledger.schema import Connection

_COLUMNS = "id, login, digest, label, networks, senders, made, due, revoked, used, used_from"


class AppPasswordRows:
    """App passwords within the caller's transaction, which sets `now` (epoch seconds)."""

    def __init__(self, connection: Connection) -> None:
        self._execute = connection.execute
        self.now = 0.0

    def of(self, login: str) -> tuple[AppPassword, ...]:
        """Every app password of a login, oldest first, those that do not hold any more too."""
        rows = self._execute(
            f"SELECT {_COLUMNS} FROM app_passwords WHERE login = ? ORDER BY made, id",  # noqa: S608
            (login,),
        )
        return tuple(map(_read, rows))

    def keep(self, one: AppPassword) -> bool:
        """Keep a new one. False when there is another with its id."""
        values = (one.id, one.login, one.digest, one.label, json.dumps(one.networks), json.dumps(one.senders))
        cursor = self._execute(
            f"INSERT OR IGNORE INTO app_passwords ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (*values, self.now, one.end, one.revoked, one.used, one.used_from),
        )
        return bool(cursor.rowcount)

    def revoke(self, login: str, id: str) -> bool:
        """Revoke one. False when the login has none such that holds."""
        cursor = self._execute(
            "UPDATE app_passwords SET revoked = ? WHERE login = ? AND id = ? AND revoked IS NULL",
            (self.now, login, id),
        )
        return bool(cursor.rowcount)

    def use(self, login: str, id: str, address: str) -> None:
        """Note when and from where it was used."""
        self._execute(
            "UPDATE app_passwords SET used = ?, used_from = ? WHERE login = ? AND id = ?",
            (self.now, address, login, id),
        )


def _read(row: Sequence[Any]) -> AppPassword:
    id, login, digest, label, networks, senders, *times = row
    return AppPassword(
        id, login, digest, label, tuple(json.loads(networks)), tuple(json.loads(senders)), *times
    )
