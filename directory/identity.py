"""Who a principal is, and what may be asked of a directory.

Knows the three kinds of principal, the questions about them and the one exception that means "we cannot know
now". Must not know where the answers come from.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NewType, Protocol

Kind = Literal["login", "certificate", "network"]

#: An address in normal form (``directory.address.parse`` makes them); ``""`` is the null sender.
Address = NewType("Address", str)


class Unavailable(Exception):
    """The directory cannot answer now. Always temporary for the sender, never a refusal."""


class Mistaken(Unavailable):
    """The directory answers, and what it holds cannot be right: no older answer may stand in for that."""


class Unanswered(Unavailable):
    """A password has gone out and no answer came: it may count as a failure where it went."""


class BadLogin(ValueError):
    """A name that cannot be a login: empty, too long, or holding characters that are refused."""


@dataclass(frozen=True, slots=True)
class Login:
    """Question: the principal behind a SASL login, `name` being in normal form (see `normal_login`).

    `credential` names the app password that it came with, if that narrows it; directories know nothing of it.
    """

    name: str
    credential: str = ""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Question: the principal behind a client certificate.

    `fingerprints` are candidates in the form ``sha256:0a1b…`` (see `normal_fingerprint`), the certificate's
    own first and its public key's second, as Postfix's relay_clientcerts compares both (postconf(5)).
    """

    fingerprints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """Question: the principal behind a client address (IPv4 or IPv6 text); the longest listed prefix wins."""

    address: str


Question = Login | Certificate | Network


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever submits, with what it owns.

    `name` is the login, ``sha256:…`` or the network in CIDR form. `addresses` maps each owned address to the
    words that say which entry gives it. `domains` maps each wholly owned domain (A-labels) likewise.
    `domain` is the primary domain, never an alias of one, ``""`` if there is none. `authors` and
    `author_domains` may stand in From: instead of the others when `only_authors`, else beside them.
    `terms_url` is where terms can be accepted.
    `fingerprints` are all of a certificate's, the one in `name` first. `networks` (CIDR) are where a login
    may come from, everywhere when there are none. `plan_from` says in words why it has its `plan`. `groups`
    are those it is in, as far as they were asked for, in the form of `plans.names_of_group`.
    """

    kind: Kind
    name: str
    addresses: Mapping[Address, str] = field(default_factory=dict)
    domains: Mapping[str, str] = field(default_factory=dict)
    domain: str = ""
    plan: str = "default"
    null_sender: bool = False
    disabled: bool = False
    terms_accepted: bool = True
    terms_url: str = ""
    fingerprints: tuple[str, ...] = ()
    authors: Mapping[Address, str] = field(default_factory=dict)
    author_domains: Mapping[str, str] = field(default_factory=dict)
    only_authors: bool = False
    networks: tuple[str, ...] = ()
    plan_from: str = "its entry"
    groups: frozenset[str] = frozenset()

    @property
    def subject(self) -> str:
        """The ledger's name for this principal, ``kind:name``."""
        return f"{self.kind}:{self.name}"


class Credentials:
    """A login and the password that came with it. Has no printable form and compares to nothing."""

    __slots__ = ("login", "password")

    def __init__(self, login: str, password: bytes) -> None:
        self.login = login
        self.password = password

    def __repr__(self) -> str:
        return f"<Credentials of {self.login!r}>"


#: Why a credential was refused, for the log only; the client never sees it.
#: What the directory itself says is the same to the client as a wrong password.
Reason = Literal[
    "unknown_login",
    "wrong_password",
    "disabled",
    "locked",
    "expired",
    "password_expired",
    "must_change_password",
    "not_in_group",
    "not_permitted",
]


@dataclass(frozen=True, slots=True)
class Verified:
    """The credential is right; `login` is the one normal form that goes out as ``user=``."""

    login: str


@dataclass(frozen=True, slots=True)
class Denied:
    """The credential is known to be wrong."""

    reason: Reason


class Directory(Protocol):
    """What every directory answers. `look_up` answers at once when it can: no Awaitable without need."""

    def look_up(self, question: Question) -> Principal | Awaitable[Principal | None] | None:
        """The principal, or None when nothing listed answers; raises (or fails with) Unavailable."""

    def verify(self, credentials: Credentials) -> Awaitable[Verified | Denied]:
        """Judge a credential; fails with Unavailable when it cannot be judged now."""

    def principals(self) -> Awaitable[tuple[Principal, ...]]:
        """Every listed principal, for `submitward export postfix`; fails with Unavailable."""

    def flush(self, login: str = "") -> int:
        """Forget what is remembered of a login, or of everybody; returns how many answers that were."""
        return 0

    def start(self) -> None:
        """Begin to follow changes. Called once, with the reactor running or about to."""

    def stop(self) -> None:
        """Let go of threads, timers and files."""

    def state(self) -> str:
        """``ok``, ``stale`` (answering from what was known) or ``unavailable``."""


_LOGIN_REFUSED = re.compile(r"[\x00-\x20\x7f-\x9f#\u2028\u2029\ufeff]")
LOGIN_MAX = 255  # octets in UTF-8, so that user= stays far below the peers' 8192 byte line


def normal_login(text: str) -> str:
    """The one normal form of a login: NFC, lower case. Raises BadLogin.

    Control characters and blanks are refused because neither Postfix nor Exim unescapes them, ``#`` because
    it will split a login from the name of an app password.
    """
    name = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    if not name or len(name.encode("utf-8", "surrogatepass")) > LOGIN_MAX:
        raise BadLogin("a login has 1 to 255 octets")
    if _LOGIN_REFUSED.search(name) or any("\ud800" <= c <= "\udfff" for c in name):
        raise BadLogin("a login holds no control character, blank or #")
    return name


def join_credential(login: str, credential: str) -> str:
    """The name under which a login goes out that came with an app password that narrows it."""
    return f"{login}#{credential}"


def parse_login(name: str) -> Login:
    """The question behind a name as it went out on AUTH. Raises BadLogin."""
    login, credential = split_credential(name)
    if "#" in name and not _CREDENTIAL.fullmatch(credential):
        raise BadLogin("what follows # is no id of an app password")
    return Login(normal_login(login), credential)


_CREDENTIAL = re.compile(r"[a-z0-9]{1,32}", re.ASCII)


def split_credential(name: str) -> tuple[str, str]:
    """The login in a name as `join_credential` makes it, and the app password's id or ``""``. Everything but
    the narrowing goes by the login."""
    login, _, credential = name.partition("#")
    return login, credential


_DIGESTS = {16: "md5", 20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}
_HEX = re.compile(r"(?:[0-9a-f]{2})+")


def normal_fingerprint(text: str) -> str:
    """``algorithm:hex`` from any usual spelling (colons, upper case, with or without the algorithm).

    The length tells the algorithm (smtpd_tls_fingerprint_digest, postconf(5)). Raises ValueError.
    """
    value = text.strip().lower()
    named, _, rest = value.partition(":")
    algorithm = named if named in _DIGESTS.values() else ""
    digits = (rest if algorithm else value).replace(":", "")
    if not _HEX.fullmatch(digits) or len(digits) // 2 not in _DIGESTS:
        raise ValueError(f"{text!r} is no fingerprint: hexadecimal of 16, 20, 32, 48 or 64 bytes is")
    by_length = _DIGESTS[len(digits) // 2]
    if algorithm and algorithm != by_length:
        raise ValueError(f"{text!r} has the length of {by_length}, not of {algorithm}")
    return f"{by_length}:{digits}"
