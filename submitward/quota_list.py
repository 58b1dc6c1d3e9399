"""`submitward quota list`: who is near a limit and who is over, of every kind of target.

Knows what near is, and the order. Must not know how anything is counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from directory.identity import Unavailable
from directory.settings import find_principals
from ledger.grants import Grants
from ledger.limits import Limit, Standing, format_amount, format_limit
from policyd.inquiry import networks
from policyd.scopes import Scope, scope_of, scopes_of
from policyd.settings import Settings
from submitward.bookkeeping import DONE, UNAVAILABLE, Answer, Refused, moment, the_book
from submitward.targets import argument

KINDS = ("login", "certificate", "network", "domain", "relay")
NEAR = 80  # percent of a limit
AT_ONCE = 300  # limits that are looked at while others wait for the ledger


def percent(text: str) -> int:
    """A share of a limit. Raises ValueError."""
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= 100:
        raise ValueError("percent are a number from 0 to 100")
    return int(text)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--kind", choices=KINDS, help="targets of this kind alone")
    some = parser.add_mutually_exclusive_group()
    some.add_argument(
        "--near", type=argument(percent), default=NEAR, metavar="PERCENT", help="default: %(default)s"
    )
    some.add_argument("--over", action="store_true", help="only what is used up")
    some.add_argument("--all", action="store_true", help="every limit of which anything is used")


def show(settings: Settings, options: argparse.Namespace) -> Answer:
    """Every limit that is used so far, the fullest first."""
    least = 0 if options.all else 100 if options.over else options.near
    with the_book(settings) as book:
        spenders = [s for s in book.spenders() if options.kind in (None, s.partition(":")[0])]
        grants = Grants(book.register.current())
    scopes = tuple(_scopes(settings, spenders, grants))
    exempt = {scope.subject for scope in scopes if scope.exempt}
    pairs = dict.fromkeys((s.subject, limit) for s in scopes for limit in s.limits or () if limit.window)
    found = [one for one in _standings(settings, tuple(pairs)) if one.used and share(one) >= least]
    found.sort(key=lambda one: (-share(one), KINDS.index(one.subject.partition(":")[0]), one.subject))
    lines = tuple(in_words(one, one.subject in exempt) for one in found)
    nobody = f"nobody has used {'anything' if options.all else f'{least} % of a limit'}"
    return Answer(DONE, [in_json(one, one.subject in exempt) for one in found], lines or (nobody,))


def _scopes(settings: Settings, spenders: list[str], grants: Grants) -> Iterator[Scope]:
    """The scope of each spender, and of one that is a principal and shared both."""
    now, basis = time.time(), settings.rules.basis(grants)
    try:
        principals = find_principals(settings.directory, spenders)
    except Unavailable as wrong:
        raise Refused(f"the directory is unavailable: {wrong}", UNAVAILABLE) from None
    for subject in spenders:
        kind, _, name = subject.partition(":")
        principal = principals.get(subject)
        if principal is not None:
            around = networks(name.partition("/")[0]) if kind == "network" else ()
            yield from (s for s in scopes_of(principal, around, basis, now) if s.subject == subject)
        elif kind in ("domain", "network", "relay"):
            yield scope_of(subject, basis, now)


def _standings(settings: Settings, pairs: tuple[tuple[str, Limit], ...]) -> Iterator[Standing]:
    """The standings, some at a time: sidecars wait while the book is open."""
    for begin in range(0, len(pairs), AT_ONCE):
        with the_book(settings) as book:
            yield from book.standing(pairs[begin : begin + AT_ONCE])


def share(standing: Standing) -> int:
    """How many percent of its limit are used; 100 and more is used up."""
    amount = standing.limit.amount
    return standing.used * 100 // amount if amount else 100


def in_words(standing: Standing, exempt: bool) -> str:
    """One standing on one line."""
    limit = standing.limit
    used = format_amount(standing.used, limit.unit)
    state = "OVER" if standing.used >= limit.amount else "near" if share(standing) >= NEAR else "ok"
    reopens = "" if standing.reopens_at is None else f", reopens {moment(standing.reopens_at)}"
    spared = ", exempt" if exempt else ""
    who = f"{state:<5} {share(standing):>3} %  {standing.subject}"
    return f"{who}  {used} used of {format_limit(limit)}{reopens}{spared}"


def in_json(standing: Standing, exempt: bool) -> dict[str, object]:
    """The same for programs; `reopens_at` in epoch seconds."""
    limit = standing.limit
    return {
        "subject": standing.subject,
        "limit": format_limit(limit),
        "unit": limit.unit,
        "amount": limit.amount,
        "window": limit.window,
        "used": standing.used,
        "remaining": standing.remaining,
        "percent": share(standing),
        "over": standing.used >= limit.amount,
        "reopens_at": standing.reopens_at,
        "exempt": exempt,
    }
