"""The ways in which an LDAP directory cannot help, which are never a refusal.

Knows what each means for whoever asks next. Must not know any LDAP library.
"""

from __future__ import annotations

import re

from directory.identity import Unavailable

_PLACE = re.compile(r" *\(?_ssl\.c:[0-9]+\)?:?")


class Puzzling(Exception):
    """The directory holds what cannot be: a mistake of its keeper, so nobody can be judged by it."""


class Transport(Unavailable):
    """The connection failed: another server may do better."""


class Refused(Unavailable):
    """The server answered, and refuses the service account or the search. Nobody's password is wrong by it.

    `code` is the result code (RFC 4511), -1 when the service account was refused.
    """

    def __init__(self, text: str, code: int = -1) -> None:
        super().__init__(text)
        self.code = code


class Ambiguous(Refused):
    """More entries than the one that there may be."""


class Speaking:
    """Turns whatever a library, a socket or TLS raise into Transport; `what` was being done."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        # ldap3 decodes by hand: what a broken answer raises there is an IndexError, a TypeError or the like.
        if isinstance(error, Exception) and not isinstance(error, (Unavailable, Warning)):
            raise Transport(f"{self._what}: {_words(error)}") from None


def _words(error: BaseException) -> str:
    """What it began with: ldap3 wraps the words of the socket and of TLS in its own, several times."""
    while error.__context__ is not None:
        error = error.__context__
    words = _PLACE.sub("", (str(error).splitlines() or [""])[0])
    if words.startswith("("):  # a tuple in a tuple, with its quotes
        words = words.strip("()'\",\\ ")
    return f"{type(error).__name__}: {words[:300]}"
