"""What the author check sees in a message: each field, each question, the answer, by the milter's code.

Knows how a message is put to the milter's session and judgement, and how it is told. Must not judge, nor read
a field's grammar itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from directory.identity import Principal
from milter import replies, wire
from milter.author import Unparsable, parse_mailbox
from milter.claims import NAMES
from milter.header import ONCE, Header
from milter.judgement import Finding, Verdict, decide, defer, overrule, refuse, review
from milter.lines import LINE_MAX
from milter.questions import Rules, Signing
from milter.session import Judge, Message, Overrule, Session
from milter.wire import Options, Packet
from submitward.message_file import NUL, MessageFile

SHOWN = 200  # fields that are told; all are judged
VALUE_SHOWN = 160  # characters of a value
INCIDENT = "explain"
_OFFER = Packet(wire.NEGOTIATE, wire.encode_options(Options(6, 0x1FF, 0x1FFFFF), {})[5:])
_UNKNOWN = frozenset(("keys_unknown", "directory_unavailable"))


@dataclass(frozen=True, slots=True)
class Seen:
    """One field: name and start of the value, printable, what is judged of it, and the claim it is."""

    name: str
    value: str
    outcome: str
    says: str
    claim: tuple[bytes, int] | None = None


@dataclass(frozen=True)
class MessageExplanation:
    """Everything that led to `verdict`; `before` says who refuses the message before the milter sees it."""

    principal: Principal | None
    mode: str
    fields: tuple[Seen, ...]
    count: int
    size: int
    notes: tuple[str, ...]
    review: tuple[Finding, ...]
    verdict: Verdict
    before: str = ""

    @property
    def enforced(self) -> str:
        """What enforcing answers: ``continue``, or the line of a reply."""
        if self.verdict.outcome == "pass":
            return "continue"
        return _line(self.verdict)

    @property
    def answer(self) -> str:
        """What is answered in the mode of the settings."""
        return self.before or (self.enforced if self.mode == "enforce" else "continue")

    @property
    def exit_status(self) -> int:
        """0 passes, 1 refused, 75 cannot be known now."""
        if self.answer == "continue":
            return 0
        return 75 if not self.before and self.verdict.reason in _UNKNOWN else 1


def explain_message(
    file: MessageFile, principal: Principal | str | None, rules: Rules, signing: Signing
) -> MessageExplanation:
    """Judge the message as the milter would; `principal` is a text that says why when it cannot be known.

    Raises OSError when the file cannot be read to its end.
    """
    session, fields = Session(body=not rules.long_lines), _Fields(rules)
    session.receive(_OFFER)
    session.receive(Packet(wire.MAIL, b"<>\0"))
    for name, value in file.fields():
        session.receive(Packet(wire.HEADER, name + b"\0" + value + b"\0"))
        fields.look(name, value)
    step = session.receive(Packet(wire.END_OF_HEADERS))
    assert isinstance(step, Judge)
    verdict, found = _header(step.message, principal, rules, signing)
    session.judged(verdict.reply, verdict.edits)
    for chunk in file.body():
        session.receive(Packet(wire.BODY, chunk))
    if isinstance(session.receive(Packet(wire.END_OF_MESSAGE)), Overrule):
        verdict = overrule(verdict, INCIDENT)
        found += (Finding("body", "refuse", _line(verdict), verdict.reason),)
    return MessageExplanation(
        principal if isinstance(principal, Principal) else None,
        rules.mode,
        fields.told(verdict),
        fields.count,
        file.size,
        tuple(file.notes),
        found,
        verdict,
        _before(file, principal, rules),
    )


def _header(
    message: Message, principal: Principal | str | None, rules: Rules, signing: Signing
) -> tuple[Verdict, tuple[Finding, ...]]:
    if isinstance(principal, str):
        verdict = defer("directory_unavailable", INCIDENT, principal)
        return verdict, (Finding("principal", "defer", f"cannot be known now: {principal}"),)
    if principal is None or (principal.kind == "certificate" and not rules.by_record):
        verdict = refuse("no_principal", replies.no_principal(rules.contact, INCIDENT))
        return verdict, (Finding("principal", "refuse", _line(verdict), verdict.reason),)
    judged = message, principal, rules, signing, INCIDENT
    return decide(*judged), review(*judged)


def _before(file: MessageFile, principal: Principal | str | None, rules: Rules) -> str:
    if file.has_nul:
        return f"refused by Postfix: {NUL}"
    if principal is None and rules.by_record:
        return (
            "refused by policyd, before there is a message: no such login, certificate or network is listed"
        )
    return ""


def _line(verdict: Verdict) -> str:
    return verdict.reply[5:-1].decode("ascii").replace("%%", "%")


class _Fields:
    """Looks at each field by itself, with the eyes of the milter's header."""

    def __init__(self, rules: Rules) -> None:
        self.count = 0
        self._rules = rules
        self._counts: dict[bytes, int] = {}
        self._seen: list[Seen] = []

    def look(self, name: bytes, value: bytes) -> None:
        """Take one field in."""
        self.count += 1
        lower = name.lower()
        number = self._counts[lower] = self._counts.get(lower, 0) + 1 if len(self._counts) < 10_000 else 1
        outcome, says = self._judge(lower, value, number)
        if len(self._seen) < SHOWN or (outcome == "refuse" and len(self._seen) < 2 * SHOWN):
            claim = (lower, number) if lower in NAMES else None
            self._seen.append(Seen(printable(name), printable(value.strip()), outcome, says, claim))

    def _judge(self, name: bytes, value: bytes, number: int) -> tuple[str, str]:
        alone = Header()
        alone.add(name, value)
        if number > 1 and name in ONCE:
            return "refuse", "stands more than once"
        if alone.strange:
            return "refuse", "holds a control character or a bare LF"
        if alone.long and not self._rules.long_lines:
            return "refuse", f"holds a line of more than {LINE_MAX} octets"
        if alone.resent and not self._rules.resent:
            return "refuse", "says that the message was redirected"
        if name == b"from" or (name == b"sender" and self._rules.owned_sender):
            return self._mailbox(value)
        return "pass", ""

    def _mailbox(self, value: bytes) -> tuple[str, str]:
        try:
            found = parse_mailbox(value, strict=self._rules.strict_names)
        except Unparsable as wrong:
            return "refuse", replies.FAULTS[wrong.fault]
        named = f", named {printable(found.name.encode())}" if found.name else ""
        return "pass", f"one mailbox, <{found.address}>{named}"

    def told(self, verdict: Verdict) -> tuple[Seen, ...]:
        """What is told of them, what becomes of the client's claims included."""
        gone = {(claim.name, claim.number) for claim in verdict.removed}
        fate = "taken out: it is not the client's to say"
        return tuple(replace(seen, says=fate) if seen.claim in gone else seen for seen in self._seen)


