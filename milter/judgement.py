"""The verdict on one message, from its header and the principal that submits it.

Knows that the questions are asked in their order and that the first refusal wins; nothing passes unasked.
Must not know what a question looks at, nor fetch, wait, or know what time it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from directory.identity import Principal
from milter import replies
from milter.claims import Claim
from milter.questions import QUESTIONS, Case, Outcome, Rules, Signing, Stop, broken_claims
from milter.session import Message
from milter.wire import CONTINUE, encode_removal, encode_reply


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said to the MTA (`reply`: CONTINUE or an encoded refusal) and to the log.

    `reason` is a short word, `detail` private, `author` the address in From as far as it was one, `removed`
    the client's fields that go when it passes.
    """

    outcome: Outcome
    reason: str
    reply: bytes
    author: str = ""
    detail: str = ""
    removed: tuple[Claim, ...] = ()

    @property
    def edits(self) -> bytes:
        """What is said to the MTA at the end of the message, before the verdict."""
        return b"".join(encode_removal(claim.name, claim.number) for claim in self.removed)


class Finding(NamedTuple):
    """What one question found: its name, `outcome`, and `says`: what it saw, or the line of its refusal."""

    question: str
    outcome: Outcome
    says: str
    reason: str = ""


def refuse(reason: str, line: bytes, detail: str = "") -> Verdict:
    """A permanent refusal with a line of `milter.replies`."""
    return Verdict("refuse", reason, encode_reply(line), detail=detail)


def defer(reason: str, incident: str, detail: str = "") -> Verdict:
    """We cannot know now: always temporary."""
    return Verdict("defer", reason, encode_reply(replies.unavailable(incident)), detail=detail)


def decide(message: Message, principal: Principal, rules: Rules, signing: Signing, incident: str) -> Verdict:
    """The verdict on a message of `principal`, its header being complete."""
    case = Case(message, principal, rules, signing, incident)
    try:
        for _, ask in QUESTIONS:
            ask(case)
    except Stop as stop:
        return Verdict(stop.outcome, str(stop), encode_reply(stop.line), case.author, stop.detail)
    return Verdict("pass", "owned", CONTINUE, case.author, case.granted, case.removed)


def review(
    message: Message, principal: Principal, rules: Rules, signing: Signing, incident: str
) -> tuple[Finding, ...]:
    """What each question of `decide` finds, also those after the first refusal, for who wants to know; what
    cannot be asked without an author is left out."""
    case, found = Case(message, principal, rules, signing, incident), []
    for name, ask in QUESTIONS:
        if name in ("ownership", "key", "removal") and not case.author:
            continue
        try:
            found.append(Finding(name, "pass", ask(case)))
        except Stop as stop:
            found.append(Finding(name, stop.outcome, stop.line.decode("ascii"), str(stop)))
    return tuple(found)


def overrule(verdict: Verdict, incident: str) -> Verdict:
    """The verdict on a message whose header has passed and whose body has a line that is too long."""
    return Verdict("refuse", "long_line", encode_reply(replies.long_line("body", incident)), verdict.author)


def let_through(verdict: Verdict, message: Message, rules: Rules) -> Verdict:
    """A verdict that is only observed: the message passes, and what the signer would stumble over goes."""
    if verdict.outcome == "pass":
        return verdict
    return replace(verdict, removed=broken_claims(message, rules))
