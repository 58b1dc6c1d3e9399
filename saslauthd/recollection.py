"""What this process remembers of credentials: wrong ones for half a minute, right ones if the site wants it.

Knows when to forget. Holds keyed digests only, never a password. Must not know what time it is, nor what
else speaks for or against a login.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from directory.identity import Credentials, Verified

MOST = 20_000  # credentials of each kind


@dataclass(frozen=True, slots=True)
class Wrong:
    """A credential that was found wrong: why, and by how much a refusal of it is put off at least."""

    reason: str
    until: float
    delay: float


@dataclass(frozen=True, slots=True)
class Right:
    """A credential that was found right, and whose it is."""

    login: str
    verified: Verified
    until: float


class Recollection:
    """`key` is this process's own; times in seconds, 0 remembers nothing."""

    def __init__(self, key: bytes, *, wrong: float = 30.0, right: float = 0.0) -> None:
        self._key = key
        self.era = 0  # what was asked in one that is over is not remembered
        self.wrong_for = wrong
        self.right_for = right
        self._wrong: OrderedDict[bytes, Wrong] = OrderedDict()
        self._right: OrderedDict[bytes, Right] = OrderedDict()
        self._of: dict[str, set[bytes]] = {}

    def digest(self, credentials: Credentials) -> bytes:
        """What stands for a credential here: keyed BLAKE2b (RFC 7693), which is what HMAC is for."""
        text = credentials.login.encode() + b"\0" + credentials.password
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()

    def look(self, digest: bytes, now: float) -> Wrong | Right | None:
        """What is remembered of a credential."""
        right = self._right.get(digest)
        if right is not None and now < right.until:
            return right
        wrong = self._wrong.get(digest)
        return wrong if wrong is not None and now < wrong.until else None

    def refused(self, login: str, digest: bytes, reason: str, delay: float, now: float, era: int) -> None:
        """Remember a credential that was wrong in this era; what was right of this login is asked again."""
        self.forget(login)
        if self.wrong_for and era == self.era:
            self._wrong[digest] = Wrong(reason, now + self.wrong_for, delay)
            self._wrong.move_to_end(digest)
            if len(self._wrong) > MOST:
                self._wrong.popitem(last=False)

    def accepted(self, login: str, digest: bytes, verified: Verified, now: float, era: int) -> None:
        """Remember a credential of `login` that was right in this era. Another may be an old one, and is to
        be asked again."""
        self._wrong.pop(digest, None)
        self.forget(login)
        if self.right_for and era == self.era:
            self._right[digest] = Right(login, verified, now + self.right_for)
            self._of[login] = {digest}
            if len(self._right) > MOST:
                _, oldest = self._right.popitem(last=False)
                self._of.pop(oldest.login, None)

    def forget(self, login: str) -> None:
        """Ask the directory again about every credential of a login that was right."""
        for digest in self._of.pop(login, ()):
            self._right.pop(digest, None)

    def clear(self) -> None:
        """Forget everything, also what is being asked now: another directory has taken over, or somebody has
        flushed a login, by whichever of its names."""
        self.era += 1
        self._right.clear()
        self._wrong.clear()
        self._of.clear()
