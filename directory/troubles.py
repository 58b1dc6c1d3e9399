"""The ways in which an LDAP directory cannot help, which are never a refusal.

Knows what each means for whoever asks next. Must not know any LDAP library.
"""

from __future__ import annotations

from directory.identity import Unavailable


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
