"""The questions that a message is asked, each by itself: may its principal send, is the header one we can
judge, is its author one mailbox and the principal's own, will it be signed, what must be taken out of it.

Knows what each question looks at and how it refuses. Must not know which refusal wins, nor fetch, wait, or
know what time it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from directory.address import Malformed, domain_of, parse
from directory.address import Rules as AddressRules
from directory.identity import Address, Principal
from directory.ownership import owns, owns_author
from milter import replies
from milter.author import Mailbox, Unparsable, parse_mailbox
from milter.claims import Claim, Ours, to_remove
from milter.header import HEADER_MAX
from milter.session import Message
from milter.tables import Tables

Outcome = Literal["pass", "refuse", "defer"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say.

    `resent`: Resent- fields may be there; `long_lines`: lines over 998 octets may; `by_record`: ``charge:
    data``; `names`: those under which Authentication-Results are written here, in lower case.
    """

    mode: Literal["enforce", "observe", "off"] = "enforce"
    owned_sender: bool = True
    resent: bool = False
    strict_names: bool = False
    missing_key_is_temporary: bool = True
    long_lines: bool = False
    by_record: bool = True
    names: frozenset[str] = frozenset()
    addresses: AddressRules = field(default_factory=AddressRules)
    contact: str = ""


class KeysUnknown(Exception):
    """The signer's tables cannot be read now."""


#: The signer's tables, why they are not known, or None when keys are not checked.
Signing = Tables | KeysUnknown | None


class Stop(Exception):
    """A question's no. str() is a short word for the log, `line` what the sender reads, `detail` private."""

    def __init__(self, outcome: Outcome, reason: str, line: bytes, detail: str = "") -> None:
        super().__init__(reason)
        self.outcome: Outcome = outcome
        self.line = line
        self.detail = detail


@dataclass(slots=True)
class Case:
    """What is asked about, and what earlier questions have found: `author` as it is written in From,
    `granted` the entry that gives it, `removed` the client's fields that go."""

    message: Message
    principal: Principal
    rules: Rules
    signing: Signing
    incident: str
    author: str = ""
    granted: str = ""
    removed: tuple[Claim, ...] = ()


def _principal(case: Case) -> str:
    if case.principal.disabled:
        line = replies.disabled(case.principal, case.rules.contact, case.incident)
        raise Stop("refuse", "disabled", line)
    return f"{case.principal.kind} {case.principal.name} is listed, and not disabled"


def _size(case: Case) -> str:
    if case.message.header.is_too_large:
        raise Stop("refuse", "header_too_large", replies.too_large(case.incident))
    return f"{case.message.header.size} octets of names and values, of {HEADER_MAX}"


def _once(case: Case) -> str:
    if name := case.message.header.repeated.decode("ascii"):
        raise Stop("refuse", "field_repeated", replies.repeated(name, case.incident), name)
    return "no field stands twice that may stand once"


def _has_author(case: Case) -> str:
    if case.message.header.author is None:
        raise Stop("refuse", "no_author", replies.no_author(case.incident))
    return "there is one From"


def _controls(case: Case) -> str:
    if name := case.message.header.strange.decode("ascii", "replace"):
        raise Stop("refuse", "field_control", replies.strange(name, case.incident), name)
    return "no other field holds a control character"


def _claim_count(case: Case) -> str:
    if name := case.message.header.claimed.decode("ascii"):
        raise Stop("refuse", "claims", replies.claimed_too_often(name, case.incident), name)
    return f"fields that only relays and signers write: {len(case.message.header.claims)}"


def _lines(case: Case) -> str:
    name = case.message.header.long.decode("ascii", "replace")
    if name and not case.rules.long_lines:
        raise Stop("refuse", "long_line", replies.long_line(f"field {name}", case.incident), name)
    return "over-long lines may pass (author.long_lines)" if name else "no line is too long"


def _resent(case: Case) -> str:
    name = case.message.header.resent.decode("ascii", "replace")
    if name and not case.rules.resent:
        raise Stop("refuse", "resent", replies.resent(name, case.incident), name)
    return "Resent- fields may pass (author.resent)" if name else "no Resent- field"


def _author(case: Case) -> str:
    found = _mailbox("From", case.message.header.author or b"", case)
    case.author = found.address
    return f"one mailbox, <{found.address}>" + (f", named {found.name}" if found.name else "")


