"""Every section of the settings in one dataclass, as the operator's command reads them.

Knows which sections there are and who owns them. Must not know what any of them means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from directory.settings import DirectorySettings
from ledger.limits import parse_limit
from ledger.settings import DEFAULT_PLAN, LedgerSettings, Plans, default_plans
from milter.settings import AuthorSettings, SignSettings
from policyd.scopes import SharedLimits
from policyd.settings import Mistake, PolicySettings, mistakes
from saslauthd.settings import AuthSettings
from sidecar.listen import Listen
from sidecar.log import LogSettings
from sidecar.settings import host_name, load
from submitward.dns.settings import DnsSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """All sections. What each sidecar reads is a part of this, by the same names and types."""

    version: Literal[1] = field(metadata={"help": "of these settings: 1"})
    mta: str = field(
        default_factory=host_name,
        metadata={
            "default": "the host name",
            "help": "the name of this mail host in the ledger, the same for all its sidecars",
        },
    )
    environment: str = field(default="production", metadata={"help": "a word for the log"})
    listen: Listen = field(default_factory=Listen)
    directory: DirectorySettings = field(default_factory=DirectorySettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    plans: Plans = field(
        default_factory=default_plans,
        metadata={
            "parse": parse_limit,
            "default": f"`default: [{', '.join(DEFAULT_PLAN)}]`",
            "help": "named sets of limits, such as `500 recipients per day`, `25 MB per message`",
        },
    )
    limits: SharedLimits = field(default_factory=SharedLimits)
    policy: PolicySettings = field(default_factory=PolicySettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    author: AuthorSettings = field(default_factory=AuthorSettings)
    sign: SignSettings = field(default_factory=SignSettings)
    dns: DnsSettings = field(default_factory=DnsSettings)
    log: LogSettings = field(default_factory=LogSettings)

    def mistakes(self) -> Iterator[Mistake]:
        """What is wrong between sections."""
        return mistakes(self.plans, self.limits, self.directory)


def load_settings(path: str | Path) -> Settings:
    """The settings in `path` and its conf.d. Raises SettingsError with every mistake of every section."""
    return load(path, Settings)
