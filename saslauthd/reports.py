"""What the log and the counters are told: one line for each outcome.

Knows the fields and their order. Must not know how an outcome came about. Of exceptions only an Unavailable
is quoted: the text of any other might hold a password.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from twisted.internet.defer import TimeoutError
from twisted.python.failure import Failure

from directory.identity import Unavailable
from saslauthd.answers import Request
from saslauthd.mechanisms import MECHANISMS
from saslauthd.sentry import Guarded
from sidecar.log import Log
from sidecar.metrics import Metrics

_LEVELS: dict[str, Literal["info", "notice", "warning"]] = {
    "ok": "info",
    "refused": "notice",
    "unavailable": "warning",
}

#: The classes that a metric tells apart; the log has every reason.
REASONS = frozenset(
    {
        *("unknown_login", "wrong_password", "locked", "expired", "disabled", "not_in_group", "blocked"),
        *("password_expired", "must_change_password", "not_permitted", "network_refused", "guarded"),
        *("app_password_only", "unavailable", "deadline", "fault", "no_tls", "bad_login"),
    }
)


class Reports:
    """Writes outcomes to a log and counts them."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self._log = log
        self._outcomes = metrics.counter("auth_outcomes", "Answers to AUTH", "result", "mechanism", "tls")
        self._reasons = metrics.counter("auth_reasons", "Why AUTH did not succeed", "reason")
        self._steps = metrics.counter("auth_step_seconds", "Time of each step of a verification", "step")
        self._dropped = metrics.counter("auth_dropped", "Connections that we gave up", "why")

    def outcome(
        self, request: Request, result: str, reason: str, login: str, now: float, **more: str
    ) -> None:
        """The one answer to a request. What the peer sent is cut short; the log escapes it."""
        if self._log.wants(_LEVELS[result]):
            self._write(request, result, reason, login, now, more)
        self._outcomes.count(
            result,
            _shown(request.mechanism),
            "yes" if request.secured else "no",
        )
        if result != "ok":
            self._reasons.count(reason if reason in REASONS else "other")
        for step, seconds in request.steps.items():
            self._steps.count(step, by=seconds)

    def _write(
        self, request: Request, result: str, reason: str, login: str, now: float, more: Mapping[str, str]
    ) -> None:
        self._log.write(
            _LEVELS[result],
            "auth",
            result=result,
            reason=reason,
            login=login,
            mechanism=_shown(request.mechanism),
            secured="yes" if request.secured else "no",
            service=request.service[:64],
            rip=request.rip[:64],
            memory=request.memory,
            elapsed_ms=round(1000 * (now - request.began)),
            **{f"{step}_ms": round(1000 * seconds) for step, seconds in request.steps.items()},
            **more,
        )

    def dropped(self, event: str, why: str, connection: int) -> None:
        """A connection that we end because of what its peer does."""
        self._log.warning(event, why=why, connection=connection)
        self._dropped.count(event)


def _shown(mechanism: str) -> str:
    """The mechanism if it is one of ours: what else came in its place may be a response, with a password."""
    return mechanism if mechanism in MECHANISMS else "other"


def blame(failure: Failure) -> tuple[str, str]:
    """Why nothing can be known, and a private detail."""
    wrong = failure.value
    if isinstance(wrong, Guarded):
        return "guarded", str(wrong)
    if isinstance(wrong, Unavailable):
        return "unavailable", str(wrong)
    if isinstance(wrong, TimeoutError):
        return "deadline", "the directory did not answer in time"
    frame = wrong.__traceback__ if wrong is not None else None
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f" at {frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame is not None else ""
    return "fault", f"{type(wrong).__name__}{place}"