def _owned_author(case: Case) -> str:
    case.granted = _owned("From", case.author, case)
    return case.granted


def _sender(case: Case) -> str:
    value = case.message.header.sender
    if value is None:
        return "no Sender field"
    if not case.rules.owned_sender:
        return "not judged (author.sender: any)"
    address = _mailbox("Sender", value, case).address
    return f"<{address}>: {_owned('Sender', address, case)}"


def _mailbox(name: str, value: bytes, case: Case) -> Mailbox:
    """The mailbox in a field, as it is written there."""
    try:
        return parse_mailbox(value, strict=case.rules.strict_names)
    except Unparsable as wrong:
        line = replies.unparsable(name, wrong.fault, case.incident)
        shown = value[:200].decode("utf-8", "backslashreplace")
        raise Stop("refuse", f"{name.lower()}_{wrong.fault}", line, shown) from None


def _normal(name: str, written: str, case: Case) -> Address:
    try:
        return parse(written, case.rules.addresses)
    except Malformed as wrong:
        line = replies.malformed(name, written, str(wrong), case.incident)
        raise Stop("refuse", f"{name.lower()}_malformed", line, str(wrong)) from None


def _owned(name: str, written: str, case: Case) -> str:
    rules, address = case.rules, _normal(name, written, case)
    granted = owns_author(case.principal, address, rules.addresses)
    if granted is None and name == "Sender":  # who sent it may be less than who wrote it
        granted = owns(case.principal, address, rules.addresses)
    if granted is None:
        line = replies.not_owned(name, case.principal, written, rules.contact, case.incident)
        raise Stop("refuse", f"{name.lower()}_not_owned", line, written)
    return granted


def _signed(case: Case) -> str:
    signing = case.signing
    if signing is None:
        return "not checked (no sign.key_table and sign.signing_table)"
    if isinstance(signing, KeysUnknown):
        raise Stop("defer", "keys_unknown", replies.unavailable(case.incident), str(signing))
    domain = domain_of(_normal("From", case.author, case))
    signs = signing.signing_domain(case.author)
    if signs != domain:
        temporary = case.rules.missing_key_is_temporary
        line = replies.no_key(domain, case.rules.contact, case.incident, temporary=temporary)
        detail = f"From {domain} would be signed by {signs or 'nobody'}"
        raise Stop("defer" if temporary else "refuse", "no_key", line, detail)
    if not signing.is_settled(case.author):
        line = replies.new_key(domain, case.incident)
        raise Stop("defer", "key_settling", line, f"the line for {domain} is younger than this connection")
    return f"a key signs for {domain}"


def _removal(case: Case) -> str:
    """The fields in which the client says what is ours to say."""
    claims = case.message.header.claims
    if not claims:
        return "nothing to take out"
    principal, signing = case.principal, case.signing
    domains = {domain_of(_normal("From", case.author, case)), *principal.domains}
    domains.update(domain_of(address) for address in principal.addresses)
    domains |= signing.domains if isinstance(signing, Tables) else frozenset()
    found = to_remove(claims, Ours(_names(case.message, case.rules), frozenset(domains)))
    if found and not case.message.may_edit:
        name = found[0].name.decode("ascii")
        raise Stop("refuse", "claim", replies.claimed(name, case.incident), name)
    case.removed = found
    return f"fields to take out: {len(found)}" if found else "nothing to take out"


def _names(message: Message, rules: Rules) -> frozenset[str]:
    return (rules.names | {message.macro(b"j").lower()}) - {""}


def broken_claims(message: Message, rules: Rules) -> tuple[Claim, ...]:
    """The fields that must go from a message that passes although it was not judged to its end: signatures
    at which the signer would stumble, and results in our name; which domains are ours is not known there."""
    if not message.may_edit:
        return ()
    return to_remove(message.header.claims, Ours(_names(message, rules), frozenset()))


#: A question's name, and the question: it returns what it saw, in words for an operator, or raises Stop. In
#: this order: later ones build on what earlier ones have found.
QUESTIONS: tuple[tuple[str, Callable[[Case], str]], ...] = (
    ("principal", _principal),
    ("header size", _size),
    ("fields once", _once),
    ("From", _has_author),
    ("controls", _controls),
    ("claims", _claim_count),
    ("line length", _lines),
    ("Resent", _resent),
    ("author", _author),
    ("ownership", _owned_author),
    ("Sender", _sender),
    ("key", _signed),
    ("removal", _removal),
)
