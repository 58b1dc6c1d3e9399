"""Scopes as an operator reads them: whose limits they are, where they come from, and what was granted.

Knows the words. Must not know how a scope is found, nor what was used of it.
"""

from __future__ import annotations

from ledger.grants import Grant, format_terms
from ledger.limits import format_limit
from policyd.scopes import Scope
from submitward.bookkeeping import moment

PRECEDENCE = (
    "a principal's plan is what its entry names, else its group's, else its domain's, else default;"
    " a domain's, a network's and the relay's stand under limits, by name or else default;"
    " what is granted comes on top"
)


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
    span = "for good" if grant.end is None else f"until {moment(grant.end)}"
    return f"{grant.id}  {grant}  {span}  by {grant.author} since {moment(grant.start)}: {grant.reason}"


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
