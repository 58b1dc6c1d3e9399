"""The settings of saslauthd: its own section, and the sections of others that it reads.

Knows names, defaults and which combinations are wrong. Must not know how anything is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from directory.address import parse_domain
from directory.identity import normal_login
from directory.plans import normal_group
from directory.roll import parse_network
from directory.settings import DirectorySettings
from ledger.settings import LedgerSettings
from saslauthd import guard
from saslauthd.admissions import Admissions
from saslauthd.mechanisms import Realm
from saslauthd.session import Rules
from sidecar.listen import Listen
from sidecar.log import LogSettings
from sidecar.settings import duration, host_name, load

FOREIGN = frozenset({"policy", "plans", "limits", "author", "sign", "dns"})


def _network(text: str) -> str:
    return str(parse_network(text))


def _window(text: str) -> float:
    seconds = duration(text)
    if not 0 < seconds <= 30 * 86400:
        raise ValueError("must be more than nothing, and 30 days at most")
    return seconds


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1_000_000:
        raise ValueError(f"{text!r} is no number from 1 to 1000000")
    return int(text)


def _up_to(most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        seconds = duration(text)
        if seconds > most:
            raise ValueError(f"is {most:g} s at most")
        return seconds

    return parse


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """The section `auth.guard`. Failures are different credentials that were wrong within `window`."""

    pair: int = field(
        default=10, metadata={"parse": _count, "help": "failures of a login from one network before 454"}
    )
    network: int = field(
        default=30, metadata={"parse": _count, "help": "failures from one network before 454"}
    )
    login: int = field(
        default=300, metadata={"parse": _count, "help": "failures of a login from everywhere before 454"}
    )
    window: float = field(default=900.0, metadata={"parse": _window, "help": "for how long a failure counts"})
    binds: int = field(
        default=4,
        metadata={
            "parse": _count,
            "help": "wrong passwords of a login that reach the directory within binds_window; one less than"
            " the directory locks at. A fifth is kept for networks where the login succeeded lately",
        },
    )
    binds_window: float = field(
        default=900.0,
        metadata={
            "parse": _up_to(30 * 86400.0),
            "help": "at least as long as the directory counts a failure; 0 s when it counts until a success",
        },
    )
    known: float = field(
        default=30 * 86400.0,
        metadata={"parse": _window, "help": "how long a network counts as known after a success"},
    )
    ipv4: int = field(default=32, metadata={"help": "bits of an IPv4 address that make a network"})
    ipv6: int = field(default=64, metadata={"help": "bits of an IPv6 address that make a network"})
    floor: float = field(
        default=0.25,
        metadata={
            "parse": _up_to(2.0),
            "help": "every refusal takes a multiple of this, so that it tells nothing",
        },
    )
    delay: float = field(
        default=4.0, metadata={"parse": _up_to(5.0), "help": "how long a refusal is put off at most"}
    )

    def __post_init__(self) -> None:
        if self.binds < 2:
            raise ValueError("binds is at least 2: one for everybody and one for known networks")
        if not (8 <= self.ipv4 <= 32 and 16 <= self.ipv6 <= 128):
            raise ValueError("ipv4 is 8 to 32 and ipv6 is 16 to 128")

    @property
    def rules(self) -> guard.Rules:
        """What the guard judges by."""
        return guard.Rules(**{name: getattr(self, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class AuthCacheSettings:
    """The section `auth.cache`: how long this process remembers a credential."""

    failures: float = field(
        default=30.0, metadata={"parse": _up_to(60.0), "help": "a wrong credential; 0 s: not at all"}
    )
    successes: float = field(
        default=0.0,
        metadata={
            "parse": _up_to(120.0),
            "help": "a right one, 120 s at most; 0 s: the directory is asked anew",
        },
    )


@dataclass(frozen=True, slots=True)
class AppPasswordOnly:
    """The section `auth.app_password_only`: who must use an app password."""

    logins: tuple[str, ...] = field(default=(), metadata={"parse": normal_login, "help": "logins"})
    plans: tuple[str, ...] = field(default=(), metadata={"help": "plans, all of whose logins must"})
    groups: tuple[str, ...] = field(
        default=(),
        metadata={
            "parse": normal_group,
            "help": "groups of the directory (a name, or the whole DN in LDAP), all of whose members must",
        },
    )


@dataclass(frozen=True, slots=True)
class RealmSettings:
    """The section `auth.realm`: what a login that was typed becomes before anything else looks at it."""

    strip: tuple[str, ...] = field(
        default=(),
        metadata={"parse": parse_domain, "help": "domains that are taken off, alice@example.org being alice"},
    )
    add: str = field(
        default="",
        metadata={"parse": parse_domain, "help": "the domain that is added to a login without one"},
    )

    @property
    def realm(self) -> Realm:
        """The rule."""
        return Realm(frozenset(self.strip), self.add)


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """The section `auth`."""

    mechanisms: tuple[Literal["plain", "login"], ...] = field(
        default=("plain", "login"), metadata={"help": "what is offered, in this order; at least one"}
    )
    require_tls: bool = field(
        default=True, metadata={"help": "refuse who is not on TLS, before the directory is asked"}
    )

    realm: RealmSettings = field(default_factory=RealmSettings)
    guard: GuardSettings = field(default_factory=GuardSettings)
    cache: AuthCacheSettings = field(default_factory=AuthCacheSettings)
    networks: dict[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata={
            "parse": _network,
            "help": "by plan: where its logins may come from; an entry's own networks count before them",
        },
    )
    app_password_only: AppPasswordOnly = field(default_factory=AppPasswordOnly)

    @property
    def admissions(self) -> Admissions:
        """Who may come in with what and from where."""
        only = self.app_password_only
        plans, groups = frozenset(only.plans), frozenset(only.groups)
        return Admissions(self.networks, frozenset(only.logins), plans, groups)

    def __post_init__(self) -> None:
        if not self.mechanisms:
            raise ValueError("mechanisms is empty, and smtpd stops without one; allowed: plain, login")
        if len(set(self.mechanisms)) < len(self.mechanisms):
            raise ValueError("mechanisms names one twice")


@dataclass(frozen=True, slots=True)
class Settings:
    """All that saslauthd reads."""

    version: Literal[1] = field(metadata={"help": "of these settings: 1"})
    mta: str = field(
        default_factory=host_name,
        metadata={"help": "the name of this mail host in the ledger, the same for all its sidecars"},
    )
    environment: str = field(default="production", metadata={"help": "a word for the log"})
    listen: Listen = field(default_factory=Listen)
    directory: DirectorySettings = field(default_factory=DirectorySettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    log: LogSettings = field(default_factory=LogSettings)

    @property
    def logins(self) -> tuple[DirectorySettings, bool]:
        """What the directory is opened by: its section, and whether groups are asked for."""
        return self.directory, bool(self.auth.app_password_only.groups)

    @property
    def rules(self) -> Rules:
        """What the judgement of a connection needs of all this."""
        auth = self.auth
        return Rules(tuple(name.upper() for name in auth.mechanisms), auth.require_tls, auth.realm.realm)


def load_settings(path: str | Path) -> Settings:
    """The settings in `path` and its conf.d. Raises SettingsError with every mistake."""
    return load(path, Settings, foreign=FOREIGN)
