"""The public texts of the milter: what the sender of a refused message may read, one function for each case.

Knows codes (RFC 5321, RFC 3463) and words: what happened, why, what to do. Must not know when a case
arises, nor any private reason: those go to the log line only.
"""

from __future__ import annotations

import re

from directory.identity import Principal
from milter.author import ADDRESS_MAX, FIELD_MAX, Fault
from milter.claims import CLAIMS_MAX
from milter.header import HEADER_MAX
from milter.lines import LINE_MAX
from milter.wire import REPLY_MAX

_UNPRINTABLE = re.compile(r"[^ -~]+")
_ONE = "write it as Name <name@domain>"

#: What is wrong with a From (or Sender) field, in words that end with what to do.
FAULTS: dict[Fault, str] = {
    "too_long": f"is longer than {FIELD_MAX} octets: name one mailbox only",
    "control": "holds a control character, a bare CR or a bare LF: remove it",
    "not_utf8": "holds bytes that are not UTF-8: send the name as UTF-8 or as an encoded word (RFC 2047)",
    "blank_line": "is folded with a line that is blank: remove that line",
    "empty": f"names no mailbox: {_ONE}",
    "list": "names more than one mailbox, or its name has a comma or semicolon outside quotes: name one"
    ' mailbox, with such a name in quotes, like "Doe, Jane" <name@domain>',
    "group": f"is a group, or its name has a colon outside quotes: name one mailbox, {_ONE}",
    "route": f"has a source route in its address: {_ONE}",
    "comment": "has a comment in parentheses where only some readers skip it: put it in the name, in quotes,"
    ' like "Jane (Sales)" <name@domain>',
    "name": 'has a name with special characters: put the name in quotes, like "J. [x]" <name@domain>',
    "address_in_name": f"has an @ in its name, outside quotes: {_ONE}",
    "brackets": f"has angle brackets that do not pair: {_ONE}",
    "trailing": f"has text after the address: {_ONE}",
    "no_domain": f"has an address without a domain: {_ONE}",
    "quoted_local_part": f"has quotes in its address, or quotes that do not close: {_ONE}",
    "encoded_address": f"has an encoded word (=?...?=) in its address: encode the name only, {_ONE}",
    "literal": f"has square brackets in its address: {_ONE}",
    "blank_in_address": f"has a blank in its address: {_ONE}",
    "several_at": f"has an address with more than one @: {_ONE}",
    "characters": f"has an address with a misplaced dot, or characters that cannot stand there: {_ONE}",
    "long_address": f"has an address longer than {ADDRESS_MAX} octets: use a shorter one",
    "misleading_name": "has a name like another address, or with invisible letters: write a plain name",
}


def plain(text: str, most: int) -> str:
    """`text` fit for a reply: printable ASCII, ``?`` for each run of the rest, at most `most` characters."""
    text = _UNPRINTABLE.sub("?", text)
    return text if len(text) <= most else text[: most - 3] + "..."


def _line(start: str, text: str, incident: str) -> bytes:
    """One reply line that fits whatever the parts hold."""
    end = f" (incident {plain(incident, 40)})"
    return (start + plain(text, REPLY_MAX - 2 - len(start) - len(end)).strip() + end).encode("ascii")


def _refused(text: str, incident: str) -> bytes:
    return _line("550 5.7.1 ", text, incident)


def _wrong(text: str, incident: str) -> bytes:
    return _line("550 5.6.0 ", text, incident)


def _later(text: str, incident: str) -> bytes:
    return _line("451 4.3.0 ", f"{text}: try again in some minutes", incident)


def name_of(principal: Principal) -> str:
    """``login alice``, ``certificate sha256:0a1b2c3d4e5f6071...`` or ``network …``, fit for a reply."""
    return f"{principal.kind} {plain(principal.name, 40)}"


def unparsable(field: str, fault: Fault, incident: str) -> bytes:
    """The field is not exactly one mailbox."""
    return _wrong(f"the {field} field {FAULTS[fault]}", incident)


