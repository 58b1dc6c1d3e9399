"""The settings section ``directory``, and the one place that opens a directory.

Knows the names and defaults of the section and which kind stands for which directory. Must not know how any
of them finds its answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from directory.address import Rules, parse_domain
from directory.cache import CacheSettings
from directory.drafts import Reading
from directory.file import FileDirectory, read_file
from directory.identity import Directory, Principal, Unavailable
from directory.ldap_settings import LdapSettings
from directory.ownership import DomainAliases
from directory.plans import PlanSettings
from directory.roll import Roll
from sidecar.problems import Problem, SettingsError
from sidecar.settings import load


@dataclass(frozen=True, slots=True)
class FileSettings:
    """Where the embedded directory is kept."""

    path: Path = field(
        default=Path("/etc/submitward/directory.yaml"),
        metadata={"help": "the file that lists every principal"},
    )


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """One domain; its aliases are the domains in which every address of it exists as well."""

    aliases: tuple[str, ...] = field(
        default=(), metadata={"parse": parse_domain, "help": "domains that stand for this one"}
    )


@dataclass(frozen=True, slots=True)
class TermsSettings:
    """Whether terms must be accepted before mail is taken."""

    required: bool = field(default=False, metadata={"help": "an entry without terms_accepted has not"})
    url: str = field(default="", metadata={"help": "where terms can be accepted; shown in the refusal"})
    version: str = field(
        default="",
        metadata={"help": "LDAP: the version (1.10) or date (2026-01-31) that was accepted at least"},
    )


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """The section ``directory``."""

    kind: Literal["file", "ldap"] = field(default="file", metadata={"help": "where principals are listed"})
    file: FileSettings = field(default_factory=FileSettings)
    ldap: LdapSettings = field(default_factory=LdapSettings)
    domains: dict[str, DomainSettings] = field(
        default_factory=dict, metadata={"parse_key": parse_domain, "help": "domains that have aliases"}
    )
    addresses: Rules = field(default_factory=Rules)
    plans: PlanSettings = field(default_factory=PlanSettings)
    terms: TermsSettings = field(default_factory=TermsSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)

    def __post_init__(self) -> None:
        if self.kind == "ldap" and not (self.ldap.servers and self.ldap.base):
            raise ValueError("kind ldap needs ldap.servers and ldap.base")
        owner: dict[str, str] = {}
        for domain, entry in self.domains.items():
            for alias in entry.aliases:
                if alias in self.domains:
                    raise ValueError(f"{alias} is an alias of {domain} and cannot stand under domains itself")
                if alias in owner:
                    raise ValueError(f"{alias} is listed twice as an alias: of {owner[alias]} and {domain}")
                owner[alias] = domain

    @property
    def domain_aliases(self) -> DomainAliases:
        """The aliases of each domain, as ownership.expand takes them."""
        return {domain: entry.aliases for domain, entry in self.domains.items()}

    @property
    def reading(self) -> Reading:
        """What turns the lines of a directory into principals."""
        terms = self.terms
        return Reading(
            self.domain_aliases, self.addresses, terms.required, terms.url, terms.version, self.plans
        )


@dataclass(frozen=True, slots=True)
class _Only:
    """A settings file of which only the section ``directory`` is read."""

    OPEN: ClassVar[bool] = True
    directory: DirectorySettings = field(default_factory=DirectorySettings)


def load_directory_settings(path: str | Path) -> DirectorySettings:
    """The section ``directory`` of the settings in `path`. Raises SettingsError."""
    return load(path, _Only).directory


def read_directory(settings: DirectorySettings) -> Roll:
    """Every principal as listed now, for commands that run once; of LDAP the hosts only.

    Raises SettingsError with every mistake, also when LDAP does not answer.
    """
    if settings.kind == "ldap":
        from directory.once import read_hosts

        try:
            return read_hosts(settings.ldap, settings.reading)
        except Unavailable as wrong:
            raise SettingsError([Problem("directory.ldap", 0, 0, "", str(wrong))]) from None
    return read_file(settings.file.path, settings.reading)


def find_principal(settings: DirectorySettings, subject: str) -> Principal | None:
    """The principal of a subject such as ``login:alice``, None when there is none.

    Raises SettingsError or Unavailable.
    """
    kind, _, name = subject.partition(":")
    if settings.kind == "ldap" and kind == "login":
        from directory.once import find_person

        return find_person(settings.ldap, settings.reading, name)
    return next((p for p in read_directory(settings).principals if p.subject == subject), None)


def find_principals(settings: DirectorySettings, subjects: Iterable[str]) -> dict[str, Principal]:
    """The principals of those of `subjects` that are listed. Raises SettingsError or Unavailable."""
    found = {principal.subject: principal for principal in read_directory(settings).principals}
    if settings.kind == "ldap":
        from directory.once import find_people

        logins = [name for kind, _, name in (text.partition(":") for text in subjects) if kind == "login"]
        people = find_people(settings.ldap, settings.reading, logins) if logins else {}
        found |= {f"login:{login}": person for login, person in people.items()}
    return found


def open_directory(
    settings: DirectorySettings, *, reactor: Any, log: Any, owning: bool = True, groups: bool = False
) -> Directory:
    """The directory that `settings` name, not started yet; never raises for an unreadable file.

    Without `owning` nobody may ask it what a principal owns; with `groups` every principal knows its own.
    """
    if settings.kind == "ldap":
        from directory.ldap_directory import LdapDirectory  # ldap3 is loaded by those who use it

        ldap, reading, cache = settings.ldap, settings.reading, settings.cache
        return LdapDirectory(ldap, reading, cache, reactor=reactor, log=log, owning=owning, groups=groups)
    return FileDirectory(settings.file.path, settings.reading, reactor=reactor, log=log)


def open_logins(settings: tuple[DirectorySettings, bool], *, reactor: Any, log: Any) -> Directory:
    """The directory for one that only asks who a login is and whether its password is right; `settings` with
    whether it asks for groups too."""
    directory, groups = settings
    return open_directory(directory, reactor=reactor, log=log, owning=False, groups=groups)
