"""DMARC: which policy a receiver finds for a domain, and what counts as aligned (RFC 7489).

Knows the record's grammar and how it is discovered. Must not know how the DNS is asked, nor judge a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from submitward.dns.ask import Ask
from submitward.dns.organisation import organisational_domain

Alignment = Literal["relaxed", "strict"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What applies to mail From a domain. `at` is where the record stands, `policy` p= or sp= as it applies,
    `reports` the addresses of rua=, `notes` what is allowed and yet unwise."""

    at: str
    record: str
    policy: str
    dkim: Alignment
    spf: Alignment
    reports: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NoPolicy:
    """None applies. `found` are the records that stand there all the same, `why` they do not count."""

    at: str
    found: tuple[str, ...]
    why: str


class BadPolicy(ValueError):
    """A record that receivers pass over; str() says why."""


def discover(ask: Ask, domain: str) -> Policy | NoPolicy:
    """The policy for From `domain`: its own record, or its organisation's. Raises CannotKnow."""
    organisation = organisational_domain(domain)
    at = f"_dmarc.{domain}"
    texts = ask(at, "TXT").texts
    if domain != organisation and not any(_is_dmarc(text) for text in texts):
        at = f"_dmarc.{organisation}"
        texts = ask(at, "TXT").texts
    records = tuple(text for text in texts if _is_dmarc(text))
    if not records:
        near = tuple(text for text in texts if "dmarc" in text.lower())
        return NoPolicy(at, near, "it must begin with v=DMARC1; to the letter" if near else "")
    if len(records) > 1:
        return NoPolicy(at, records, "where several stand, none applies")
    try:
        return _parse(records[0], at, below=at != f"_dmarc.{domain}")
    except BadPolicy as wrong:
        return NoPolicy(at, records, str(wrong))


def is_aligned(author: str, identifier: str, mode: Alignment) -> bool:
    """Whether d= or the envelope's domain is aligned with the domain of From (3.1)."""
    if mode == "strict":
        return author == identifier
    return organisational_domain(author) == organisational_domain(identifier)


def report_name(domain: str, receiver: str) -> str:
    """Where `receiver` allows that reports on `domain` are sent to it (7.1)."""
    return f"{domain}._report._dmarc.{receiver}"


def _is_dmarc(text: str) -> bool:
    return re.match(r"v[ \t]*=[ \t]*DMARC1[ \t]*(;|$)", text) is not None


def _parse(record: str, at: str, *, below: bool) -> Policy:
    """`below`: the domain is a subdomain, so sp= applies when there is one."""
    tags: dict[str, str] = {}
    for piece in record.split(";"):
        name, equals, value = piece.partition("=")
        if equals:
            tags.setdefault(name.strip().lower(), value.strip())
    policy = tags.get("p", "").lower()
    if policy not in ("none", "quarantine", "reject"):
        if not tags.get("rua"):
            raise BadPolicy("p= must be none, quarantine or reject")
        policy = "none"  # 6.6.3: as if p=none, for the sake of reports
    applies = tags.get("sp", policy).lower() if below else policy
    reports = tuple(re.findall(r"mailto:([^\s,!]+)", tags.get("rua", ""), re.IGNORECASE))
    return Policy(at, record, applies, _mode(tags, "adkim"), _mode(tags, "aspf"), reports, _notes(tags))


def _mode(tags: dict[str, str], name: str) -> Alignment:
    return "strict" if tags.get(name, "r").lower() == "s" else "relaxed"


def _notes(tags: dict[str, str]) -> tuple[str, ...]:
    notes = []
    if "rua" not in tags:
        notes.append("without rua= nobody tells you who sends in your name, and what of yours fails")
    elif not re.search("mailto:", tags["rua"], re.IGNORECASE):
        notes.append("rua= must be mailto:address, else nobody reports")
    if tags.get("pct", "100") != "100":
        notes.append(f"pct={tags['pct']} leaves a part of the mail without the policy")
    for name in ("adkim", "aspf"):
        if tags.get(name, "r").lower() not in ("r", "s"):
            notes.append(f"{name}={tags[name]} is neither r nor s, and counts as r")
    return tuple(notes)
