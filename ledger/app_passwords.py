"""App passwords: credentials of a login that we keep ourselves, because the directory is read-only.

Knows their form, their life and how one is told from a directory's password. Must not know where they are
kept, who may have one, or what time it is.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

ID_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
ID_LENGTH = 8
SECRET_OCTETS = 16
LABEL_MAX = 64
_SHAPE = re.compile(rb"([a-hj-km-np-z2-9]{8})\.([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class AppPassword:
    """One app password. Times are epoch seconds; `end` None is for good, `revoked` None while it holds.

    `networks` (CIDR) and `senders` (addresses in normal form) narrow it; empty does not. `digest` is its
    secret's (see `digest_of`). `used_from` is the client address of the last use.
    """

    id: str
    login: str
    digest: bytes
    label: str = ""
    networks: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    made: float = 0.0
    end: float | None = None
    revoked: float | None = None
    used: float | None = None
    used_from: str = ""

    def holds(self, now: float) -> bool:
        """Whether it is neither revoked nor over at `now`."""
        return self.revoked is None and (self.end is None or now < self.end)

    def __repr__(self) -> str:
        return f"<AppPassword {self.id} of {self.login!r}>"


def parse_app_password(password: bytes) -> tuple[str, bytes] | None:
    """Id and secret when `password` has the form of an app password, else None: such a one is never a
    directory's, and no directory is asked about it."""
    match = _SHAPE.fullmatch(password)
    return (match[1].decode(), bytes.fromhex(match[2].decode())) if match else None


def format_app_password(id: str, secret: bytes) -> str:
    """What is shown to its owner, once. Raises ValueError for what could not be told again."""
    text = f"{id}.{secret.hex()}"
    if not _SHAPE.fullmatch(text.encode()):
        raise ValueError("no id and secret of an app password")
    return text


def senders_of(kept: Iterable[AppPassword], id: str, now: float) -> tuple[str, ...] | None:
    """The addresses to which the app password `id` narrows its login; None when it does not hold any more."""
    found = next((one for one in kept if one.id == id), None)
    return found.senders if found is not None and found.holds(now) else None


def digest_of(secret: bytes, key: bytes) -> bytes:
    """What is kept of a secret: keyed BLAKE2b (RFC 7693). 128 random bits need no slow hash."""
    return hashlib.blake2b(secret, key=key, digest_size=32).digest()


def is_secret_of(kept: AppPassword | None, secret: bytes, key: bytes) -> bool:
    """Whether `secret` is that of `kept`; an unknown one costs the same."""
    digest = digest_of(secret, key)
    return hmac.compare_digest(digest, kept.digest if kept else bytes(32)) and kept is not None
