"""`submitward quota`: what everybody has used of their limits, who is near one, and what is granted.

Knows the actions, how standings are shown, and forgetting them. Must not know how anything is counted.
"""

from __future__ import annotations

import argparse
import time

from ledger.grants import Grants
from ledger.limits import PER_MESSAGE, Limit, Standing, format_amount, format_limit
from policyd.scopes import Scope
from policyd.settings import Settings
from sidecar.settings import SettingsError
from submitward import granting, quota_list
from submitward.bookkeeping import DONE, NO, USAGE, Answer, Refused, answer, author, moment, the_book
from submitward.scoping import at_home, grant_line, head, in_json, scopes_for
from submitward.targets import FORMS, argument, parse_target, plain

HELP = "show who has used what of which limit, reset it, or grant more"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="who is near a limit, and who is over")
    quota_list.arguments(listed)
    shown = actions.add_parser("show", help="what was used, what is left, when it reopens, and why so much")
    reset = actions.add_parser("reset", help="forget what was used until now")
    for action in (shown, reset):
        action.add_argument("target", type=argument(parse_target), metavar="TARGET", help=FORMS)
    reset.add_argument("--reason", required=True, type=argument(plain), help="why, for the audit trail")
    granting.arguments(actions)
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", help="print JSON")


_ACTIONS = {
    "list": quota_list.show,
    "grant": granting.grant,
    "revoke": granting.revoke,
    "grants": granting.show,
}


def run(options: argparse.Namespace) -> int:
    """0 shown or done, 1 not there (and nothing to reset), 2 usage or settings, 75 unavailable."""
    work = {**_ACTIONS, "show": show, "reset": reset}[options.action]
    return answer(options, lambda settings: work(settings, options))


def show(settings: Settings, options: argparse.Namespace) -> Answer:
    """The standing of each limit of the target, and of those that it shares with others."""
    with the_book(settings) as book:  # not while the directory is asked: sidecars wait for the book
        grants = Grants(book.register.current())
    scopes, note = scopes_for(settings, options.target, grants, time.time())
    with the_book(settings) as book:
        told = [(scope, book.standing(_pairs(scope))) for scope in scopes]
    missing = next((scope for scope in scopes if scope.limits is None), None)
    if missing is not None:
        raise Refused(f"{missing.subject} has the plan {missing.plan}, which the settings lack", USAGE)
    first, *others = (value_of(*pair) for pair in told)
    lines = tuple(line for pair in told for line in lines_of(*pair))
    return Answer(DONE, first | {"shares": others}, lines, (note,) if note else ())


def _pairs(scope: Scope) -> tuple[tuple[str, Limit], ...]:
    return tuple((scope.subject, limit) for limit in scope.limits or ())


def lines_of(scope: Scope, standings: tuple[Standing, ...]) -> tuple[str, ...]:
    """A scope with its grants and standings."""
    grants = (f"  granted: {grant_line(grant)}" for grant in scope.grants)
    return (head(scope), *map(in_words, standings), *grants)


def value_of(scope: Scope, standings: tuple[Standing, ...]) -> dict[str, object]:
    """The same for programs."""
    return in_json(scope) | {"limits": [standing_in_json(standing) for standing in standings]}


def in_words(standing: Standing) -> str:
    """``500 recipients per day: 37 used, 463 left``."""
    limit = standing.limit
    if limit.window == PER_MESSAGE:
        return f"  {format_limit(limit)}"
    used, left = (f"{format_amount(n, limit.unit)}" for n in (standing.used, standing.remaining))
    reopens = "" if standing.reopens_at is None else f", reopens {moment(standing.reopens_at)}"
    return f"  {format_limit(limit)}: {used} used, {left} left{reopens}"


def standing_in_json(standing: Standing) -> dict[str, object]:
    """The same for programs; `reopens_at` in epoch seconds."""
    limit = standing.limit
    value: dict[str, object] = {"limit": format_limit(limit), "unit": limit.unit, "amount": limit.amount}
    if limit.window == PER_MESSAGE:
        return value | {"window": None}
    now = {"used": standing.used, "remaining": standing.remaining, "reopens_at": standing.reopens_at}
    return value | {"window": limit.window} | now


def reset(settings: Settings, options: argparse.Namespace) -> Answer:
    """Forget what the subject has used; running sidecars learn of it within 250 ms.

    Nothing found under a name that nobody has is no success.
    """
    subject, note = options.target, ""
    try:
        subject, note = at_home(settings, subject)
        scopes, _ = scopes_for(settings, subject, Grants(), time.time())
        subject = scopes[0].subject
    except (Refused, SettingsError) as why:
        note = str(why)
    with the_book(settings) as book:
        count = book.reset(subject, author(), options.reason)
    line = f"{subject}: reset, {count} counter{'' if count == 1 else 's'} held something"
    status = NO if note and not count else DONE
    return Answer(status, {"subject": subject, "counters": count}, (line,), (note,) if note else ())
