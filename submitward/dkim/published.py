"""Whether the DNS shows the key that we sign with, and what is wrong when it does not.

Knows how a key record goes wrong on its way into a zone. Must not know which key signs what, nor how the DNS
is asked.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations

from submitward.dkim.keyfile import KeyTrouble, PublicHalf, read_published
from submitward.dkim.record import (
    BadRecord,
    KeyRecord,
    format_record,
    owner_name,
    parse_record,
    zone_lines,
)
from submitward.dns.ask import Answer, Ask, CannotKnow
from submitward.findings import Finding, error, good, unavailable, warning

BITS_MIN = 1024  # verifiers take nothing below (RFC 8301, 3.2)
PIECES_MAX = 5  # strings whose order is tried
PROBE = "submitward-probe"  # a selector that nobody has
ASK_AGAIN = "nothing is known: see to the name servers of the domain, and ask again"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with what is published: a `word` for programs, and a `text`."""

    word: str
    text: str


def fault_of(answer: Answer, mine: str) -> Fault | None:
    """What keeps verifiers from finding `mine` (base64 of a SubjectPublicKeyInfo), None for nothing."""
    alias = f"an alias (CNAME) of {answer.chain[-1]}" if answer.chain else ""
    if not answer.texts:
        if alias:
            return Fault("dangling_cname", f"it is {alias}, and no key is there")
        return Fault("no_key", "no key is published here")
    if len(answer.texts) > 1:
        if _joined(answer.texts, mine):
            text = f"the key is spread over {len(answer.texts)} records, and must be one of several strings"
            return Fault("split_wrongly", text)
        return Fault("several_keys", f"{len(answer.texts)} records stand here, and verifiers may take any")
    fault = _fault_of_one(answer, mine)
    if fault is not None and alias:
        return Fault(fault.word, f"it is {alias}, and there {fault.text}")
    return fault


def _fault_of_one(answer: Answer, mine: str) -> Fault | None:
    text, parts = answer.texts[0], answer.parts[0]
    if len(parts) > 1 and not _is_mine(text, mine) and _joined(parts, mine):
        return Fault("split_wrongly", "the strings of the record stand in the wrong order")
    if '"' in text and _is_mine(text.replace('" "', "").replace('"', ""), mine):
        return Fault("split_wrongly", "the quotation marks of the zone file have become part of the key")
    cut = re.search(r"\bp=([A-Za-z0-9+/]+)=*$", text)
    if cut is not None and cut[1] != mine.rstrip("=") and mine.startswith(cut[1]):
        return Fault("split_wrongly", f"the key is cut off after {len(cut[1])} of {len(mine)} characters")
    try:
        record = parse_record(text)
    except BadRecord as wrong:
        return Fault("bad_key_record", f"what stands here is no key: {wrong}")
    if record.is_revoked:
        return Fault("revoked", "the key is revoked here (p= is empty)")
    return _compare(record, mine)


def _compare(record: KeyRecord, mine: str) -> Fault | None:
    theirs = base64.b64encode(record.octets).decode("ascii")
    if theirs == mine:
        return None
    try:
        if record.type == "rsa" and read_published(record.octets).text == mine:
            text = (
                "the key is published without its algorithm (PKCS #1), which OpenDKIM and others do not read"
            )
            return Fault("key_form", text)
        return Fault("wrong_key", f"another key ({record.type}) is published here than signs")
    except KeyTrouble as wrong:
        return Fault("wrong_key", f"p= {wrong}")


def _is_mine(text: str, mine: str) -> bool:
    try:
        return _compare(parse_record(text), mine) is None
    except BadRecord:
        return False


def _joined(pieces: Iterable[str], mine: str) -> bool:
    """Whether the pieces make the key in some order."""
    some = tuple(pieces)
    return len(some) <= PIECES_MAX and any(_is_mine("".join(order), mine) for order in permutations(some))


def judge(ask: Ask, selector: str, domain: str, mine: PublicHalf) -> Iterator[Finding]:
    """Everything to be said about the key that signs for `domain` with `selector`."""
    name = owner_name(selector, domain)
    try:
        answer = ask(name, "TXT")
        fault = fault_of(answer, mine.text)
        if fault is not None:
            yield error(name, fault.text + _wild(ask, domain, answer), _mend(name, mine, fault), fault.word)
            return
    except CannotKnow as unknown:
        yield unavailable(name, f"whether the key is published cannot be known now: {unknown}", ASK_AGAIN)
        return
    through = f", through {' → '.join(answer.chain)}" if answer.chain else ""
    yield good(name, f"the key that signs is published ({mine.bits} bits{through})")
    for note in parse_record(answer.texts[0]).notes:
        yield warning(name, note, f"publish:\n{zone_lines(name, format_record(mine.text))}", "key_notes")
    if mine.bits < BITS_MIN:
        text = f"the key has {mine.bits} bits, and verifiers take none below {BITS_MIN}"
        yield error(name, text, f"submitward dkim new {domain}", "short_key")
    elif mine.bits < 2048:
        text = f"the key has {mine.bits} bits: 2048 are what is expected"
        yield warning(name, text, f"submitward dkim new {domain}", "short_key")


def _wild(ask: Ask, domain: str, answer: Answer) -> str:
    """A word on a wildcard that answers in place of the key."""
    if not answer.texts:
        return ""
    try:
        same = ask(owner_name(PROBE, domain), "TXT").texts == answer.texts
    except CannotKnow:
        return ""
    return "; a wildcard of the zone answers here, as for every name" if same else ""


def _mend(name: str, mine: PublicHalf, fault: Fault) -> str:
    record = f"publish one TXT record in several strings:\n{zone_lines(name, format_record(mine.text))}"
    if fault.word == "dangling_cname":
        return f"have the key published where the alias leads, or put this in its place:\n{record}"
    if fault.word == "revoked":
        return "a revoked key never comes back: `submitward dkim new` makes another"
    return record
