"""What a connection's judgement says: the public texts, and the events that its shell carries out.

Knows what the remote user may read and what the log is told. Must not know when an answer is due.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from directory.identity import Credentials, Verified
from saslauthd import wire
from saslauthd.mechanisms import Exchange, Refused

NEUTRAL = "Login or password not accepted; check both, or ask your postmaster"

#: reason → (code, what the remote user reads). Reasons that are not listed are NEUTRAL, so that a wrong
#: password, an unknown login and a blocked one cannot be told apart.
TEXTS: Mapping[str, tuple[wire.Code, str]] = {
    "authz_fail": ("authz_fail", "You may not act for another login; leave the authorization name empty"),
    "invalid_base64": ("invalid_base64", "Invalid base64 data in response"),
    "malformed": ("", "Malformed authentication data"),
    "no_tls": ("", "Encryption is required; use STARTTLS or TLS and try again"),
    "timed_out": ("", "Authentication request timed out"),
    "unexpected_continuation": ("", "Unexpected continuation"),
    "unsupported_mechanism": ("", "Unsupported authentication mechanism"),
}


#: Outcomes of a guess; all others are of somebody who has the password.
GUESSES = frozenset({"unknown_login", "wrong_password", "app_password_only"})


class Found(NamedTuple):
    """An outcome before anybody is let in, and the least time by which its refusal is put off."""

    outcome: Verified | Refused
    delay: float


@dataclass(slots=True, eq=False)
class Request:
    """One AUTH: its id may be used again, so requests are compared as objects."""

    id: int
    began: float
    mechanism: str = ""
    service: bytes = b""
    secured: bool = False
    rip: bytes = b""
    exchange: Exchange | None = field(default=None, repr=False)
    is_asked: bool = False
    waits_since: float = 0.0
    asked_at: float = 0.0
    memory: str = ""
    steps: dict[str, float] = field(default_factory=dict)

    def note(self, step: str, seconds: float) -> None:
        """What a step of the judgement took, for the log."""
        self.steps[step] = self.steps.get(step, 0.0) + seconds


@dataclass(frozen=True, slots=True)
class Send:
    """A line that ends nothing: a challenge, or CANCELLED."""

    line: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """Credentials to be verified; end it with `Session.settle` or `Session.give_up`."""

    request: Request
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Drop:
    """Nobody wants the verification of `request` any more."""

    request: Request


@dataclass(frozen=True, slots=True)
class Answer:
    """The one answer to a request: `line` for the wire, the rest for the log."""

    request: Request
    result: Literal["ok", "refused", "unavailable"]
    line: bytes = field(repr=False)
    reason: str = ""
    login: str = ""


Event = Send | Ask | Drop | Answer


def accept(request: Request, verified: Verified) -> Answer:
    """Yes, and under which login. Raises wire.Unsendable for one that cannot go out."""
    line = wire.encode_ok(request.id, verified.login)
    return Answer(request, "ok", line, login=verified.login)


def refuse(request: Request, refused: Refused) -> Answer:
    """No, for good: Postfix says 535."""
    code, text = TEXTS.get(refused.reason, ("", NEUTRAL))
    line = wire.encode_fail(request.id, login=refused.login, code=code, reason=text)
    return Answer(request, "refused", line, refused.reason, refused.login)


def put_off(request: Request, reason: str) -> Answer:
    """Not now, in the words that only clients of a later minor read."""
    return Answer(request, "unavailable", wire.encode_temporary(request.id), reason)
