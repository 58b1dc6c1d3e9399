"""PLAIN (RFC 4616) and LOGIN: responses in, challenges or Credentials out.

Knows what each mechanism exchanges and when it fails without anybody being asked. Must not know the wire's
framing, requests, or who verifies. Nothing here, its errors included, has a printable form of a password.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from directory.identity import LOGIN_MAX, BadLogin, Credentials, normal_login

PASSWORD_MAX = 4096  # octets


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server wants a response to `data` (not yet base64)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Known to be a no. `reason` names it for the log; `login` is what may go out as ``user=``, or ``""``."""

    reason: str
    login: str = ""


Step = Challenge | Credentials | Refused


class Exchange(Protocol):
    """One run of a mechanism."""

    def respond(self, response: bytes | None) -> Step:
        """Take the client's response (None: there was no initial one) and say what comes next."""


class Plain:
    """``[authzid] NUL authcid NUL passwd``, in one response. Acting for another login is refused."""

    __slots__ = ()

    def respond(self, response: bytes | None) -> Step:
        """An empty challenge without an initial response, else the end."""
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            return Refused("malformed")
        authzid, authcid, password = parts
        outcome = credentials(authcid, password)
        if authzid and isinstance(outcome, Credentials) and not _names(authzid, outcome.login):
            return Refused("authz_fail", outcome.login)
        return outcome


class Login:
    """User name, then password, each asked for (draft-murchison-sasl-login). An empty initial response means
    none, however it is spelled."""

    __slots__ = ("_name",)

    def __init__(self) -> None:
        self._name: bytes | None = None

    def respond(self, response: bytes | None) -> Step:
        """``Username:``, then ``Password:``, then the end. An initial response is the user name."""
        if self._name is not None:
            return credentials(self._name, response or b"")
        if response is None:
            return Challenge(b"Username:")
        name = parse_login(response)
        if isinstance(name, Refused):
            return name
        self._name = response
        return Challenge(b"Password:")


def credentials(name: bytes, password: bytes) -> Credentials | Refused:
    """Credentials that are worth asking a directory about. The password's octets stay as they came.

    An empty one is refused here: to a directory it may mean "no authentication" (RFC 4513, 5.1.2).
    """
    login = parse_login(name)
    if isinstance(login, Refused):
        return login
    if not password:
        return Refused("empty_password", login)
    if len(password) > PASSWORD_MAX:
        return Refused("long_password", login)
    return Credentials(login, password)


def parse_login(name: bytes) -> str | Refused:
    """The login in normal form. A bad one is named in the refusal as it came, if that can be shown."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return Refused("bad_login")
    try:
        return normal_login(text)
    except BadLogin:
        return Refused("bad_login", text if text.isprintable() and len(name) <= LOGIN_MAX else "")


@dataclass(frozen=True, slots=True)
class Realm:
    """What becomes of the domain in a login: `strip` are taken off, and `add` is added where there is none.

    Both in lower case, as a login is. One login has one name, whichever of its spellings was typed.
    """

    strip: frozenset[str] = frozenset()
    add: str = ""

    def apply(self, login: str) -> str | Refused:
        """The login as it is looked up; refused when nothing, or too much, would be left of it."""
        local, at, domain = login.rpartition("@")
        name = local if at and domain in self.strip else login
        if self.add and "@" not in name:
            name = f"{name}@{self.add}"
        return login if name == login else parse_login(name.encode())


def _names(authzid: bytes, login: str) -> bool:
    return parse_login(authzid) == login


def decode_base64(text: bytes) -> bytes | None:
    """What canonical base64 (RFC 4648, 3.5) stands for; None for anything else."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return None
    return data if encode_base64(data) == text else None


def encode_base64(data: bytes) -> bytes:
    """Base64 without line ends."""
    return base64.b64encode(data)


@dataclass(frozen=True, slots=True)
class Mechanism:
    """How a mechanism begins, and the flags of its MECH line. Both of ours show the password to the server,
    so ``noplaintext`` in smtpd_sasl_security_options must hide them."""

    begin: Callable[[], Exchange]
    flags: tuple[str, ...] = ("plaintext",)
    empty_is_none: bool = False


MECHANISMS: Mapping[str, Mechanism] = {
    "PLAIN": Mechanism(Plain),
    "LOGIN": Mechanism(Login, empty_is_none=True),
}
