"""The words of the ledger: what is charged, to whom, and what comes back.

Knows the values that cross the ledger's door and the verbs every store offers. Must not know how a store
keeps them, nor what mail is beyond messages, recipients and bytes.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from ledger.app_passwords import AppPassword
from ledger.blocks import Block
from ledger.events import Event
from ledger.limits import AMOUNT_MAX, Limit, Standing
from ledger.marks import Mark, Pair, Seen
from ledger.tombstones import Tombstone

LAPSE = 3600.0  # seconds after which an unsettled reservation is given back
LAPSED_KEPT = 86400.0  # seconds for which a lapsed one can still be settled, which charges it anew
RECORD_KEPT = 3600.0  # seconds for which a settled or refunded charge is known
UNTAKEN_WITHIN = 600.0  # seconds before a milter's start in which what was reserved may be its predecessor's
ENDED_BLOCK_KEPT = 86400.0  # seconds for which an ended block is still among the blocks


class Unavailable(Exception):
    """The store cannot answer now. Always temporary for the sender, never a refusal and never a yes."""


@dataclass(frozen=True, slots=True)
class ChargeId:
    """Names one delivery attempt: a repeat of the same one costs nothing.

    `mta` is the setting, `instance` and `queue_id` are Postfix's (SMTPD_POLICY_README).
    """

    mta: str
    instance: str
    queue_id: str


@dataclass(frozen=True, slots=True)
class Submission:
    """The submission record: who submits (a subject, ``login:alice``) and as which envelope sender."""

    principal: str
    sender: str


@dataclass(frozen=True, slots=True)
class Amounts:
    """What one message costs."""

    messages: int = 1
    recipients: int = 0
    bytes: int = 0

    def bounded(self) -> Amounts:
        """The same, each from 0 to AMOUNT_MAX: clients declare sizes, and sums must not overflow."""
        if (
            0 <= self.messages <= AMOUNT_MAX
            and 0 <= self.recipients <= AMOUNT_MAX
            and 0 <= self.bytes <= AMOUNT_MAX
        ):
            return self
        return Amounts(*(min(max(0, n), AMOUNT_MAX) for n in (self.messages, self.recipients, self.bytes)))

    def over(self, other: Amounts) -> Amounts:
        """What this has over `other`, nothing being less than 0."""
        return Amounts(
            max(0, self.messages - other.messages),
            max(0, self.recipients - other.recipients),
            max(0, self.bytes - other.bytes),
        )


#: One limit to hold: the subject that pays, the limit, and whether it refuses or only counts.
Held = tuple[str, Limit, bool]


@dataclass(frozen=True, slots=True)
class Admitted:
    """Taken (or already taken). `standings` are in the order of the limits that were given."""

    standings: tuple[Standing, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was taken. `standing` is the state of the limit that refuses (of several the one that reopens
    last); `reopens_at` (epoch seconds) is when the same amounts would fit, None when they never can: more
    than a whole window, or than a message may have."""

    limit: Limit
    standing: Standing
    reopens_at: float | None


def last_to_reopen(refusals: Iterable[Refused]) -> Refused:
    """The refusal that stands longest, so that a sender who waits for it is not refused again. The first of
    equals; `refusals` is not empty."""
    return max(refusals, key=lambda refused: math.inf if refused.reopens_at is None else refused.reopens_at)


