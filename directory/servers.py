"""LDAP servers as values: where they are and how they are secured.

Knows addresses, TLS contexts and time limits. Must not know any LDAP library.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Literal


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


@dataclass(frozen=True, slots=True)
class Secured:
    """What a TLS handshake came to: its version, the names in the server's certificate, and when that ends
    (seconds since 1970)."""

    version: str
    names: tuple[str, ...]
    until: float
