"""What a message costs, and what follows when it costs too much.

Knows limits per message and per window, what is charged at which protocol state, and what the ledger's
answers mean. Must not know how the ledger counts.
"""

from __future__ import annotations

from dataclasses import replace

from directory import address
from ledger.charges import Admitted, Amounts, Refused, Submission, last_to_reopen
from ledger.events import Event, near, trip, warning
from ledger.limits import PER_MESSAGE, Limit, Standing, format_limit
from policyd import replies
from policyd.case import Case
from policyd.facts import AWAY, Away, Charge, Finding
from policyd.scopes import held_of
from policyd.wire import Reply, plain

#: What the ledger may have answered.
Outcome = Admitted | Refused | Away


def recipients(case: Case) -> Finding | None:
    """The restriction `recipients`: recipients and bytes per message."""
    for scope in case.scopes:
        if scope.limits is None:
            return _no_plan("recipients", case)
        for limit in () if scope.exempt else scope.limits:
            if limit.window == PER_MESSAGE:
                action = _too_much(case, limit)
                if action is not None:
                    said = (("scope", scope.subject), ("limit", format_limit(limit)))
                    return case.found("recipients", action, "too much in one message", *said)
    return None


def _too_much(case: Case, limit: Limit) -> Reply | None:
    if limit.unit == "bytes":
        size = case.request.size
        return replies.too_large(size, limit) if size > limit.amount else None
    if case.state == "RCPT":
        return replies.too_many_recipients(limit) if case.facts.recipients > limit.amount else None
    count = case.request.recipient_count
    return replies.far_too_many_recipients(count, limit) if count > limit.amount else None


def limits(case: Case) -> Finding | None:
    """The restriction `limits` from memory, before DATA only: a standing with nothing left refuses."""
    now = case.facts.now
    if case.lacking:
        return _no_plan("limits", case)
    if case.principal is None or case.state not in ("MAIL", "RCPT"):
        return None
    for standing in case.facts.standings:
        reopens = standing.reopens_at
        if standing.used < standing.limit.amount or reopens is None or now >= reopens:
            continue
        if _holds(case, standing):
            return _used_up(case, standing, 1, reopens)
    return None


def _used_up(case: Case, standing: Standing, wanted: int, reopens: float) -> Finding:
    """The refusal by a limit. Its incident is that of the window: the same for every refusal in it."""
    now = case.facts.now
    event = trip(standing, now)
    action = replies.used_up(_payer(case, standing), standing, wanted, reopens, now, event.id)
    found = case.found("limits", action, "used up", *_spent(standing, reopens))
    return found._replace(incident=event.id, event=event)


def _holds(case: Case, standing: Standing) -> bool:
    """Whether the limit of a known standing is one that refuses now."""
    return any(
        scope.subject == standing.subject and not scope.exempt and standing.limit in (scope.limits or ())
        for scope in case.scopes
    )


def _payer(case: Case, standing: Standing) -> str:
    """Whose limit it is, in words for the sender."""
    principal = case.principal
    if principal is not None and principal.subject == standing.subject:
        return replies.name_of(principal)
    return replies.name_of_all(standing.subject)


def _no_plan(name: str, case: Case) -> Finding:
    return case.unavailable(name, f"no plan {case.lacking!r} in the settings")


def charge_of(case: Case) -> Charge | None:
    """What is to be taken for a request that nothing speaks against, None when nothing is."""
    request, principal, by = case.request, case.principal, case.rules.charge
    if case.state == "END-OF-MESSAGE" and by == "data":
        return Charge(None, _whole_message(case), ())
    if principal is None or case.state != ("DATA" if by == "data" else "RCPT"):
        return None
    mode = case.rules.mode("limits")
    held = () if mode == "off" else held_of(case.scopes, enforce=mode == "enforce")
    if by == "rcpt":
        first = case.facts.recipients == 1
        return Charge(None, Amounts(int(first), 1, request.size if first else 0), held)
    return Charge(Submission(principal.subject, _sender(case)), _whole_message(case), held)


