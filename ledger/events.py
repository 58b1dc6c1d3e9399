"""Events: what became of a limit or of a block that somebody should hear of, told once a window.

Knows their values, how they are named and written, and how many are kept. Must not know where they are kept,
who notes them, or what time it is.

The windows of a limit are numbered by the clock (an hour's begin at each full hour UTC), and an event's id
follows from the limit, who pays and that number. So every host tells the sender the same id without asking
anybody, and whoever notes it first has noted it for all.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from ledger.limits import Limit, Standing, format_limit

Kind = Literal["trip", "warning", "block", "permanent"]

MOST = 20_000  # events that are kept; the oldest goes for the newest
KEPT = 31 * 86400.0  # seconds for which one is kept
MOST_OF_ONE = 200  # that are kept findable by their subject
LEVELS = (90, 80)  # percent of a limit at which a warning is due, the highest first
_LONGEST = 320  # characters of what a peer has said

#: What the author of a block is called that nobody has asked for. No user can have this name.
ITSELF = "submitward itself"


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` ``trip``: `limit` refused for the first time in a window; ``warning``: it is nearly used up;
    ``block``, ``permanent``: a block was set by itself.

    `subject` is whose limit or block it is, `principal` who was sending. `used` is of `limit` (as
    `format_limit` writes it). `at` is epoch seconds by the store's clock, 0 for "now"; `serial` is the
    store's own, 0 in one that is not noted.
    """

    id: str
    kind: Kind
    subject: str
    mta: str = ""
    principal: str = ""
    limit: str = ""
    used: int = 0
    instance: str = ""
    queue_id: str = ""
    text: str = ""
    at: float = 0.0
    serial: int = 0


def trip(standing: Standing, now: float) -> Event:
    """That `standing` refuses. Its id is the incident of every refusal by this limit in this window: eight
    signs that a sender can read out."""
    return _event(_id("trip", standing.subject, standing.limit, now), "trip", standing, "")


def warning(standing: Standing, now: float) -> Event:
    """That `standing`, which is `near`, will refuse soon."""
    level = near(standing)
    id = _id(f"warning {level}", standing.subject, standing.limit, now)
    return _event(id, "warning", standing, f"{level} %")


def near(standing: Standing) -> int:
    """The level of LEVELS that a standing has reached, 0 for none. Nobody is warned of a limit of 0."""
    used, amount = 100 * standing.used, standing.limit.amount
    if not amount or not standing.limit.window:
        return 0
    return next((level for level in LEVELS if used >= level * amount), 0)


def write_event(event: Event) -> str:
    """What a store keeps of an event beside id, subject and `at`: plain ASCII, whatever a peer has said."""
    said = (event.mta, event.principal, event.limit, event.instance, event.queue_id, event.text)
    return json.dumps((event.kind, event.used, *(text[:_LONGEST] for text in said)))


def read_event(id: str, subject: str, at: float, serial: int, text: str) -> Event:
    """The event that `write_event` wrote."""
    kind, used, mta, principal, limit, instance, queue_id, words = json.loads(text)
    return Event(id, kind, subject, mta, principal, limit, used, instance, queue_id, words, at, serial)


def _event(id: str, kind: Kind, standing: Standing, text: str) -> Event:
    return Event(
        id, kind, standing.subject, limit=format_limit(standing.limit), used=standing.used, text=text
    )


def _id(kind: str, subject: str, limit: Limit, now: float) -> str:
    number = int(now // (limit.window or 60))
    named = f"{kind}\0{subject}\0{limit.amount} {limit.unit} {limit.window}\0{number}"
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:8].upper()
