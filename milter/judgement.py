"""The verdict on one message, from its header and the principal that submits it.

Knows the order of the questions: is the header one we can judge, is its author one mailbox, is it the
principal's, will it be signed. Must not fetch, wait, or know what time it is. The first refusal wins;
nothing passes unasked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from directory.address import Malformed, domain_of, parse
from directory.address import Rules as AddressRules
from directory.identity import Address, Principal
from directory.ownership import owns
from milter import replies
from milter.author import Unparsable, parse_mailbox
from milter.header import Header
from milter.wire import CONTINUE, encode_reply

Outcome = Literal["pass", "refuse", "defer"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say. `resent`: Resent- fields may be there; `by_record`: ``charge: data``."""

    mode: Literal["enforce", "observe", "off"] = "enforce"
    owned_sender: bool = True
    resent: bool = False
    strict_names: bool = False
    missing_key_is_temporary: bool = True
    by_record: bool = True
    addresses: AddressRules = field(default_factory=AddressRules)
    contact: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said to the MTA (`reply`: CONTINUE or an encoded refusal) and to the log.

    `reason` is a short word, `detail` private, `author` the address in From as far as it was one.
    """

    outcome: Outcome
    reason: str
    reply: bytes
    author: str = ""
    detail: str = ""


class KeysUnknown(Exception):
    """The signer's tables cannot be read now."""


#: d= of the signature that an author's message will get, None for none; raises KeysUnknown.
SigningDomain = Callable[[str], str | None]


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


def decide(
    header: Header,
    principal: Principal,
    rules: Rules,
    signing_domain: SigningDomain | None,
    incident: str,
) -> Verdict:
    """The verdict on a message of `principal`; `signing_domain` None means that keys are not checked."""
    author = ""
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
        if signing_domain is not None:
            _signed(author, rules, signing_domain, incident)
    except _Stop as stop:
        return Verdict(stop.outcome, str(stop), encode_reply(stop.line), author, stop.detail)
    return Verdict("pass", "owned", CONTINUE, author, granted)


def _look_over(header: Header, rules: Rules, incident: str) -> None:
    if header.is_too_large:
        raise _Stop("refuse", "header_too_large", replies.too_large(incident))
    if header.repeated:
        name = header.repeated.decode("ascii")
        raise _Stop("refuse", "field_repeated", replies.repeated(name, incident), name)
    if header.author is None:
        raise _Stop("refuse", "no_author", replies.no_author(incident))
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
    granted = owns(principal, _normal(name, written, rules, incident), rules.addresses)
    if granted is None:
        line = replies.not_owned(name, principal, written, rules.contact, incident)
        raise _Stop("refuse", f"{name.lower()}_not_owned", line, written)
    return granted


def _signed(author: str, rules: Rules, signing_domain: SigningDomain, incident: str) -> None:
    domain = domain_of(_normal("From", author, rules, incident))
    try:
        signs = signing_domain(author)
    except KeysUnknown as unknown:
        raise _Stop("defer", "keys_unknown", replies.unavailable(incident), str(unknown)) from None
    if signs != domain:
        temporary = rules.missing_key_is_temporary
        line = replies.no_key(domain, rules.contact, incident, temporary=temporary)
        detail = f"From {domain} would be signed by {signs or 'nobody'}"
        raise _Stop("defer" if temporary else "refuse", "no_key", line, detail)
