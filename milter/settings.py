"""The settings of the milter: its own sections, and the sections of others that it reads.

Knows names, defaults and which combinations are wrong. Must not know how anything is judged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from directory.settings import DirectorySettings
from ledger.settings import LedgerSettings
from milter.questions import Rules
from sidecar.listen import Listen
from sidecar.log import LogSettings
from sidecar.settings import duration, host_name, load

FOREIGN = frozenset({"plans", "limits", "auth", "dns"})


@dataclass(frozen=True, slots=True)
class AuthorSettings:
    """The section `author`."""

    mode: Literal["enforce", "observe", "off"] = field(
        default="enforce",
        metadata={
            "help": "`observe` logs what would have been refused or deferred and lets it pass, without the"
            " DKIM-Signature fields that would keep the signer from signing"
        },
    )
    sender: Literal["owned", "any"] = field(
        default="owned", metadata={"help": "whose mailbox may stand in a Sender field"}
    )
    resent: Literal["refuse", "allow"] = field(
        default="refuse", metadata={"help": "messages with Resent- fields"}
    )
    display_name: Literal["allow", "strict"] = field(
        default="allow",
        metadata={
            "help": "`strict` refuses names that hold another address or invisible letters, also encoded"
        },
    )
    long_lines: Literal["refuse", "pass"] = field(
        default="refuse",
        metadata={
            "help": "lines over 998 octets, which Postfix folds after they are signed; with"
            " `force_mime_input_conversion` (Postfix 3.9 and later) there are none"
        },
    )
    authserv_ids: tuple[str, ...] = field(
        default=(),
        metadata={"help": "further names under which Authentication-Results are written here"},
    )
    missing_key: Literal["temporary", "permanent"] = field(
        default="temporary", metadata={"help": "how a message is refused for whose From domain no key signs"}
    )


@dataclass(frozen=True, slots=True)
class SignSettings:
    """The section `sign`. Without tables nothing is checked about keys."""

    by: Literal["opendkim"] = field(default="opendkim", metadata={"help": "who signs after us"})
    key_table: Path | None = field(default=None, metadata={"help": "OpenDKIM's KeyTable"})
    signing_table: Path | None = field(
        default=None, metadata={"help": "OpenDKIM's SigningTable, which it reads as `refile:`"}
    )
    keys: Path = field(
        default=Path("/etc/opendkim/keys"),
        metadata={"help": "where `submitward dkim` keeps private keys, and what it knows of them"},
    )
    user: str = field(default="opendkim", metadata={"help": "who signs, and owns the keys"})
    reload: tuple[str, ...] = field(
        default=("systemctl", "reload", "opendkim"),
        metadata={
            "default": "`[systemctl, reload, opendkim]`",
            "help": "the command after which OpenDKIM has read its tables again; empty: you do it",
        },
    )
    socket: Path | None = field(
        default=None,
        metadata={"help": "OpenDKIM's UNIX socket: `submitward dkim` asks there which key signs"},
    )
    confirm: bool = field(
        default=False,
        metadata={
            "help": "have the milter ask at `socket` whether OpenDKIM has read the tables, once a minute for"
            " an author: mail waits for a reload that is missing. The milter's user needs that socket"
        },
    )
    keep: float = field(
        default=864000.0,
        metadata={
            "parse": duration,
            "default": "`10 days`",
            "help": "how long the key of the last mail stays in DNS: the x= of its signatures, and never less"
            " than Postfix's maximal_queue_lifetime",
        },
    )

    def __post_init__(self) -> None:
        if (self.key_table is None) != (self.signing_table is None):
            raise ValueError("key_table and signing_table belong together: name both or neither")
        if self.confirm and (self.socket is None or self.key_table is None):
            raise ValueError("confirm needs socket, key_table and signing_table")


@dataclass(frozen=True, slots=True)
class PolicyView:
    """What we read of policyd's section `policy`."""

    OPEN: ClassVar[bool] = True

    charge: Literal["data", "rcpt"] = "data"
    contact: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the milter reads."""

    version: Literal[1] = field(metadata={"help": "of these settings: 1"})
    mta: str = field(
        default_factory=host_name,
        metadata={"help": "the name of this mail host in the ledger, the same for all its sidecars"},
    )
    environment: str = field(default="production", metadata={"help": "a word for the log"})
    listen: Listen = field(default_factory=Listen)
    directory: DirectorySettings = field(default_factory=DirectorySettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    policy: PolicyView = field(default_factory=PolicyView)
    author: AuthorSettings = field(default_factory=AuthorSettings)
    sign: SignSettings = field(default_factory=SignSettings)
    log: LogSettings = field(default_factory=LogSettings)

    @property
    def rules(self) -> Rules:
        """What judgement needs of all this."""
        author = self.author
        return Rules(
            mode=author.mode,
            owned_sender=author.sender == "owned",
            resent=author.resent == "allow",
            long_lines=author.long_lines == "pass",
            names=frozenset(name.lower() for name in (self.mta, *author.authserv_ids)),
            strict_names=author.display_name == "strict",
            missing_key_is_temporary=author.missing_key == "temporary",
            by_record=self.policy.charge == "data",
            addresses=self.directory.addresses,
            contact=self.policy.contact,
        )


def load_settings(path: str | Path) -> Settings:
    """The settings in `path` and its conf.d. Raises SettingsError with every mistake."""
    return load(path, Settings, foreign=FOREIGN)
