"""How the verbs of AUTH are said to `charge.lua`, and what its answers mean.

Knows the arguments of each, and the written form of marks and app passwords. Must not know Redis,
connections, or what time it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from ledger.app_passwords import AppPassword
from ledger.marks import Mark, Pair, Seen
from ledger.script import Clock, Verb, audit_of, read, write


def look(pairs: Iterable[Pair]) -> Verb:
    """`charges.Ledger.guard_look`, as for all verbs below; `read_seen` reads the answer."""
    return b"marks_look", write(json.dumps(list(pairs)))


def note(marks: Iterable[Mark], *, move: bool = False) -> Verb:
    """Answered ``0`` or ``1``; `move` moves the generation."""
    values = [(mark.key, mark.name, mark.seconds, mark.most) for mark in marks]
    return b"marks_note", write(json.dumps(values)), b"1" if move else b"0"


def drop(pairs: Iterable[Pair]) -> Verb:
    """Answered ``1``."""
    return b"marks_drop", write(json.dumps(list(pairs)))


def names(key: str) -> Verb:
    """`read_names` reads the answer."""
    return b"marks_names", write(key)


def secret(name: str, fresh: bytes) -> Verb:
    """`read_secret` reads the answer, which is `fresh` if there was none."""
    return b"secret", write(name), fresh


def apps(login: str) -> Verb:
    """`read_apps` reads the answer."""
    return b"apps", write(login)


def keep(one: AppPassword, author: str) -> Verb:
    """Answered ``0`` or ``1``."""
    body = json.dumps((one.digest.hex(), one.label, one.networks, one.senders, one.end))
    audit = audit_of(author, "app-password add", f"login:{one.login}", one.id, one.label)
    return b"apps_keep", write(one.login), write(one.id), write(body), audit


def revoke(login: str, id: str, author: str) -> Verb:
    """Answered ``0`` or ``1``."""
    audit = audit_of(author, "app-password revoke", f"login:{login}", id, "")
    return b"apps_revoke", write(login), write(id), audit


def use(login: str, id: str, address: str) -> Verb:
    """Answered ``0`` or ``1``."""
    return b"apps_use", write(login), write(id), write(address)


def read_seen(answer: list[bytes]) -> tuple[Seen, ...]:
    """What was seen of each pair."""
    words = (text.split(b" ") for text in answer)
    return tuple(Seen(int(count), holds == b"1") for count, holds in words)


def read_names(answer: list[bytes]) -> tuple[str, ...]:
    """The marks under a key, in order."""
    return tuple(sorted(map(read, answer)))


def read_secret(answer: bytes) -> bytes:
    """The octets of a secret."""
    return answer.removeprefix(b"=")


def read_apps(login: str, flat: list[bytes], clock: Clock) -> tuple[AppPassword, ...]:
    """The app passwords of a login, oldest first."""
    found = (_app(login, *pair, clock) for pair in zip(flat[::2], flat[1::2], strict=True))
    return tuple(sorted(found, key=lambda one: (one.made, one.id)))


def _app(login: str, id: bytes, text: bytes, clock: Clock) -> AppPassword:
    made, revoked, used, used_from, body = text.split(b" ", 4)
    digest, label, networks, senders, end = json.loads(body)
    return AppPassword(
        read(id),
        login,
        bytes.fromhex(digest),
        label,
        tuple(networks),
        tuple(senders),
        made=clock.read(made) or 0.0,
        end=end,
        revoked=clock.read(revoked),
        used=clock.read(used),
        used_from="" if used_from == b"-" else read(used_from),
    )
