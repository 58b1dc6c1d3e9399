"""What is told of a verdict: one log line, joined to Postfix's own by instance and queue id; the counters.

Knows names and levels of fields. Must not know how a verdict came about.
"""

from __future__ import annotations

from typing import Any

from policyd.facts import Finding, Verdict
from policyd.inquiry import TOO_EARLY
from policyd.wire import DUNNO, DeferIfPermit, Reply, Request
from sidecar.metrics import Metrics

STAGES = TOO_EARLY | {"MAIL", "RCPT", "DATA", "BDAT", "END-OF-MESSAGE"}
_LONGEST = 320  # characters of an address of a peer


class Counters:
    """What is counted for Prometheus."""

    def __init__(self, metrics: Metrics) -> None:
        self.stages = metrics.counter("policy_requests", "Policy requests by protocol state.", "state")
        self.verdicts = metrics.counter(
            "policy_verdicts", "Verdicts by the deciding restriction.", "restriction"
        )
        self.events = metrics.counter("policy_events", "Events of limits and blocks, by kind.", "kind")
        self.dropped = metrics.counter("policy_dropped", "Connections dropped by us.", "reason")


def level_of(request: Request, verdict: Verdict) -> str:
    """How loud: refusals are normal and seldom, what we cannot know now is somebody's to look at."""
    finding = verdict.found
    if finding is not None:
        if finding.reason.startswith("no plan"):
            return "error"
        return "warning" if _is_unavailable(finding) else "notice"
    if verdict.observed:
        return "notice"
    recipient = request.protocol_state not in ("DATA", "END-OF-MESSAGE")
    return "debug" if recipient or verdict.principal is None else "info"


def write(log: Any, request: Request, verdict: Verdict, seconds: float) -> None:
    """Write the line of a verdict that took `seconds`."""
    level = level_of(request, verdict)
    if not log.wants(level):
        return
    finding = verdict.found
    detail = dict(finding.detail) if finding is not None else {}
    would = "; ".join(f"{f.restriction}: {_code(f)} {f.reason}" for f in verdict.observed)
    log.write(
        level,
        "verdict",
        instance=request.instance,
        queue_id=request.queue_id,
        protocol_state=request.protocol_state,
        action="DUNNO" if finding is None or verdict.action == DUNNO else _code(finding),
        restriction=finding.restriction if finding else None,
        reason=finding.reason if finding else None,
        principal=verdict.principal.subject if verdict.principal else None,
        sasl_username=request.sasl_username[:_LONGEST],
        sender=request.sender[:_LONGEST] or "<>",
        recipient=request.recipient[:_LONGEST],
        recipient_count=request.recipient_count or None,
        size=request.size or None,
        client_address=request.client_address[:64],
        incident=finding.incident if finding else None,
        observed=would,
        elapsed_ms=round(seconds * 1000, 1),
        **detail,
    )


def _code(finding: Finding) -> str:
    action = finding.action
    return f"{action.code} {action.enhanced}" if isinstance(action, Reply) else "DEFER_IF_PERMIT"


def _is_unavailable(finding: Finding) -> bool:
    action = finding.action
    return isinstance(action, DeferIfPermit) or action.enhanced == "4.3.0"