class Ledger(Protocol):
    """The verbs every store has. Each is atomic; Unavailable is the only exception that comes out."""

    def reserve(
        self,
        charge: ChargeId,
        submission: Submission | None,
        amounts: Amounts,
        limits: tuple[Held, ...],
        *,
        final: bool = False,
    ) -> Awaitable[Admitted | Refused]:
        """Take all limits in one step or none, and write the submission record in that step.

        A repeat with the same amounts costs nothing, with other amounts it replaces the reservation (a
        refused replacement takes nothing and gives nothing up; what is settled stays charged); what was
        refused before is judged afresh. The record is written also when `limits` is empty. `final` charges
        are settled at once (``charge: rcpt``): no record, no settlement, no refund.
        """

    def settle(self, charge: ChargeId, amounts: Amounts) -> Awaitable[Admitted | Refused]:
        """Replace the reservation by the real amounts, for good.

        What is over the reserved amounts is taken all or none; a refusal gives the reservation back and
        removes the record. A lapsed or so refused reservation is charged anew; after a refund nothing is. A
        repeat costs nothing. A reservation that never was settles to ``Admitted(())`` and charges nothing.
        """

    def release(self, charge: ChargeId) -> Awaitable[bool]:
        """Give an unsettled reservation back (the transaction was abandoned). True if there was one."""

    def refund(self, mta: str, queue_id: str, subject: str) -> Awaitable[bool]:
        """Give back what was charged for the message that `subject` submitted under this queue id, out of the
        very sub-window that was charged. Idempotent. True if something was given back by this call."""

    def record(self, mta: str, queue_id: str) -> Awaitable[Submission | None]:
        """The submission record, kept one hour. None when nothing is charged for it any more (lapsed or
        refunded)."""

    def take_up(self, mta: str, queue_id: str) -> Awaitable[Submission | None]:
        """The record, and in the same step the mark that the milter lets the message through."""

    def refund_untaken(self, mta: str, older_than: float) -> Awaitable[int]:
        """Give back what was charged for messages of `mta` that have a record and were not taken up: a milter
        that starts has lost its predecessor's connections, and the MTA answers 451 for what was on them.

        Only what was reserved (settling changes nothing about it) `older_than` seconds before this call or
        earlier, and no earlier than UNTAKEN_WITHIN seconds before that. The time that the store takes makes
        nothing older. Returns how many; a store may bound one call, and 0 means that none is left.
        """

    def standing(self, pairs: tuple[tuple[str, Limit], ...]) -> Awaitable[tuple[Standing, ...]]:
        """What each subject has used of each limit."""

    def reset(self, subject: str, author: str, reason: str) -> Awaitable[int]:
        """Forget what `subject` has used; returns how many counters there were. Audited."""

    def blocks(self) -> Awaitable[tuple[int, tuple[Block, ...]]]:
        """The generation and every block that is not lifted (ended ones may be among them)."""

    def block(self, block: Block) -> Awaitable[Block]:
        """Keep a block. Audited."""

    def lift(self, block_id: str, author: str, reason: str) -> Awaitable[bool]:
        """Lift a block, leaving a tombstone. False if there is none such. Audited."""

    def block_once(self, block: Block) -> Awaitable[bool]:
        """Keep a block unless one of its id is or was there (False). Audited."""

    def history(self) -> Awaitable[tuple[Tombstone, ...]]:
        """Every block that is known, ended and lifted ones too, oldest first."""

    def note_event(self, event: Event) -> Awaitable[bool]:
        """Keep an event, of which the oldest are forgotten. False when one of its id is there already."""

    def events_of(self, subject: str) -> Awaitable[tuple[Event, ...]]:
        """The newest events of a subject, the newest first."""

    def guard_look(self, pairs: tuple[Pair, ...]) -> Awaitable[tuple[Seen, ...]]:
        """How many marks are under each key, and whether the named one is."""

    def guard_note(self, marks: tuple[Mark, ...]) -> Awaitable[bool]:
        """Note all marks in one step, or none (False) where one would be too many."""

    def guard_drop(self, pairs: tuple[Pair, ...]) -> Awaitable[None]:
        """Forget marks; an empty name stands for all under its key."""

    def guard_names(self, key: str) -> Awaitable[tuple[str, ...]]:
        """The names of the marks under a key, in order."""

    def secret(self, name: str) -> Awaitable[bytes]:
        """32 random octets, the same for all who share this store."""

    def app_passwords(self, login: str) -> Awaitable[tuple[AppPassword, ...]]:
        """Every app password of a login, oldest first, revoked and ended ones too."""

    def keep_app_password(self, one: AppPassword, author: str) -> Awaitable[bool]:
        """Keep a new one, made now; False when its id is taken. Audited, moves the generation."""

    def revoke_app_password(self, login: str, id: str, author: str) -> Awaitable[bool]:
        """Revoke one for good. False if there is none such that holds. Audited, moves the generation."""

    def use_app_password(self, login: str, id: str, address: str) -> Awaitable[None]:
        """Note that it was used now, from this client address."""

    def watch(self, changed: Callable[[int, tuple[Block, ...]], None]) -> None:
        """Call `changed` with the generation and the blocks, first when they are known for the first time and
        then whenever the generation moves (blocks, lifts, resets, refunds), within 250 ms."""

    def start(self) -> None:
        """Begin to serve. Never waits for the store and never raises for its absence."""

    def stop(self) -> Awaitable[None]:
        """Finish what is queued and close."""

    def state(self) -> Literal["ok", "degraded", "unavailable"]:
        """How the last attempt to reach the store ended; ``degraded`` goes on without it."""
