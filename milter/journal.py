"""What the log and the counters say about judged messages: one message, one line.

Knows the words of the log. Must not know how a verdict came to be.
"""

from __future__ import annotations

from typing import Any, Literal

from milter.judge import Case
from milter.judgement import Verdict
from milter.questions import Outcome
from sidecar.metrics import Metrics

_LEVELS: dict[Outcome, Literal["info", "notice", "warning"]] = {
    "pass": "info",
    "refuse": "notice",
    "defer": "warning",
}


class Counters:
    """What is counted for Prometheus."""

    def __init__(self, metrics: Metrics) -> None:
        self.verdicts = metrics.counter("milter_verdicts", "Messages by verdict.", "verdict", "reason")
        self.refunds = metrics.counter("milter_refunds", "Refunds for messages not taken.", "refund")
        self.dropped = metrics.counter("milter_dropped", "Connections dropped by us.", "reason")


def write(log: Any, counters: Counters, case: Case, verdict: Verdict, *, observed: bool, ms: float) -> None:
    """Write the line of one verdict; `observed`: it was not enforced."""
    passes = verdict.outcome == "pass"
    counters.verdicts.count("observe" if observed and not passes else verdict.outcome, verdict.reason)
    if case.refund:
        counters.refunds.count(case.refund)
    log.write(
        _LEVELS[verdict.outcome],
        "author",
        queue_id=case.claimed.queue_id[:64],
        principal=case.subject,
        sender=case.message.envelope_sender,
        author=verdict.author,
        verdict="pass" if observed else verdict.outcome,
        observed=verdict.outcome if observed and not passes else None,
        reason=verdict.reason,
        detail=verdict.detail,
        removed=", ".join(f"{claim.name.decode('ascii')}:{claim.number}" for claim in verdict.removed),
        refund=case.refund,
        incident=None if passes else case.incident,
        elapsed_ms=round(ms, 1),
    )
