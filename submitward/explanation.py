"""An explanation: the facts behind one verdict, gathered without charging, and how they are told.

Knows what a person at three in the morning wants to see. Must not judge: the verdict is policyd's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError

from directory import address
from directory.identity import Directory, Principal, Unavailable
from directory.ownership import owns
from directory.settings import open_directory
from ledger.blocks import Blocklist
from ledger.charges import Ledger
from ledger.grants import Grants
from ledger.limits import Standing, format_limit
from ledger.settings import open_ledger
from policyd.deadline import within
from policyd.facts import AWAY, Away, Facts, Finding, Inquiry, Mode, Verdict
from policyd.inquiry import networks, plan
from policyd.narrowing import look_up
from policyd.restrictions import conclude, decide, nobody_on_mx, review
from policyd.scopes import Scope, held_of, scopes_of
from policyd.settings import Settings
from policyd.settlements import ask
from policyd.spending import predict
from policyd.wire import DeferIfPermit, Dunno, Reply, Request, words
from sidecar.listen import Listener
from submitward.scoping import PRECEDENCE, grant_line, head, in_json

PATIENCE = 5.0  # seconds for both stores together
SHOWN = 12  # owned addresses

T = TypeVar("T")


@dataclass(frozen=True)
class Explanation:
    """Everything that led to `verdict`; `grant` says which entry gives the sender, or why none."""

    request: Request
    principal: Principal | Away | None
    address: str
    grant: str
    blocks_known: bool
    review: tuple[tuple[str, Mode, Finding | None], ...]
    standings: tuple[Standing, ...] | None
    verdict: Verdict
    scopes: tuple[Scope, ...] = ()

    @property
    def answer(self) -> str:
        """The action, as policyd says it."""
        return words(self.verdict.action)

    @property
    def exit_status(self) -> int:
        """0 passes, 1 refused, 75 cannot be known now."""
        action = self.verdict.action
        if isinstance(action, Dunno):
            return 0
        away = isinstance(action, DeferIfPermit) or (isinstance(action, Reply) and action.enhanced == "4.3.0")
        return 75 if away else 1


async def gather(settings: Settings, request: Request, *, reactor: Any, log: Any, now: float) -> Explanation:
    """Ask the stores that `settings` name, and let policyd judge."""
    directory = open_directory(settings.directory, reactor=reactor, log=log)
    ledger = open_known_ledger(settings, reactor=reactor, log=log)
    directory.start()
    if ledger is not None:
        ledger.start()
    try:
        return await within(reactor, PATIENCE, _gather(settings, request, directory, ledger, now))
    finally:
        directory.stop()
        if ledger is not None:
            await ledger.stop()


def open_known_ledger(settings: Settings, *, reactor: Any, log: Any) -> Ledger | None:
    """The ledger, None when it is not there: looking must not make a new one that belongs to the operator."""
    path = settings.ledger.sqlite.path
    if settings.ledger.kind == "sqlite" and not os.access(path, os.R_OK):
        return None
    return open_ledger(settings.ledger, reactor=reactor, log=log)


async def _gather(
    settings: Settings, request: Request, directory: Directory, ledger: Ledger | None, now: float
) -> Explanation:
    listener = next(iter(settings.listen.policy), Listener("unix:/"))
    rules, inquiry = settings.rules, plan(request, listener.context)
    principal = await who(settings, directory, ledger, inquiry, now)
    known = await ask(ledger.blocks()) if ledger is not None else AWAY
    grants = Grants() if known is AWAY else Grants(known[1])
    scopes: tuple[Scope, ...] = ()
    if isinstance(principal, Principal):
        scopes = scopes_of(principal, networks(request.client_address), rules.basis(grants), now)
    standings = await _standings(scopes, ledger)
    facts = Facts(
        now,
        listener.mta or settings.mta,
        principal,
        None if known is AWAY else Blocklist(known[1]),
        max(1, request.recipient_count),
        standings or (),
        scopes=scopes,
    )
    verdict = decide(request, inquiry, facts, rules)
    if verdict.charge is not None and inquiry.state != "END-OF-MESSAGE":
        known_as = {(standing.subject, standing.limit): standing for standing in standings or ()}
        mine = tuple(known_as.get((subject, limit)) for subject, limit, _ in verdict.charge.limits)
        there = tuple(standing for standing in mine if standing is not None)
        outcome = AWAY if standings is None else predict(verdict.charge, there, now)
        verdict = conclude(request, inquiry, facts, rules, verdict, outcome)
    normal, grant = _grant(settings, principal, request.sender)
    judged = () if nobody_on_mx(request, inquiry, facts) else review(request, inquiry, facts, rules)
    last = {f.restriction: f for f in (*verdict.observed, *filter(None, [verdict.found]))}  # the ledger's too
    judged = tuple((name, mode, last.get(name, finding)) for name, mode, finding in judged)
    return Explanation(
        request, principal, normal, grant, known is not AWAY, judged, standings, verdict, scopes
    )


async def who(
    settings: Settings, directory: Directory, ledger: Ledger | None, inquiry: Inquiry, now: float
) -> Principal | Away | None:
    """The principal that `inquiry` asks for, None when nobody is, AWAY when that cannot be known now."""
    for question in inquiry.questions:
        try:
            if ledger is None:
                found = directory.look_up(question)
            else:
                found = look_up(question, directory, ledger, settings.rules.addresses, lambda: now)
            if found is not None and not isinstance(found, Principal):
                found = await found
        except (Unavailable, CancelledError):
            return AWAY
        if found is not None:
            return found
    return None


async def _standings(scopes: tuple[Scope, ...], ledger: Ledger | None) -> tuple[Standing, ...] | None:
    """What was used of all limits; None when that cannot be known now."""
    if ledger is None:
        return None
    pairs = tuple((subject, limit) for subject, limit, _ in held_of(scopes, enforce=True))
    known = await ask(ledger.standing(pairs)) if pairs else ()
    return None if known is AWAY else known


def _grant(settings: Settings, principal: Principal | Away | None, sender: str) -> tuple[str, str]:
    rules = settings.directory.addresses
    try:
        normal = address.parse(sender, rules)
    except address.Malformed as wrong:
        return "", str(wrong)
    if not isinstance(principal, Principal):
        return normal, "nobody is known to ask for it"
    return normal, owns(principal, normal, rules) or f"no entry of {principal.kind} {principal.name} gives it"


def as_text(e: Explanation) -> str:
    """For a person."""
    lines = [f"principal     {_principal(e.principal)}"]
    lines.append(f"sender        <{e.request.sender}> is {f'<{e.address}>' if e.grant else ''}: {e.grant}")
    if isinstance(e.principal, Principal):
        lines += [
            f"  owns        <{owned}>: {why}" for owned, why in list(e.principal.addresses.items())[:SHOWN]
        ]
        lines += [
            f"  owns        @{owned}: {why}" for owned, why in list(e.principal.domains.items())[:SHOWN]
        ]
        more = len(e.principal.addresses) - SHOWN
        lines += [f"  owns        {more} more addresses"] if more > 0 else []
    if not e.blocks_known or e.standings is None:
        lines.append("ledger        unavailable: neither blocks nor standings can be known now")
    lines += [f"precedence    {PRECEDENCE}"] if e.scopes else []
    for scope in e.scopes:
        lines.append(f"scope         {head(scope)}")
        lines += [f"  grant       {grant_line(grant)}" for grant in scope.grants]
        lines += [
            f"  standing    {format_limit(s.limit)}: {s.used} used, {s.remaining} left"
            for s in e.standings or ()
            if s.subject == scope.subject and s.limit in (scope.limits or ())
        ]
    for name, mode, finding in e.review:
        said = "passes" if finding is None else f"{words(finding.action)}   [{finding.reason}]"
        lines.append(f"restriction   {name:<11} {mode:<8} {said}")
    if not e.review:
        lines.append("restriction   none: on mx, mail without a principal is not ours to judge")
    by = f" (by {e.verdict.found.restriction})" if e.verdict.found else ""
    lines.append(f"answer        {e.request.protocol_state}: {e.answer}{by}")
    return "\n".join(lines)


def _principal(principal: Principal | Away | None) -> str:
    if principal is None:
        return "none: no such login, and no listed certificate or network"
    if isinstance(principal, Away):
        return "unavailable: the directory cannot answer now"
    notes = [f"plan {principal.plan}"]
    notes += [f"domain {principal.domain}"] if principal.domain else []
    notes += ["disabled"] if principal.disabled else []
    notes += [] if principal.terms_accepted else ["terms not accepted"]
    return f"{principal.kind} {principal.name} ({', '.join(notes)})"


def as_json(e: Explanation) -> dict[str, Any]:
    """For a program."""
    listed = isinstance(e.principal, Principal)
    return {
        "answer": e.answer,
        "restriction": e.verdict.found.restriction if e.verdict.found else None,
        "incident": e.verdict.found.incident if e.verdict.found else None,
        "principal": e.principal.subject if isinstance(e.principal, Principal) else None,
        "principal_known": listed or e.principal is None,
        "plan": e.principal.plan if isinstance(e.principal, Principal) else None,
        "plan_from": e.principal.plan_from if isinstance(e.principal, Principal) else None,
        "scopes": [in_json(scope) for scope in e.scopes],
        "sender": e.address,
        "grant": e.grant,
        "ledger_known": e.blocks_known and e.standings is not None,
        "restrictions": [
            {
                "name": name,
                "mode": mode,
                "answer": words(f.action) if f else None,
                "reason": f.reason if f else None,
            }
            for name, mode, f in e.review
        ],
        "standings": [
            {
                "subject": s.subject,
                "limit": format_limit(s.limit),
                "used": s.used,
                "remaining": s.remaining,
                "reopens_at": s.reopens_at,
            }
            for s in e.standings or ()
        ],
    }