def malformed(field: str, address: str, why: str, incident: str) -> bytes:
    """The address in the field is none; `why` are the words of directory.address.Malformed."""
    return _wrong(f"the {field} address <{plain(address, 90)}>: {plain(why, 90)}; {_ONE}", incident)


def no_author(incident: str) -> bytes:
    """There is no From field, or what looks like one is not part of the header."""
    return _wrong(
        "the message has no From field: add one. A first line that starts with a blank, or a line without a"
        " colon, ends the header, and what follows is body",
        incident,
    )


def repeated(field: str, incident: str) -> bytes:
    """A field stands twice that may stand once (RFC 5322 3.6)."""
    return _wrong(
        f"the field {plain(field, 40)} stands more than once: send it once (RFC 5322, 3.6)", incident
    )


def too_large(incident: str) -> bytes:
    """The header is over what we look at."""
    return _wrong(f"the header is larger than {HEADER_MAX // 1024} kB: remove fields", incident)


def strange(field: str, incident: str) -> bytes:
    """A field holds octets that stand in no field."""
    text = "holds a control character, a bare CR or a bare LF: encode it (RFC 2047) or remove it"
    return _wrong(f"the field {plain(field, 40)} {text}", incident)


def long_line(where: str, incident: str) -> bytes:
    """A line is longer than mail may have them."""
    return _wrong(
        f"a line of the {plain(where, 60)} is longer than {LINE_MAX} octets, and a relay on the way would"
        " break it and its signature: fold it, or send the text as quoted-printable or base64",
        incident,
    )


def claimed(field: str, incident: str) -> bytes:
    """A field in which only the relay may speak, where it cannot be removed."""
    return _wrong(f"the field {plain(field, 40)} is not for you to send: remove it", incident)


def claimed_too_often(field: str, incident: str) -> bytes:
    """More fields than any relay on the way adds, each of which might have to be removed."""
    text = f"there are more than {CLAIMS_MAX} fields like {plain(field, 40)}: remove them"
    return _wrong(text, incident)


def resent(field: str, incident: str) -> bytes:
    """The message was resent, which this relay does not let through."""
    return _refused(
        f"the message was redirected ({plain(field, 40)}), which this relay does not let through: forward it"
        " as an attachment or in your own message",
        incident,
    )


def not_owned(field: str, principal: Principal, address: str, contact: str, incident: str) -> bytes:
    """The mailbox in the field is not the principal's."""
    advice = f"send as its own address, or ask {_contact(contact)} to add this one"
    text = f"{name_of(principal)} does not own the {field} address <{plain(address, 120)}>: {advice}"
    return _refused(text, incident)


def disabled(principal: Principal, contact: str, incident: str) -> bytes:
    """The principal is listed and switched off."""
    return _refused(f"{name_of(principal)} is disabled here: ask {_contact(contact)}", incident)


def no_principal(contact: str, incident: str) -> bytes:
    """``charge: rcpt``, and neither a login nor a listed network submits."""
    return _refused(
        "neither a login nor a listed network is sending, and this relay cannot check the From field of"
        f" others (client certificates among them): log in first, or ask {_contact(contact)}",
        incident,
    )


def unavailable(incident: str) -> bytes:
    """We cannot know now."""
    return _later("cannot check the From field now", incident)


def no_key(domain: str, contact: str, incident: str, *, temporary: bool) -> bytes:
    """Nothing would sign for this domain."""
    text = f"no DKIM key for {plain(domain, 100)} is set up here, and this relay sends nothing unsigned"
    if temporary:
        return _line("451 4.7.5 ", f"{text}: keep the message and ask {_contact(contact)}", incident)
    return _line("550 5.7.5 ", f"{text}: ask {_contact(contact)}", incident)


def new_key(domain: str, incident: str) -> bytes:
    """Something will sign for this domain, and may not know it on this connection."""
    text = f"the DKIM key for {plain(domain, 100)} is new here and not in use yet: send again in two minutes"
    return _line("451 4.7.5 ", text, incident)


def _contact(contact: str) -> str:
    return plain(contact, 100).strip() or "the postmaster"
