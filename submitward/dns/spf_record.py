"""An SPF record in its terms (RFC 7208, sections 4.6, 5, 6 and 12).

Knows the grammar. Must not ask the DNS, nor know who sends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

#: The mechanisms and the modifier that cost a look-up (4.6.4).
COSTLY = frozenset({"include", "a", "mx", "ptr", "exists", "redirect"})


class Faulty(ValueError):
    """The record is not valid: permerror. str() says why."""


@dataclass(frozen=True, slots=True)
class Term:
    """A directive or a modifier. `text` is what stands in the record; `spec` its domain-spec, unexpanded;
    `network` that of ip4 and ip6; `prefixes` the lengths of a and mx."""

    text: str
    name: str
    qualifier: str = "+"
    spec: str = ""
    network: IPv4Network | IPv6Network | None = None
    prefixes: tuple[int, int] = (32, 128)


_MACRO = r"%\{[slodiphvcrtSLODIPHVCRT][0-9]*[rR]?[-.+,/_=]*\}"
_STRING = rf"(?:{_MACRO}|%%|%_|%-|[!-$&-~])*"
_SPEC = re.compile(rf"{_STRING}(?:\.(?P<top>[A-Za-z0-9-]+)\.?|{_MACRO})")
_TOP = re.compile(r"(?=.*[A-Za-z-])[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_ZERO = re.compile(r"%\{.0+[rR]?[-.+,/_=]*\}")
_IN_TEXTS = re.compile(r"%\{[crtCRT]")  # of explanations only
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)=(.*)")
_DIRECTIVE = re.compile(r"([-+?~]?)([A-Za-z][A-Za-z0-9._-]*)([:/].*)?")
_CIDR = re.compile(r"(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?")


def is_spf(text: str) -> bool:
    """Whether a TXT record is for SPF at all (4.5)."""
    return text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")


def parse(record: str) -> tuple[Term, ...]:
    """The terms of a record. Raises Faulty with the first that is wrong."""
    if not record.isascii():
        raise Faulty("it holds a character that is not ASCII")
    terms = tuple(_term(word) for word in record[len("v=spf1") :].split(" ") if word)
    for name in ("redirect", "exp"):
        if sum(term.name == name for term in terms) > 1:
            raise Faulty(f"{name}= stands there twice")
    return terms


def _term(word: str) -> Term:
    modifier = _MODIFIER.fullmatch(word)
    if modifier:
        name, value = modifier[1].lower(), modifier[2]
        if name in ("redirect", "exp"):
            _check_spec(word, value)
        elif not re.fullmatch(_STRING, value):
            raise Faulty(f"{word!r} holds a % that is no macro")
        return Term(word, name, spec=value)
    directive = _DIRECTIVE.fullmatch(word)
    reader = _READERS.get(directive[2].lower()) if directive else None
    if directive is None or reader is None:
        raise Faulty(f"{word!r} is no mechanism")
    return reader(word, directive[1] or "+", directive[2].lower(), directive[3] or "")


def _check_spec(word: str, spec: str) -> None:
    match = _SPEC.fullmatch(spec)
    if match is None or (match["top"] is not None and not _TOP.fullmatch(match["top"])):
        raise Faulty(f"{word!r} names no domain")
    if _ZERO.search(spec) or _IN_TEXTS.search(spec):
        raise Faulty(f"{word!r} has a macro that cannot stand there")


def _all(word: str, qualifier: str, name: str, rest: str) -> Term:
    if rest:
        raise Faulty(f"{word!r}: nothing may follow all")
    return Term(word, name, qualifier)


def _domain(word: str, qualifier: str, name: str, rest: str) -> Term:
    """include and exists: a domain, and nothing else."""
    if not rest.startswith(":"):
        raise Faulty(f"{word!r} needs a domain")
    _check_spec(word, rest[1:])
    return Term(word, name, qualifier, rest[1:])


def _ptr(word: str, qualifier: str, name: str, rest: str) -> Term:
    return _domain(word, qualifier, name, rest) if rest else Term(word, name, qualifier)


def _hosts(word: str, qualifier: str, name: str, rest: str) -> Term:
    """a and mx: perhaps a domain, perhaps prefix lengths."""
    spec, lengths = rest, ""
    match = re.search(r"(?://?[0-9]+){1,2}$|/$", rest)
    if match:
        spec, lengths = rest[: match.start()], match[0]
    cidr = _CIDR.fullmatch(lengths)
    four, six = (int(cidr[1] or 32), int(cidr[2] or 128)) if cidr else (33, 129)
    if four > 32 or six > 128:
        raise Faulty(f"{word!r} has a prefix length that there is not")
    if spec:
        if not spec.startswith(":"):
            raise Faulty(f"{word!r} is no mechanism")
        _check_spec(word, spec[1:])
    return Term(word, name, qualifier, spec[1:], prefixes=(four, six))


def _network(word: str, qualifier: str, name: str, rest: str) -> Term:
    address, slash, length = rest[1:].partition("/")
    kind = IPv4Network if name == "ip4" else IPv6Network
    try:
        if slash and not re.fullmatch(r"0|[1-9][0-9]{0,2}", length):
            raise ValueError
        network = ip_network(rest[1:], strict=False)
        if not isinstance(network, kind) or "%" in address:
            raise ValueError
    except ValueError:
        raise Faulty(f"{word!r} names no network") from None
    return Term(word, name, qualifier, network=network)


_READERS = {
    "all": _all,
    "include": _domain,
    "exists": _domain,
    "a": _hosts,
    "mx": _hosts,
    "ptr": _ptr,
    "ip4": _network,
    "ip6": _network,
}
