"""`submitward quota grant | revoke | grants`: own limits, more, or no refusal, for good or for a while.

Knows which grants make sense for whom. Must not know how a grant is kept, nor what it does to a plan.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from datetime import datetime, timedelta

from ledger.grants import EVERY_WINDOW, Grant, Grants, Terms, format_terms, grant_of, parse_terms
from ledger.limits import format_limit
from policyd.scopes import Scope, scope_of
from policyd.settings import Settings
from sidecar.settings import SettingsError, duration
from submitward.bookkeeping import DONE, NO, Answer, Refused, author, moment, the_book
from submitward.listing import read, unlisted
from submitward.scoping import at_home, grant_in_json, grant_line, principal_of, scopes_for, span
from submitward.targets import FORMS, argument, parse_target, plain

TERMS = 'limits ("1000 recipients per day"), more ("+200 recipients", "+5 GB per day"), or: exempt'


def arguments(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the arguments of the three."""
    grant = actions.add_parser("grant", help="give a target own limits, more, or exempt it")
    grant.add_argument("target", type=argument(parse_target), metavar="TARGET", help=FORMS)
    grant.add_argument("terms", nargs="+", metavar="TERMS", help=TERMS)
    ends = grant.add_mutually_exclusive_group()
    ends.add_argument(
        "--for", dest="span", type=argument(duration), metavar="TIME", help='such as "2 h"; default: for good'
    )
    ends.add_argument(
        "--until", type=argument(moment_of), metavar="WHEN", help='tomorrow, 2026-12-24 or "2026-12-24 18:00"'
    )
    revoke = actions.add_parser("revoke", help="end every grant of a target, or one by its id")
    revoke.add_argument("target", type=argument(parse_target), nargs="?", metavar="TARGET", help=FORMS)
    revoke.add_argument("--id", metavar="ID", help="one grant, as `submitward quota grants` lists it")
    for action in (grant, revoke):
        action.add_argument("--reason", required=True, type=argument(plain), help="why, for the audit trail")
    grants = actions.add_parser("grants", help="what is granted to whom, by whom, why and until when")
    grants.add_argument("--all", action="store_true", help="ended and revoked ones too")


def moment_of(text: str, now: float | None = None) -> float:
    """A moment in epoch seconds, by local time; a day is its beginning. Raises ValueError."""
    if text == "tomorrow":
        today = datetime.fromtimestamp(time.time() if now is None else now)
        return (today.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)).timestamp()
    for form in ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"):
        try:
            return datetime.strptime(text, form).timestamp()
        except (ValueError, OverflowError):
            continue
    raise ValueError(f'{text!r} is no moment: write tomorrow, 2026-12-24 or "2026-12-24 18:00"')


def grant(settings: Settings, options: argparse.Namespace) -> Answer:
    """Keep a grant; every host learns of it within a second."""
    now = time.time()
    try:
        terms = parse_terms(options.terms)
    except ValueError as wrong:
        raise Refused(str(wrong)) from None
    end = options.until if options.span is None else now + options.span
    if end is not None and end <= now:
        raise Refused(f"it would have ended: {moment(end)}")
    subject, notes = _whose(settings, options.target, terms, now)
    wanted = Grant("", subject, terms, author(), options.reason, now, end)
    with the_book(settings) as book:
        kept = replace(wanted, id=book.block(wanted.block).id)
        grants = Grants(book.register.current())
    lines = [f"{subject}: granted {kept} {span(kept)}, id {kept.id}"]
    limits = _limits(settings, subject, grants, now)
    lines += [f"  now: {limits}"] if limits else []
    return Answer(DONE, grant_in_json(kept), tuple(lines), notes)


