"""The values of judgement: rules from the settings, facts from the stores, findings and the verdict.

Knows the shape of what judgement takes and gives. Must not know how facts are found, nor what
follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, NamedTuple

from directory import address
from directory.identity import Principal, Question
from ledger.blocks import Blocklist
from ledger.charges import Amounts, Held, Submission
from ledger.events import Event
from ledger.grants import Grants
from ledger.limits import Limit, Standing
from policyd.scopes import NO_GRANTS, Basis, Scope, SharedLimits
from policyd.wire import DUNNO, Action, DeferIfPermit, Reply

Mode = Literal["enforce", "observe", "off"]
Context = Literal["submission", "mx"]
State = Literal["MAIL", "RCPT", "DATA", "END-OF-MESSAGE", ""]

#: Every restriction, in the order that holds without a setting.
RESTRICTIONS: Final = ("principal", "tls", "block", "sender", "recipients", "limits")


class Away(Enum):
    """What stands in place of a fact when its store is unavailable."""

    AWAY = "away"


AWAY: Final = Away.AWAY


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say about judging: restrictions in their order, plans, and how addresses compare."""

    restrictions: tuple[tuple[str, Mode], ...] = tuple((name, "enforce") for name in RESTRICTIONS)
    plans: Mapping[str, tuple[Limit, ...]] = field(default_factory=lambda: {"default": ()})
    addresses: address.Rules = field(default_factory=address.Rules)
    charge: Literal["data", "rcpt"] = "data"
    contact: str = ""
    shared: SharedLimits = field(default_factory=SharedLimits)

    def basis(self, grants: Grants) -> Basis:
        """What plans are chosen by, with these grants."""
        return Basis(self.plans, self.shared, grants)

    def mode(self, name: str) -> Mode:
        """The mode of one restriction."""
        return next((mode for known, mode in self.restrictions if known == name), "enforce")


class Inquiry(NamedTuple):
    """What must be asked: `questions` in this order until one finds a principal; none means there is nobody.

    `state` is ``""`` where nothing can be judged, because the envelope sender is not known yet. `connection`
    is a number for the connection that asks.
    """

    state: State
    context: Context
    questions: tuple[Question, ...]
    connection: int = 0


class Facts(NamedTuple):
    """What was found out; `now` is epoch seconds.

    `blocks` is None until they were read once. `recipients` counts the transaction's recipients, this one
    included. `scopes` are those whose limits it counts for (None: judgement finds them), `standings` theirs,
    as last known. `judged` says that this very message has passed at DATA.
    """

    now: float
    mta: str = ""
    principal: Principal | Away | None = None
    blocks: Blocklist | None = None
    recipients: int = 1
    standings: tuple[Standing, ...] = ()
    judged: bool = False
    scopes: tuple[Scope, ...] | None = None
    grants: Grants = NO_GRANTS


class Finding(NamedTuple):
    """What one restriction has against a request: the action, and private words and values for the log.

    `incident` is what the sender may quote; `event` is what is told to operators, once a window.
    """

    restriction: str
    action: Reply | DeferIfPermit
    reason: str
    incident: str
    detail: tuple[tuple[str, object], ...] = ()
    event: Event | None = None


class Charge(NamedTuple):
    """What the ledger is to take; at END-OF-MESSAGE only `amounts` counts."""

    submission: Submission | None
    amounts: Amounts
    limits: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`found` decides (None: nothing against it), `observed` would have; `charge` is still to be taken.
    `warnings` are what operators should hear of although it passes."""

    action: Action = DUNNO
    found: Finding | None = None
    observed: tuple[Finding, ...] = ()
    principal: Principal | None = None
    charge: Charge | None = None
    warnings: tuple[Event, ...] = ()


PASSED: Final = Verdict()