def _whole_message(case: Case) -> Amounts:
    request = case.request
    return Amounts(1, request.recipient_count or max(1, case.facts.recipients), request.size)


def _sender(case: Case) -> str:
    try:
        return address.parse(case.request.sender, case.rules.addresses)
    except address.Malformed:  # only while the restriction `sender` does not enforce
        return plain(case.request.sender)


def from_ledger(case: Case, charge: Charge, outcome: Outcome) -> Finding | None:
    """What the ledger's answer to `charge` has against the request."""
    if outcome is AWAY:
        # A settlement is repeated until it is in: its delay is no reason to refuse a message that has come.
        at_end = case.state == "END-OF-MESSAGE"
        return None if at_end else case.unavailable("limits", "ledger unavailable")
    if isinstance(outcome, Refused):
        return _refused(case, charge, outcome)
    if isinstance(outcome, Admitted):
        return _observed(case, charge, outcome)
    raise TypeError(f"{outcome!r} is no answer of a ledger")


def _refused(case: Case, charge: Charge, refused: Refused) -> Finding:
    standing = refused.standing
    if case.principal is None:  # settled for somebody whom the directory does not list any more
        return case.unavailable("limits", "refused by the ledger for a principal that is gone")
    if refused.reopens_at is None:
        action = replies.never_fits(_payer(case, standing), refused.limit, case.incident)
        return case.found("limits", action, "more than a whole window", *_spent(standing, None))
    wanted: int = getattr(charge.amounts, refused.limit.unit)
    return _used_up(case, standing, wanted, refused.reopens_at)


def warnings(case: Case, outcome: Outcome) -> tuple[Event, ...]:
    """The warnings that are due once the ledger has admitted something: limits that are nearly used up."""
    if not isinstance(outcome, Admitted):
        return ()
    told = [s for s in outcome.standings if 5 * s.used >= 4 * s.limit.amount and near(s)]  # most are not
    if not told or case.rules.mode("limits") != "enforce":
        return ()
    return tuple(warning(standing, case.facts.now) for standing in told)


def _observed(case: Case, charge: Charge, admitted: Admitted) -> Finding | None:
    """What would have been refused, had the limits not been there to count only, or somebody been exempt."""
    for (_, limit, enforce), standing in zip(charge.limits, admitted.standings, strict=False):
        if not enforce and standing.used > limit.amount and case.principal is not None:
            amount: int = getattr(charge.amounts, limit.unit)
            before = Standing(standing.subject, limit, standing.used - amount, standing.reopens_at)
            reopens = standing.reopens_at or case.facts.now
            payer, now = _payer(case, standing), case.facts.now
            action = replies.used_up(payer, before, amount, reopens, now, case.incident)
            exempt = any(scope.exempt and scope.subject == standing.subject for scope in case.scopes)
            reason = "used up, exempt" if exempt else "used up"
            return case.found("limits", action, reason, *_spent(standing, standing.reopens_at))
    return None


def _spent(standing: Standing, reopens: float | None) -> tuple[tuple[str, object], ...]:
    return (
        ("scope", standing.subject),
        ("used", standing.used),
        ("limit", format_limit(standing.limit)),
        ("reopens", "never" if reopens is None else int(-(-reopens // 1))),
    )


def predict(charge: Charge, standings: tuple[Standing, ...], now: float) -> Admitted | Refused:
    """What the ledger would answer to `charge`, by the standings of its limits and without taking anything.

    When a part of a window would do, the ledger alone knows when it opens: the latest moment stands here.
    """
    failing = []
    for (_, limit, enforce), standing in zip(charge.limits, standings, strict=True):
        wanted: int = getattr(charge.amounts, limit.unit)
        if enforce and wanted and standing.used + wanted > limit.amount:
            latest = standing.reopens_at if wanted == 1 else now + limit.window
            failing.append(Refused(limit, standing, latest if wanted <= limit.amount else None))
    after = (replace(s, used=s.used + getattr(charge.amounts, s.limit.unit)) for s in standings)
    return last_to_reopen(failing) if failing else Admitted(tuple(after))
