"""The reference ledger's verbs for AUTH: marks, a shared secret, app passwords.

Knows what these verbs of `ledger.charges` mean. Must not know charges or blocks, a database, or what time it
is: whoever inherits this says so.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from ledger.app_passwords import AppPassword
from ledger.marks import Mark, Marks, Pair, Seen


class AuthModel:
    """A part of `ledger.model.ModelLedger`, which begins every verb and tells that something has moved."""

    def __init__(self) -> None:
        super().__init__()
        self.audit: list[tuple[float, str, str, str, str]] = []
        self._marks = Marks()
        self._app_passwords: dict[str, AppPassword] = {}

    def _begin(self) -> float:
        raise NotImplementedError

    def _moved(self) -> None:
        raise NotImplementedError

    async def guard_look(self, pairs: tuple[Pair, ...]) -> tuple[Seen, ...]:
        return self._marks.look(pairs, self._begin())

    async def guard_note(self, marks: tuple[Mark, ...]) -> bool:
        return self._marks.note(marks, self._begin())

    async def guard_drop(self, pairs: tuple[Pair, ...]) -> None:
        self._begin()
        self._marks.drop(pairs)

    async def guard_names(self, key: str) -> tuple[str, ...]:
        return self._marks.names(key, self._begin())

    async def secret(self, name: str) -> bytes:
        self._begin()
        return hashlib.sha256(name.encode()).digest()

    async def app_passwords(self, login: str) -> tuple[AppPassword, ...]:
        self._begin()
        found = (one for one in self._app_passwords.values() if one.login == login)
        return tuple(sorted(found, key=lambda one: (one.made, one.id)))

    async def keep_app_password(self, one: AppPassword, author: str) -> bool:
        now = self._begin()
        if one.id in self._app_passwords:
            return False
        self._app_passwords[one.id] = replace(one, made=now)
        self.audit.append((now, author, "app-password add", f"login:{one.login}", one.label))
        self._moved()
        return True

    async def revoke_app_password(self, login: str, id: str, author: str) -> bool:
        now = self._begin()
        known = self._app_passwords.get(id)
        if known is None or known.login != login or known.revoked is not None:
            return False
        self._app_passwords[id] = replace(known, revoked=now)
        self.audit.append((now, author, "app-password revoke", f"login:{login}", ""))
        self._moved()
        return True

    async def use_app_password(self, login: str, id: str, address: str) -> None:
        now = self._begin()
        known = self._app_passwords.get(id)
        if known is not None and known.login == login:
            self._app_passwords[id] = replace(known, used=now, used_from=address)
