"""Grants: what an operator lets a subject use other than its plan says, for good or until a date.

Knows the three kinds, how they are written, and what limits they come to beside a plan's. Must not know
plans, who pays, where grants are kept (as blocks are: ledger.blocks), or what time it is.

- *limits*: each takes the place of the plan's with the same unit and window, or stands beside the others.
- *more*: so much is added to every window of that unit, or to the one that is named.
- *exempt*: everything is counted and told, and nothing refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from ledger.blocks import Block
from ledger.limits import AMOUNT_MAX, PER_MESSAGE, Limit, format_amount, format_limit, parse_limit

EVERY_WINDOW: Final = 0  # the window of what is added to all of a unit
EXEMPT: Final = "exempt"
_MOST = 12  # limits in one grant


@dataclass(frozen=True, slots=True)
class Terms:
    """What is granted. Of `more`, a window of EVERY_WINDOW means all windows."""

    kind: Literal["limits", "more", "exempt"]
    limits: tuple[Limit, ...] = ()


def parse_terms(texts: Iterable[str]) -> Terms:
    """The terms in ``exempt``, in limits, or in ``+200 recipients``, ``+5 GB per day``. Raises ValueError."""
    words = tuple(text.strip() for text in texts)
    if words == (EXEMPT,):
        return Terms("exempt")
    if not words or len(words) > _MOST:
        raise ValueError(f"a grant holds 1 to {_MOST} limits")
    if all(word.startswith("+") for word in words):
        return Terms("more", _once(tuple(map(_parse_more, words))))
    if any(word.startswith("+") or word == EXEMPT for word in words):
        raise ValueError("one grant is limits, or more (+200 recipients), or exempt: give several grants")
    return Terms("limits", _once(tuple(map(parse_limit, words))))


def _parse_more(word: str) -> Limit:
    text = word[1:].strip()
    every = " per " not in text.lower()
    limit = parse_limit(f"{text} per day" if every else text)
    if limit.window == PER_MESSAGE:
        raise ValueError(
            f"{word!r}: to a limit per message nothing is added; grant another limit per message"
        )
    if limit.amount == 0:
        raise ValueError(f"{word!r} adds nothing")
    return replace(limit, window=EVERY_WINDOW) if every else limit


def _once(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    if len({(limit.unit, limit.window) for limit in limits}) < len(limits):
        raise ValueError("two limits with the same unit and window")
    return limits


def format_terms(terms: Terms) -> tuple[str, ...]:
    """The terms as people write them; `parse_terms` gives the same back."""
    if terms.kind == "exempt":
        return (EXEMPT,)
    if terms.kind == "limits":
        return tuple(map(format_limit, terms.limits))
    return tuple(
        f"+{format_amount(one.amount, one.unit) if one.window == EVERY_WINDOW else format_limit(one)}"
        for one in terms.limits
    )


@dataclass(frozen=True, slots=True)
class Grant:
    """`terms` for `subject` from `start` to `end` (epoch seconds; None is for good), by whom and why."""

    id: str
    subject: str
    terms: Terms
    author: str
    reason: str
    start: float
    end: float | None

    @property
    def block(self) -> Block:
        """The form in which it is kept."""
        words = ", ".join(format_terms(self.terms))
        return Block(
            self.id, self.subject, "limits", self.author, self.reason, "", self.start, self.end, terms=words
        )

    def holds(self, now: float) -> bool:
        """Whether it is in force at `now` (epoch seconds)."""
        return self.start <= now and (self.end is None or now < self.end)

    def __str__(self) -> str:
        return ", ".join(format_terms(self.terms))


def grant_of(block: Block) -> Grant | None:
    """The grant that is kept as `block`, None when it is a block, or a grant that a newer version made."""
    if not block.is_grant:
        return None
    try:
        terms = parse_terms(block.terms.split(","))
    except ValueError:
        return None
    return Grant(block.id, block.subject, terms, block.author, block.reason, block.start, block.end)


class Grants:
    """All grants of one generation, found by subject. Never changes, as a Blocklist."""

    __slots__ = ("_by_subject", "_now", "networks")

    def __init__(self, blocks: Iterable[Block] = (), now: Callable[[], float] | None = None) -> None:
        """`now` tells the time by which these start and end, where that is another than callers tell."""
        self._now = now
        self._by_subject: dict[str, list[Grant]] = {}
        found = (grant for grant in map(grant_of, blocks) if grant is not None)
        for grant in sorted(found, key=lambda grant: (grant.start, grant.id)):
            self._by_subject.setdefault(grant.subject, []).append(grant)
        #: the networks among the subjects
        self.networks = frozenset(subject for subject in self._by_subject if subject.startswith("network:"))

    def of(self, subject: str, now: float) -> tuple[Grant, ...]:
        """What is granted to `subject` at `now` (epoch seconds), the latest last."""
        known = self._by_subject.get(subject)
        if not known:
            return ()
        now = self.time(now)
        return tuple(grant for grant in known if grant.holds(now))

    def time(self, now: float) -> float:
        """The time by which these start and end, when callers say that it is `now`."""
        return now if self._now is None else self._now()

    def next_change(self, now: float) -> float:
        """The first moment after `now` when one begins or ends (epoch seconds), infinity if none will."""
        every = (grant for grants in self._by_subject.values() for grant in grants)
        moments = (at for grant in every for at in (grant.start, grant.end) if at is not None and at > now)
        return min(moments, default=math.inf)

    def __len__(self) -> int:
        return sum(map(len, self._by_subject.values()))


def granted(limits: tuple[Limit, ...], grants: Iterable[Grant]) -> tuple[Limit, ...]:
    """What `limits` come to with these grants, of which the latest wins."""
    found = {(limit.unit, limit.window): limit for limit in limits}
    for grant in grants:
        if grant.terms.kind == "limits":
            found |= {(limit.unit, limit.window): limit for limit in grant.terms.limits}
    for grant in grants:
        for more in grant.terms.limits if grant.terms.kind == "more" else ():
            for key, limit in found.items():
                if more.unit == limit.unit and limit.window and more.window in (EVERY_WINDOW, limit.window):
                    found[key] = replace(limit, amount=min(AMOUNT_MAX, limit.amount + more.amount))
    return tuple(found.values())