def _whose(settings: Settings, target: str, terms: Terms, now: float) -> tuple[str, tuple[str, ...]]:
    """The subject as the ledger names it, and what to tell. Raises Refused for a grant that would do nothing;
    a directory that is broken or away is in the way of none."""
    subject, note = at_home(settings, target)
    notes = (note,) if note else ()
    try:
        principal = principal_of(settings, subject)
        missing = (
            unlisted(read(settings, subject), subject) if _is_listed_somewhere(settings, subject) else ""
        )
    except (SettingsError, Refused) as wrong:
        return subject, (*notes, f"whether the directory lists {subject} cannot be known: {wrong}")
    if principal is not None:
        subject = principal.subject
        scope = scopes_for(settings, subject, Grants(), now)[0][0]
    elif missing:
        raise Refused(f"{missing}: nobody would get it", NO)
    else:
        scope = scope_of(subject, settings.rules.basis(Grants()), now)
    _check(scope, terms)
    return subject, notes


def _is_listed_somewhere(settings: Settings, subject: str) -> bool:
    """Whether the directory can say that nobody has this subject."""
    kind = subject.partition(":")[0]
    return kind in ("login", "certificate") or (kind == "domain" and settings.directory.kind == "file")


def _check(scope: Scope, terms: Terms) -> None:
    if terms.kind == "limits":
        return
    limits = scope.limits or ()
    if not limits:
        raise Refused(f"{scope.subject} has no limits: there is nothing to add to or to be exempt from", NO)
    for more in terms.limits:
        if not any(
            one.unit == more.unit and one.window and more.window in (EVERY_WINDOW, one.window)
            for one in limits
        ):
            what = format_terms(replace(terms, limits=(more,)))[0]
            told = ", ".join(map(format_limit, limits))
            raise Refused(f"{what}: {scope.subject} has no such window ({told})", NO)


def _limits(settings: Settings, subject: str, grants: Grants, now: float) -> str:
    """What the subject may use from now on."""
    try:
        scope = scopes_for(settings, subject, grants, now)[0][0]
    except (SettingsError, Refused):
        return ""
    told = ", ".join(map(format_limit, scope.limits or ()))
    return f"{told}{', refusing nothing' if scope.exempt else ''}"


def revoke(settings: Settings, options: argparse.Namespace) -> Answer:
    """End what is meant; every host learns of it within a second."""
    if (options.target is None) == (options.id is None):
        raise Refused("give either a TARGET or --id ID")
    target = None if options.target is None else _subject_of(settings, options.target)
    with the_book(settings) as book:
        meant = [
            block.id
            for block in book.register.current()
            if block.is_grant and (options.id == block.id or target == block.subject)
        ]
        revoked = [grant_id for grant_id in meant if book.lift(grant_id, author(), options.reason)]
    words = f"revoked {', '.join(revoked)}" if revoked else "there is no grant to revoke"
    value = {"target": target, "id": options.id, "revoked": revoked}
    return Answer(DONE if revoked else NO, value, (f"{target or f'grant {options.id}'}: {words}",))


def _subject_of(settings: Settings, target: str) -> str:
    """The subject as the ledger names it: a certificate goes by the first of its fingerprints."""
    subject = at_home(settings, target)[0]
    try:
        principal = principal_of(settings, subject)
    except (SettingsError, Refused):
        return subject
    return principal.subject if principal else subject


def show(settings: Settings, options: argparse.Namespace) -> Answer:
    """The grants, oldest first."""
    now = time.time()
    with the_book(settings) as book:
        history = book.register.history()
    lines, values = [], []
    for one in history:
        found = grant_of(one.block)
        if found is None or not (options.all or (one.lifted is None and found.holds(now))):
            continue
        over = (
            ""
            if one.lifted is None
            else f"  revoked {moment(one.lifted)} by {one.lifted_by}: {one.lifted_why}"
        )
        ended = "" if over or found.holds(now) else "  ended"
        lines.append(f"{found.subject}  {grant_line(found)}{over}{ended}")
        end = {"revoked": one.lifted, "revoked_by": one.lifted_by, "revoked_why": one.lifted_why}
        values.append(grant_in_json(found) | end)
    return Answer(DONE, values, tuple(lines) or ("no grants",))
