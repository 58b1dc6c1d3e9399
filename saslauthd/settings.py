"""The settings of saslauthd: its own section, and the sections of others that it reads.

Knows names, defaults and which combinations are wrong. Must not know how anything is judged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from directory.settings import DirectorySettings
from ledger.settings import LedgerSettings
from saslauthd.session import Rules
from sidecar.listen import Listen
from sidecar.log import LogSettings
from sidecar.settings import host_name, load

FOREIGN = frozenset({"policy", "plans", "author", "sign"})


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """The section `auth`."""

    mechanisms: tuple[Literal["plain", "login"], ...] = field(
        default=("plain", "login"), metadata={"help": "what is offered, in this order; at least one"}
    )
    require_tls: bool = field(
        default=True, metadata={"help": "refuse who is not on TLS, before the directory is asked"}
    )

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
    def rules(self) -> Rules:
        """What the judgement of a connection needs of all this."""
        return Rules(tuple(name.upper() for name in self.auth.mechanisms), self.auth.require_tls)


def load_settings(path: str | Path) -> Settings:
    """The settings in `path` and its conf.d. Raises SettingsError with every mistake."""
    return load(path, Settings, foreign=FOREIGN)
