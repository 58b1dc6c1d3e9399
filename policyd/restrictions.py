"""Judgement: the six restrictions, and the verdict that follows from them in the order of the settings.

Knows what speaks against a request at each protocol state. Must not know where facts come from, what time it
is, or that answers are awaited: the shell and the operator's `explain` call `decide` and `conclude`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from directory import address
from directory.ownership import owns
from ledger.blocks import Block
from ledger.charges import Admitted
from policyd import replies, spending
from policyd.case import Case, case_of
from policyd.facts import AWAY, PASSED, Facts, Finding, Inquiry, Mode, Rules, Verdict
from policyd.inquiry import fingerprints, networks
from policyd.wire import DUNNO, Request


def decide(request: Request, inquiry: Inquiry, facts: Facts, rules: Rules) -> Verdict:
    """The verdict, as far as it follows without the ledger: a `charge` in it is still to be taken, and
    `conclude` says what follows from the ledger's answer."""
    if not inquiry.state or nobody_on_mx(request, inquiry, facts):
        return PASSED
    observed: list[Finding] = []
    case = case_of(request, inquiry, facts, rules)
    for name, mode in rules.restrictions:
        if mode == "off" or (facts.judged and name != "recipients"):
            continue
        finding = _judge(name, case)
        if finding is None:
            continue
        if mode == "enforce":
            return Verdict(finding.action, finding, tuple(observed), case.principal)
        observed.append(finding)
    return Verdict(DUNNO, None, tuple(observed), case.principal, spending.charge_of(case))


def conclude(
    request: Request,
    inquiry: Inquiry,
    facts: Facts,
    rules: Rules,
    verdict: Verdict,
    outcome: spending.Outcome,
) -> Verdict:
    """The final verdict, given what the ledger answered to the `charge` of `verdict`."""
    if verdict.charge is None:
        return verdict
    case = case_of(request, inquiry, facts, rules)
    finding = spending.from_ledger(case, verdict.charge, outcome)
    if finding is None:
        warnings = spending.warnings(case, outcome)
        return replace(verdict, warnings=warnings) if warnings else verdict
    if isinstance(outcome, Admitted):
        observed = (*verdict.observed, finding)
        return replace(verdict, observed=observed, warnings=spending.warnings(case, outcome))
    if rules.mode("limits") == "enforce":
        return replace(verdict, action=finding.action, found=finding)
    return replace(verdict, observed=(*verdict.observed, finding))


def review(
    request: Request, inquiry: Inquiry, facts: Facts, rules: Rules
) -> tuple[tuple[str, Mode, Finding | None], ...]:
    """What each restriction says for itself, in order and whatever its mode: to explain, never to answer."""
    case = case_of(request, inquiry, facts, rules)
    return tuple((name, mode, _judge(name, case)) for name, mode in rules.restrictions)


def nobody_on_mx(request: Request, inquiry: Inquiry, facts: Facts) -> bool:
    """Whether this is other people's mail and not ours to judge: no principal in the context `mx`."""
    if inquiry.context != "mx" or facts.judged:
        return False
    return facts.principal is None or (facts.principal is AWAY and not request.sasl_username)


def _judge(name: str, case: Case) -> Finding | None:
    if case.facts.principal is AWAY:
        # At the end of a message that has passed, nothing that was not known then stops it.
        return None if case.facts.judged else case.unavailable(name, "directory unavailable")
    return _RESTRICTIONS[name](case)


def _principal(case: Case) -> Finding | None:
    principal, contact = case.principal, case.rules.contact
    if principal is None:
        login = case.request.sasl_username
        reason = "unknown login" if login else "no login, no listed certificate, no listed network"
        return case.found("principal", replies.no_principal(login, contact, case.incident), reason)
    if principal.disabled:
        return case.found("principal", replies.disabled(principal, contact, case.incident), "disabled")
    if not principal.terms_accepted:
        return case.found("principal", replies.terms(principal, contact), "terms not accepted")
    return None


def _tls(case: Case) -> Finding | None:
    if case.principal is None or case.request.encryption_protocol:
        return None
    return case.found("tls", replies.no_tls(), "no TLS")


def _block(case: Case) -> Finding | None:
    blocks = case.facts.blocks
    if blocks is None:
        return case.unavailable("block", "blocks not read yet")
    if not len(blocks):
        return None
    block = blocks.find(_subjects(case), case.facts.now)
    if block is None:
        return None
    action = replies.blocked(block, case.rules.contact, block.id, queues=_queues(block))
    found = case.found("block", action, block.reason, ("block", block.id), ("subject", block.subject))
    return found._replace(incident=block.id)


def _subjects(case: Case) -> list[str]:
    """Whom a block can name to stop this request, the nearest first: a certificate by any of its
    fingerprints, and by the one that is presented even if that is not what makes the principal."""
    principal = case.principal
    certificates = (*(principal.fingerprints if principal else ()), *fingerprints(case.request))
    subjects = [principal.subject] if principal else []
    subjects += [f"certificate:{fingerprint}" for fingerprint in certificates]
    if principal and principal.domain:
        subjects.append(f"domain:{principal.domain}")
    return [*subjects, *networks(case.request.client_address), "relay"]


def _queues(block: Block) -> bool:
    """Whether the blocked one is a host that keeps its mail until the block ends."""
    return block.end is not None and block.subject.startswith(("certificate:", "network:"))


def _sender(case: Case) -> Finding | None:
    if case.principal is None:
        return None  # nobody to own anything; the restriction `principal` has spoken, or is told not to
    try:
        sender = address.parse(case.request.sender, case.rules.addresses)
    except address.Malformed as wrong:
        return case.found("sender", replies.malformed(case.request.sender, str(wrong)), str(wrong))
    if owns(case.principal, sender, case.rules.addresses) is not None:
        return None
    reason = "not owned" if sender else "null sender"
    return case.found("sender", replies.not_owned(case.principal, sender, case.rules.contact), reason)


_RESTRICTIONS: dict[str, Callable[[Case], Finding | None]] = {
    "principal": _principal,
    "tls": _tls,
    "block": _block,
    "sender": _sender,
    "recipients": spending.recipients,
    "limits": spending.limits,
}
