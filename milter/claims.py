"""Fields by which a client claims what only a relay or its signer may say: Authentication-Results with our
name (RFC 8601 5), DKIM-Signature of our domains, and signatures that our signer would stumble over.

Knows the two fields' grammar, strictly. Must not know who submits, nor how a field is removed. What does not
parse here is taken for the worst: OpenDKIM relays a message unsigned when it cannot parse a signature in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from directory.address import Malformed, parse_domain

VALUE_MAX = 4096  # octets that are read; what is longer is taken for the worst
_DEPTH = 4  # of comments in comments

RESULTS, SIGNATURE = b"authentication-results", b"dkim-signature"
NAMES = frozenset((RESULTS, SIGNATURE))
CLAIMS_MAX = 100  # such fields in one message


class Claim(NamedTuple):
    """One such field: its name in lower case, which of that name it is (from 1), and its value."""

    name: bytes
    number: int
    value: bytes


class Ours(NamedTuple):
    """What is ours: names that stand in Authentication-Results, and domains, all in lower case (A-labels)."""

    names: frozenset[str]
    domains: frozenset[str]


def to_remove(claims: Iterable[Claim], ours: Ours) -> tuple[Claim, ...]:
    """The fields that must go, for each name from the last to the first: removing one moves those after
    it."""
    found = [claim for claim in claims if _is_ours(claim, ours)]
    return tuple(sorted(found, key=lambda claim: (claim.name, -claim.number)))


def _is_ours(claim: Claim, ours: Ours) -> bool:
    if claim.name == RESULTS:
        name = results_name(claim.value)
        return name is None or name in ours.names or _is_below(name, ours.domains)
    domain = signed_by(claim.value)
    return domain is None or _is_below(domain, ours.domains)


def _is_below(domain: str, domains: frozenset[str]) -> bool:
    """Whether `domain` is one of `domains` or lies below one."""
    labels = domain.split(".")
    return any(".".join(labels[i:]) in domains for i in range(len(labels)))


_COMMENT = re.compile(r"\([^()\\]*\)")
_AUTHSERV_ID = re.compile(r'\s*(?:"([^"\\]*)"|([^\s;"()\\]+))(?:\s+[0-9]+)?\s*(?:;|$)')


def results_name(value: bytes) -> str | None:
    """The authserv-id of an Authentication-Results field, in lower case; None when it cannot be told."""
    text = value[:VALUE_MAX].decode("utf-8", "replace")
    for _ in range(_DEPTH):
        text = _COMMENT.sub(" ", text)
    found = _AUTHSERV_ID.match(text)
    if found is None or len(value) > VALUE_MAX:
        return None
    name = (found[1] or found[2] or "").strip(" \t").rstrip(".").lower()
    try:
        return parse_domain(name)
    except Malformed:
        return name or None


_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_VALUE = re.compile(r"[ \t!-:<-~]*")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_NAMES = re.compile(r"[!-9<-~]+(?:[ \t]*:[ \t]*[!-9<-~]+)*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
_SELECTOR = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]{1,10}")
_ALGORITHMS = frozenset(("rsa-sha256", "ed25519-sha256"))
_CANONICAL = re.compile(r"(?:simple|relaxed)(?:/(?:simple|relaxed))?")
_NEEDED = frozenset("vabdhs") | {"bh"}


def signed_by(value: bytes) -> str | None:
    """d= of a DKIM-Signature (RFC 6376 3.5) that every reader reads alike, None for any other."""
    tags = _tags(value) if len(value) <= VALUE_MAX else None
    if tags is None or not tags.keys() >= _NEEDED or tags["v"] != "1":
        return None
    blobs = [re.sub(r"[ \t]", "", tags[name]) for name in ("b", "bh")]
    if not all(blob and _BASE64.fullmatch(blob) for blob in blobs):
        return None
    signed = [name.strip().lower() for name in tags["h"].split(":")]
    good = (
        tags["a"] in _ALGORITHMS
        and _CANONICAL.fullmatch(tags.get("c", "simple"))
        and _SELECTOR.fullmatch(tags["s"])
        and _NAMES.fullmatch(tags["h"])
        and "from" in signed
        and tags.get("q", "dns/txt") == "dns/txt"
        and all(_NUMBER.fullmatch(tags.get(name, "0")) for name in ("t", "x", "l"))
        and int(tags.get("x", "9999999999")) > int(tags.get("t", "0"))
    )
    try:
        domain = parse_domain(tags["d"])
    except Malformed:
        return None
    identity = tags.get("i", f"@{domain}").rpartition("@")[2].lower()
    return domain if good and (f".{identity}").endswith(f".{domain}") else None


def _tags(value: bytes) -> dict[str, str] | None:
    """The tags of a tag list, None when it is none (RFC 6376 3.2): twice the same, strange octets."""
    try:
        text = value.decode("ascii").replace("\n", "")
    except UnicodeDecodeError:
        return None
    tags: dict[str, str] = {}
    items = text.split(";")
    if not items[-1].strip(" \t"):  # one semicolon may end the list
        items.pop()
    for item in items:
        name, equals, said = (part.strip(" \t") for part in item.partition("="))
        if not (equals and _TAG.fullmatch(name) and _VALUE.fullmatch(said)) or name in tags:
            return None
        tags[name] = said
    return tags
