"""Scopes as an operator names and reads them: whose limits, where they come from, and what was granted.

Knows which scopes a target stands for, and the words. Must not know how a plan is chosen, nor what was used.
"""

from __future__ import annotations

from directory.identity import Principal
from ledger.grants import Grant, Grants, format_terms
from ledger.limits import format_limit
from policyd.inquiry import networks
from policyd.scopes import Scope, scope_of, scopes_of
from policyd.settings import Settings
from submitward.bookkeeping import NO, Refused, moment
from submitward.listing import find, read, unlisted

PRECEDENCE = (
    "a principal's plan is what its entry names, else its group's, else its domain's, else default;"
    " a domain's, a network's and the relay's stand under limits, by name or else default;"
    " what is granted comes on top"
)


def at_home(settings: Settings, subject: str) -> tuple[str, str]:
    """The subject, of an alias of a domain that domain, and what to tell of that."""
    kind, _, name = subject.partition(":")
    home = settings.directory.reading.primary(name)
    if kind != "domain" or home == name:
        return subject, ""
    return f"domain:{home}", f"{name} is an alias of {home}: its senders are at home there"


def principal_of(settings: Settings, subject: str) -> Principal | None:
    """The principal of that subject, if it is one that the directory lists now. Raises as `listing.read`."""
    kind = subject.partition(":")[0]
    return None if kind in ("domain", "relay") else find(read(settings, subject), subject)


def scopes_for(settings: Settings, subject: str, grants: Grants, now: float) -> tuple[tuple[Scope, ...], str]:
    """The scope of a target and those that it shares, and what to tell besides. Raises Refused for a target
    without any, SettingsError."""
    subject, note = at_home(settings, subject)
    basis = settings.rules.basis(grants)
    principal = principal_of(settings, subject)
    kind, _, name = subject.partition(":")
    around = networks(name.partition("/")[0]) if kind == "network" else ()
    if principal is not None:
        return scopes_of(principal, around, basis, now), note
    if kind in ("login", "certificate"):
        raise Refused(f"{subject} is no principal: {unlisted(read(settings, subject), subject)}", NO)
    scope = scope_of(subject, basis, now)
    if not scope.plan and not scope.limits:
        where = "limits.relay" if kind == "relay" else f"limits.{kind}s"
        raise Refused(f"{subject} has no limits: {where} in the settings gives it no plan", NO)
    return (scope,), note


def head(scope: Scope) -> str:
    """``login:alice: plan staff, from directory.plans.groups: staff``."""
    if not scope.plan:
        return f"{scope.subject}: no plan, what is granted alone counts"
    lacking = ", which the settings lack" if scope.limits is None else ""
    nothing = "" if scope.limits or lacking else ", which limits nothing"
    exempt = ", EXEMPT: counted, and refuses nothing" if scope.exempt else ""
    return f"{scope.subject}: plan {scope.plan}, from {scope.plan_from}{lacking}{nothing}{exempt}"


def grant_line(grant: Grant) -> str:
    """One grant on one line."""
    return (
        f"{grant.id}  {grant}  {span(grant)}  by {grant.author} since {moment(grant.start)}: {grant.reason}"
    )


def span(grant: Grant) -> str:
    """``for good`` or ``until 2026-11-21 14:05:00 +0100``."""
    return "for good" if grant.end is None else f"until {moment(grant.end)}"


def grant_in_json(grant: Grant) -> dict[str, object]:
    """One grant for programs; moments are epoch seconds."""
    return {
        "id": grant.id,
        "subject": grant.subject,
        "kind": grant.terms.kind,
        "terms": list(format_terms(grant.terms)),
        "author": grant.author,
        "reason": grant.reason,
        "start": grant.start,
        "end": grant.end,
    }


def in_json(scope: Scope) -> dict[str, object]:
    """One scope for programs."""
    return {
        "subject": scope.subject,
        "plan": scope.plan or None,
        "plan_from": scope.plan_from,
        "limits": None if scope.limits is None else [format_limit(limit) for limit in scope.limits],
        "exempt": scope.exempt,
        "grants": [grant_in_json(grant) for grant in scope.grants],
    }
