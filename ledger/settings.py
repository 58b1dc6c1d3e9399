"""The ledger's settings, and the one place that turns them into a store.

Knows the sections `ledger` and `plans`. Must not know who uses the store.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from ledger.limits import Limit, parse_limit
from sidecar.settings import Secret

if TYPE_CHECKING:
    from ledger.charges import Ledger

#: The section `plans`: a name and its limits. A plan without limits is exempt.
Plans = dict[str, tuple[Limit, ...]]

DEFAULT_PLAN = ("500 recipients per day", "100 messages per hour", "100 recipients per message")


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """Section `ledger.sqlite`."""

    path: Path = field(
        default=Path("/var/lib/submitward/ledger.sqlite"),
        metadata={"help": "the database file; its directory is setgid and writable for the sidecars' group"},
    )


def parse_server(text: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[::1]:port``. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is no server: write host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether nobody else can reach `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class SentinelSettings:
    """Section `ledger.redis.sentinel`."""

    servers: tuple[str, ...] = field(
        default=(), metadata={"help": "the Sentinels, host:port; they are asked for the primary"}
    )
    service: str = field(default="mymaster", metadata={"help": "what the Sentinels call the primary"})
    user: str = field(default="", metadata={"help": "the ACL user at the Sentinels; without one, `default`"})
    password: Secret | None = field(
        default=None, metadata={"help": "{file: /path} or {credential: name}; that of the Sentinels"}
    )

    def __post_init__(self) -> None:
        for server in self.servers:
            parse_server(server)


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Section `ledger.redis`."""

    url: str = field(
        default="redis://localhost:6379/0",
        metadata={
            "help": "redis://host:port/db, rediss:// (TLS) or unix:///path/to/socket; with Sentinel only the"
            " scheme and the db of it count"
        },
    )
    user: str = field(default="", metadata={"help": "the ACL user; without one, Redis' `default`"})
    password: Secret | None = field(
        default=None, metadata={"help": "{file: /path} or {credential: name}; required beyond this host"}
    )
    ca_file: str = field(default="", metadata={"help": "the CA of a rediss:// server; else the system's"})
    sentinel: SentinelSettings = field(default_factory=SentinelSettings)
    prefix: str = field(default="submitward:", metadata={"help": "what all keys begin with"})
    insist: bool = field(
        default=False,
        metadata={
            "help": "use a Redis that may evict keys (maxmemory-policy allkeys-*), or one beyond this host"
            " without a password, all the same"
        },
    )

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.password or parts.username:  # first: no later text may show them
            raise ValueError("user and password do not stand in the url: set user and password")
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(f"{self.url!r}: redis://, rediss:// and unix:// are known")
        if parts.scheme == "unix" and not parts.path.startswith("/"):
            raise ValueError("write unix:///path/to/socket")
        if self.db < 0 or (parts.port or 1) < 1:  # which parses both
            raise ValueError(f"{self.url!r}: the port or the number of the database is wrong")
        hosts = [parse_server(server)[0] for server in self.sentinel.servers] or [self.host]
        away = [] if parts.scheme == "unix" else [host for host in hosts if not is_loopback(host)]
        if away and self.password is None and not self.insist:
            raise ValueError(f"{away[0]} can be reached by others: set password (or insist: true)")

    @property
    def host(self) -> str:
        """The server, ``""`` for a socket."""
        return "" if self.socket else urlsplit(self.url).hostname or "localhost"

    @property
    def port(self) -> int:
        """Its port."""
        return urlsplit(self.url).port or 6379

    @property
    def socket(self) -> str:
        """The path of a UNIX socket, ``""`` for a server."""
        parts = urlsplit(self.url)
        return unquote(parts.path) if parts.scheme == "unix" else ""

    @property
    def tls(self) -> bool:
        """Whether to speak TLS."""
        return self.url.startswith("rediss:")

    @property
    def db(self) -> int:
        """The number of the database. ValueError when it is none."""
        parts = urlsplit(self.url)
        text = parse_qs(parts.query).get("db", ["0"])[0] if self.socket else parts.path.strip("/") or "0"
        return int(text)


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Section `ledger`."""

    kind: Literal["sqlite", "redis"] = field(
        default="sqlite", metadata={"help": "`sqlite` for one host, `redis` for several"}
    )
    sqlite: SqliteSettings = field(default_factory=SqliteSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    unavailable: Literal["defer", "local"] = field(
        default="defer",
        metadata={
            "help": "while Redis is away, `defer` has senders try later and `local` goes on with what this"
            " host counts by itself"
        },
    )


def default_plans() -> Plans:
    """What stands without a `plans` section: limits that a person does not meet and a thief does."""
    return {"default": tuple(map(parse_limit, DEFAULT_PLAN))}


def open_ledger(settings: LedgerSettings, *, reactor: Any, log: Any) -> Ledger:
    """The store that the settings name, not yet started: `start()` begins to serve."""
    from ledger.sqlite import SqliteLedger

    local = SqliteLedger(settings.sqlite.path, reactor=reactor, log=log)
    if settings.kind == "sqlite":
        return local
    from ledger.shared import SharedLedger

    return SharedLedger(settings, local=local, reactor=reactor, log=log)
