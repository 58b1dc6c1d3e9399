"""LDAP servers as values: where they are and how they are secured, and the ways in which they cannot help.

Knows addresses, TLS contexts and time limits. Must not know any LDAP library.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True, slots=True)
class Server:
    """One server. `context` verifies certificates and names; None is plain text. Times in whole seconds."""

    host: str
    port: int
    tls: Literal["ldaps", "starttls", "none"]
    context: ssl.SSLContext | None = None
    ca_file: str = ""
    connect_timeout: int = 2
    answer_timeout: int = 2

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ldaps' if self.tls == 'ldaps' else 'ldap'}://{host}:{self.port}"
