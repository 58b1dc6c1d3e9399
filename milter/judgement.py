"""The verdict on one message, from its header and the principal that submits it.

Knows the order of the questions: is the header one we can judge, is its author one mailbox, is it the
principal's, will it be signed, what must be taken out of it. Must not fetch, wait, or know what time it is.
The first refusal wins; nothing passes unasked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from directory.address import Malformed, domain_of, parse
from directory.address import Rules as AddressRules
from directory.identity import Address, Principal
from directory.ownership import owns, owns_author
from milter import replies
from milter.author import Unparsable, parse_mailbox
from milter.claims import Claim, Ours, to_remove
from milter.header import Header
from milter.session import Message
from milter.tables import Tables
from milter.wire import CONTINUE, encode_removal, encode_reply

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


class KeysUnknown(Exception):
    """The signer's tables cannot be read now."""


#: The signer's tables, why they are not known, or None when keys are not checked.
Signing = Tables | KeysUnknown | None


class _Stop(Exception):
    """A refusal on the way."""

    def __init__(self, outcome: Outcome, reason: str, line: bytes, detail: str = "") -> None:
        super().__init__(reason)
        self.outcome: Outcome = outcome
        self.line = line
        self.detail = detail


def refuse(reason: str, line: bytes, detail: str = "") -> Verdict:
    """A permanent refusal with a line of `milter.replies`."""
    return Verdict("refuse", reason, encode_reply(line), detail=detail)


def defer(reason: str, incident: str, detail: str = "") -> Verdict:
    """We cannot know now: always temporary."""
    return Verdict("defer", reason, encode_reply(replies.unavailable(incident)), detail=detail)


def decide(message: Message, principal: Principal, rules: Rules, signing: Signing, incident: str) -> Verdict:
    """The verdict on a message of `principal`, its header being complete."""
    header, author = message.header, ""
    try:
        if principal.disabled:
            line = replies.disabled(principal, rules.contact, incident)
            raise _Stop("refuse", "disabled", line)
        _look_over(header, rules, incident)
        author = _mailbox("From", header.author or b"", rules, incident)
        granted = _owned("From", author, principal, rules, incident)
        if header.sender is not None and rules.owned_sender:
            sender = _mailbox("Sender", header.sender, rules, incident)
            _owned("Sender", sender, principal, rules, incident)
        if signing is not None:
            _signed(author, rules, signing, incident)
        removed = _removed(message, author, principal, rules, signing, incident)
    except _Stop as stop:
        return Verdict(stop.outcome, str(stop), encode_reply(stop.line), author, stop.detail)
    return Verdict("pass", "owned", CONTINUE, author, granted, removed)


def overrule(verdict: Verdict, incident: str) -> Verdict:
    """The verdict on a message whose header has passed and whose body has a line that is too long."""
    return Verdict("refuse", "long_line", encode_reply(replies.long_line("body", incident)), verdict.author)


def _look_over(header: Header, rules: Rules, incident: str) -> None:
    if header.is_too_large:
        raise _Stop("refuse", "header_too_large", replies.too_large(incident))
    if header.repeated:
        name = header.repeated.decode("ascii")
        raise _Stop("refuse", "field_repeated", replies.repeated(name, incident), name)
    if header.author is None:
        raise _Stop("refuse", "no_author", replies.no_author(incident))
    if header.strange:
        name = header.strange.decode("ascii", "replace")
        raise _Stop("refuse", "field_control", replies.strange(name, incident), name)
    if header.claimed:
        name = header.claimed.decode("ascii")
        raise _Stop("refuse", "claims", replies.claimed_too_often(name, incident), name)
    if header.long and not rules.long_lines:
        name = header.long.decode("ascii", "replace")
        raise _Stop("refuse", "long_line", replies.long_line(f"field {name}", incident), name)
    if header.resent and not rules.resent:
        name = header.resent.decode("ascii", "replace")
        raise _Stop("refuse", "resent", replies.resent(name, incident), name)


def _mailbox(name: str, value: bytes, rules: Rules, incident: str) -> str:
    """The address in a field, as it is written there."""
    try:
        return parse_mailbox(value, strict=rules.strict_names).address
    except Unparsable as wrong:
        line = replies.unparsable(name, wrong.fault, incident)
        raise _Stop("refuse", f"{name.lower()}_{wrong.fault}", line, _shown(value)) from None


def _shown(value: bytes) -> str:
    """The start of a field's value, for the log."""
    return value[:200].decode("utf-8", "backslashreplace")


def _normal(name: str, written: str, rules: Rules, incident: str) -> Address:
    try:
        return parse(written, rules.addresses)
    except Malformed as wrong:
        line = replies.malformed(name, written, str(wrong), incident)
        raise _Stop("refuse", f"{name.lower()}_malformed", line, str(wrong)) from None


def _owned(name: str, written: str, principal: Principal, rules: Rules, incident: str) -> str:
    judge = owns_author if name == "From" else owns
    granted = judge(principal, _normal(name, written, rules, incident), rules.addresses)
    if granted is None:
        line = replies.not_owned(name, principal, written, rules.contact, incident)
        raise _Stop("refuse", f"{name.lower()}_not_owned", line, written)
    return granted


def _signed(author: str, rules: Rules, signing: Tables | KeysUnknown, incident: str) -> None:
    if isinstance(signing, KeysUnknown):
        raise _Stop("defer", "keys_unknown", replies.unavailable(incident), str(signing))
    domain = domain_of(_normal("From", author, rules, incident))
    signs = signing.signing_domain(author)
    if signs != domain:
        temporary = rules.missing_key_is_temporary
        line = replies.no_key(domain, rules.contact, incident, temporary=temporary)
        detail = f"From {domain} would be signed by {signs or 'nobody'}"
        raise _Stop("defer" if temporary else "refuse", "no_key", line, detail)


def _removed(
    message: Message, author: str, principal: Principal, rules: Rules, signing: Signing, incident: str
) -> tuple[Claim, ...]:
    """The fields in which the client says what is ours to say."""
    claims = message.header.claims
    if not claims:
        return ()
    domains = {domain_of(_normal("From", author, rules, incident)), *principal.domains}
    domains.update(domain_of(address) for address in principal.addresses)
    domains |= signing.domains if isinstance(signing, Tables) else frozenset()
    names = rules.names | {message.macro(b"j").lower()}
    found = to_remove(claims, Ours(names - {""}, frozenset(domains)))
    if found and not message.may_edit:
        name = found[0].name.decode("ascii")
        raise _Stop("refuse", "claim", replies.claimed(name, incident), name)
    return found