def printable(data: bytes) -> str:
    """The start of `data`, fit for a terminal: what is not printable is escaped."""
    text = data[: 4 * VALUE_SHOWN].decode("utf-8", "backslashreplace").replace("\n", " ")
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if len(text) <= VALUE_SHOWN else text[: VALUE_SHOWN - 3] + "..."


def as_text(e: MessageExplanation) -> str:
    """For a person."""
    return "\n".join(_text(e))


def _text(e: MessageExplanation) -> Iterator[str]:
    who = f"{e.principal.kind} {e.principal.name}" if e.principal else "not known"
    yield f"principal     {who}"
    yield f"message       {e.size} octets, {e.count} fields in its header"
    yield from (f"note          {note}" for note in e.notes)
    for seen in e.fields:
        yield f"field         {seen.name}: {seen.value}"
        if seen.says:
            yield f"  {'refused' if seen.outcome == 'refuse' else 'seen':<11} {seen.says}"
    if e.count > len(e.fields):
        yield f"field         {e.count - len(e.fields)} more, judged like these"
    for finding in e.review:
        yield f"question      {finding.question:<12} {finding.outcome:<7} {finding.says}"
    yield f"answer        {e.answer}"
    if e.answer != e.enforced and not e.before:
        yield f"              (author.mode: {e.mode}; enforcing would answer {e.enforced})"


def as_json(e: MessageExplanation) -> dict[str, Any]:
    """For a program."""
    return {
        "answer": e.answer,
        "enforced": e.enforced,
        "mode": e.mode,
        "reason": e.verdict.reason,
        "principal": e.principal.subject if e.principal else None,
        "author": e.verdict.author or None,
        "size": e.size,
        "notes": list(e.notes),
        "field_count": e.count,
        "fields": [
            {"name": seen.name, "value": seen.value, "outcome": seen.outcome, "says": seen.says or None}
            for seen in e.fields
        ],
        "questions": [
            {"question": f.question, "outcome": f.outcome, "says": f.says, "reason": f.reason or None}
            for f in e.review
        ],
        "removed": [
            {"name": claim.name.decode("ascii"), "number": claim.number} for claim in e.verdict.removed
        ],
    }
