"""What AUTH keeps in the ledger that several hosts share: marks, secrets and app passwords.

Knows what is said for a verb and what its answer means. Must not know Redis, nor what a mark stands for.

While Redis is away, marks are kept in this host's file where the settings say so, beginning with none;
secrets and app passwords are in Redis alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from ledger import auth_script
from ledger.app_passwords import AppPassword
from ledger.charges import Unavailable
from ledger.marks import Mark, Pair, Seen
from ledger.runner import Runner
from ledger.script import Clock, Verb
from ledger.sqlite import SqliteLedger

T = TypeVar("T")


class SharedAuth:
    """The verbs of `charges.Ledger` for AUTH. `runner` runs them; `file` is this host's, or None."""

    def __init__(self, runner: Runner, file: SqliteLedger | None) -> None:
        self.runner = runner
        self._file = file

    def guard_look(self, pairs: tuple[Pair, ...]) -> Deferred[tuple[Seen, ...]]:
        """See `charges.Ledger`, as for all verbs below."""
        return self._ask(
            auth_script.look(pairs),
            lambda told, _: auth_script.read_seen(told),
            lambda file: file.guard_look(pairs),
        )

    def guard_note(self, marks: tuple[Mark, ...]) -> Deferred[bool]:
        return self._ask(auth_script.note(marks), _truth, lambda file: file.guard_note(marks))

    def guard_drop(self, pairs: tuple[Pair, ...]) -> Deferred[None]:
        return self._ask(auth_script.drop(pairs), lambda *_: None, lambda file: file.guard_drop(pairs))

    def guard_names(self, key: str) -> Deferred[tuple[str, ...]]:
        return self._ask(
            auth_script.names(key),
            lambda told, _: auth_script.read_names(told),
            lambda file: file.guard_names(key),
        )

    def secret(self, name: str) -> Deferred[bytes]:
        fresh = secrets.token_bytes(32)
        return self._ask(auth_script.secret(name, fresh), lambda told, _: auth_script.read_secret(told))

    def app_passwords(self, login: str) -> Deferred[tuple[AppPassword, ...]]:
        def found(told: Any, clock: Clock) -> tuple[AppPassword, ...]:
            return auth_script.read_apps(login, told, clock)

        return self._ask(auth_script.apps(login), found)

    def keep_app_password(self, one: AppPassword, author: str) -> Deferred[bool]:
        return self._ask(auth_script.keep(one, author), _truth)

    def revoke_app_password(self, login: str, id: str, author: str) -> Deferred[bool]:
        return self._ask(auth_script.revoke(login, id, author), _truth)

    def use_app_password(self, login: str, id: str, address: str) -> Deferred[None]:
        return self._ask(auth_script.use(login, id, address), lambda *_: None)

    def _ask(
        self,
        verb: Verb,
        read: Callable[[Any, Clock], T],
        instead: Callable[[SqliteLedger], Deferred[T]] | None = None,
    ) -> Deferred[T]:
        async def ask() -> T:
            try:
                return await self.runner.ask(verb, read)
            except Unavailable:
                if self._file is None or instead is None:
                    raise
                return await instead(self._file)

        return Deferred.fromCoroutine(ask())


def _truth(answer: bytes, clock: Clock) -> bool:
    return answer == b"1"
