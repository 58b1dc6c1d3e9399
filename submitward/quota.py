"""`submitward quota`: what a principal has used of its plan, and forgetting it.

Knows how standings are shown. Must not know how they are counted.
"""

from __future__ import annotations

import argparse

from directory.identity import Principal
from ledger.limits import PER_MESSAGE, Standing, format_amount, format_limit
from policyd.settings import Settings
from sidecar.settings import SettingsError
from submitward.bookkeeping import DONE, NO, USAGE, Answer, Refused, answer, author, moment, the_book
from submitward.listing import find, read, unlisted
from submitward.targets import FORMS, argument, parse_target, plain

HELP = "show what a principal has used of its limits, or reset it"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="what was used, what is left, when it reopens")
    reset = actions.add_parser("reset", help="forget what was used until now")
    reset.add_argument("--reason", required=True, type=argument(plain), help="why, for the audit trail")
    for action in (show, reset):
        action.add_argument("target", type=argument(parse_target), metavar="TARGET", help=FORMS)
        action.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """0 shown or reset, 1 not listed (and nothing to reset), 2 usage or settings, 75 unavailable."""
    work = show if options.action == "show" else reset
    return answer(options, lambda settings: work(settings, options))


def show(settings: Settings, options: argparse.Namespace) -> Answer:
    """The standing of each limit of the principal's plan."""
    principal = owner(settings, options.target)
    subject, plan = principal.subject, settings.plans.get(principal.plan)
    if plan is None:
        raise Refused(f"{subject} has the plan {principal.plan}, which the settings lack", USAGE)
    with the_book(settings) as book:
        standings = book.standing(tuple((subject, limit) for limit in plan))
    head = f"{subject}: plan {principal.plan}{'' if plan else ', which limits nothing'}"
    value = {"subject": subject, "plan": principal.plan, "limits": [in_json(s) for s in standings]}
    return Answer(DONE, value, (head, *map(in_words, standings)))


def owner(settings: Settings, subject: str) -> Principal:
    """The principal of that subject. Raises Refused when the directory does not list it now."""
    principals = read(settings, subject)
    principal = find(principals, subject)
    if principal is None:
        is_principal = subject.startswith(("login:", "certificate:", "network:"))
        why = unlisted(principals, subject) if is_principal else "it has no plan"
        raise Refused(f"{subject} is no principal: {why}", NO)
    return principal


def in_words(standing: Standing) -> str:
    """``500 recipients per day: 37 used, 463 left``."""
    limit = standing.limit
    if limit.window == PER_MESSAGE:
        return f"  {format_limit(limit)}"
    used, left = (f"{format_amount(n, limit.unit)}" for n in (standing.used, standing.remaining))
    reopens = "" if standing.reopens_at is None else f", reopens {moment(standing.reopens_at)}"
    return f"  {format_limit(limit)}: {used} used, {left} left{reopens}"


def in_json(standing: Standing) -> dict[str, object]:
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
        subject = owner(settings, subject).subject
    except (Refused, SettingsError) as why:
        note = str(why)
    with the_book(settings) as book:
        count = book.reset(subject, author(), options.reason)
    line = f"{subject}: reset, {count} counter{'' if count == 1 else 's'} held something"
    status = NO if note and not count else DONE
    return Answer(status, {"subject": subject, "counters": count}, (line,), (note,) if note else ())
