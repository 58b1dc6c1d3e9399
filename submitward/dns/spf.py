"""SPF: what a receiver finds when mail of a domain comes from an address (RFC 7208, check_host).

Knows how terms are evaluated and the limits on look-ups. Must not know how the DNS is asked, nor whose
address it is. Explanations (exp=) are read and never fetched: nobody is told anything here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal
from urllib.parse import quote

from submitward.dns.ask import Answer, Ask, CannotKnow, Kind, reverse_name
from submitward.dns.spf_record import COSTLY, Faulty, Term, is_spf, parse

Verdict = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]
LOOKUPS_MAX = 10  # terms that ask the DNS, in all records together (4.6.4)
VOID_MAX = 2  # of their questions that find nothing
NAMES_MAX = 10  # hosts of an mx, names of an address
_VERDICTS: dict[str, Verdict] = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict; `lookups` that it took; `by`, the term that decided, with the domain it stands at; `why`,
    for errors; `trace`, each term that cost a look-up; `over`: there were too many of them."""

    verdict: Verdict
    lookups: int
    by: str = ""
    why: str = ""
    trace: tuple[str, ...] = ()
    over: bool = False


class _Stop(Exception):
    """An error that ends the whole evaluation."""

    def __init__(self, verdict: Verdict, why: str, *, over: bool = False) -> None:
        super().__init__(why)
        self.verdict: Verdict = verdict
        self.over = over


def check_host(ask: Ask, address: str, domain: str, sender: str, helo: str = "") -> Result:
    """What SPF says of mail with envelope sender `sender` from `address`, by the record of `domain`."""
    check = _Check(ask, _plain_address(address), sender if "@" in sender else f"postmaster@{sender}", helo)
    try:
        verdict, by = check.judge(domain)
    except _Stop as stop:
        return Result(stop.verdict, len(check.trace), why=str(stop), trace=tuple(check.trace), over=stop.over)
    return Result(verdict, len(check.trace), by, trace=tuple(check.trace))


def records(ask: Ask, domain: str) -> tuple[str, ...]:
    """Every SPF record at a domain. Raises CannotKnow."""
    return tuple(text for text in ask(domain, "TXT").texts if is_spf(text))


def _plain_address(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


@dataclass(slots=True)
class _Check:
    """One evaluation, with what it has cost so far."""

    ask: Ask
    address: IPv4Address | IPv6Address
    sender: str
    helo: str
    trace: list[str] = field(default_factory=list)
    void: int = 0

    def judge(self, domain: str) -> tuple[Verdict, str]:
        """The verdict of a domain's record, and by which term."""
        if not _is_host_name(domain):
            return "none", ""
        try:
            found = records(self.ask, domain)
        except CannotKnow as unknown:
            raise _Stop("temperror", str(unknown)) from None
        if not found:
            return "none", ""
        if len(found) > 1:
            raise _Stop("permerror", f"{domain} has {len(found)} SPF records, and may have one")
        try:
            terms = parse(found[0])
        except Faulty as fault:
            raise _Stop("permerror", f"the record of {domain}: {fault}") from None
        return self._evaluate(terms, domain)

    def _evaluate(self, terms: tuple[Term, ...], domain: str) -> tuple[Verdict, str]:
        for term in terms:
            if term.name in _MATCHERS and self._matches(term, domain):
                return _VERDICTS[term.qualifier], f"{term.text} at {domain}"
        redirect = next((term for term in terms if term.name == "redirect"), None)
        if redirect is None or any(term.name == "all" for term in terms):
            return "neutral", f"no term of {domain}"
        self._count(redirect, domain)
        target = self._expand(redirect.spec, domain)
        verdict, by = self.judge(target)
        if verdict == "none":
            raise _Stop("permerror", f"{redirect.text} at {domain}: {target} has no SPF record")
        return verdict, by

    def _matches(self, term: Term, domain: str) -> bool:
        if term.name in COSTLY:
            self._count(term, domain)
        return _MATCHERS[term.name](self, term, domain)

    def _count(self, term: Term, domain: str) -> None:
        if len(self.trace) >= LOOKUPS_MAX:
            why = f"more than {LOOKUPS_MAX} look-ups, the next one {term.text} at {domain}"
            raise _Stop("permerror", why, over=True)
        self.trace.append(f"{term.text} at {domain}")

    def _look_up(self, name: str, kind: Kind) -> Answer:
        """A question that a term costs; too many that find nothing are an error too."""
        try:
            answer = self.ask(name, kind)
        except CannotKnow as unknown:
            raise _Stop("temperror", str(unknown)) from None
        if not answer.texts:
            self.void += 1
            if self.void > VOID_MAX:
                raise _Stop("permerror", f"more than {VOID_MAX} look-ups find nothing, the last one {name}")
        return answer

    # ---- mechanisms (section 5)

    def include(self, term: Term, domain: str) -> bool:
        target = self._expand(term.spec, domain)
        verdict, _ = self.judge(target)
        if verdict == "none":
            raise _Stop("permerror", f"{term.text} at {domain}: {target} has no SPF record")
        return verdict == "pass"

    def hosts(self, term: Term, domain: str) -> bool:
        return self._is_at(self._expand(term.spec, domain) if term.spec else domain, term)

    def exchangers(self, term: Term, domain: str) -> bool:
        target = self._expand(term.spec, domain) if term.spec else domain
        hosts = [text.partition(" ")[2] for text in self._look_up(target, "MX").texts]
        if len(hosts) > NAMES_MAX:
            raise _Stop(
                "permerror", f"{term.text} at {domain}: {target} has more than {NAMES_MAX} MX records"
            )
        return any(self._is_at(host, term) for host in hosts if host)

    def named(self, term: Term, domain: str) -> bool:
        target = (self._expand(term.spec, domain) if term.spec else domain).lower()
        return any(name == target or name.endswith(f".{target}") for name in self._names())

    def exists(self, term: Term, domain: str) -> bool:
        return bool(self._look_up(self._expand(term.spec, domain), "A").texts)

    def listed(self, term: Term, domain: str) -> bool:
        return self.address in term.network if term.network is not None else False

    def everybody(self, term: Term, domain: str) -> bool:
        return True

    def _is_at(self, host: str, term: Term) -> bool:
        length = term.prefixes[0 if self.address.version == 4 else 1]
        found = self._look_up(host, self._kind).texts
        return any(self.address in ip_network(f"{text}/{length}", strict=False) for text in found)

    @property
    def _kind(self) -> Kind:
        return "A" if self.address.version == 4 else "AAAA"

    def _names(self) -> list[str]:
        """The names of the address that lead back to it (5.5); trouble here is no match."""
        found = []
        try:
            names = self.ask(reverse_name(str(self.address)), "PTR").texts[:NAMES_MAX]
        except CannotKnow:
            return []
        for name in names:
            try:
                back = self.ask(name, self._kind).texts
            except CannotKnow:
                continue
            if any(ip_address(text) == self.address for text in back):
                found.append(name)
        return found

    # ---- macros (section 7)

    def _expand(self, spec: str, domain: str) -> str:
        """A domain-spec with its macros replaced, shortened from the left to 253 characters."""
        text = _MACRO.sub(lambda found: self._macro(found, domain), spec).removesuffix(".")
        while len(text) > 253 and "." in text:
            text = text.partition(".")[2]
        return text

    def _macro(self, found: re.Match[str], domain: str) -> str:
        if found[0] in _FIXED:
            return _FIXED[found[0]]
        letter = found["letter"]
        value = self._value(letter.lower(), domain)
        pieces = re.split(f"[{re.escape(found['delimiters'] or '.')}]", value)
        if found["reverse"]:
            pieces.reverse()
        if found["digits"]:
            pieces = pieces[-int(found["digits"]) :]
        text = ".".join(pieces)
        return quote(text, safe="-._~") if letter.isupper() else text

    def _value(self, letter: str, domain: str) -> str:
        local, _, host = self.sender.rpartition("@")
        if letter == "i":
            six = self.address.version == 6
            return ".".join(self.address.exploded.replace(":", "")) if six else str(self.address)
        if letter == "p":
            return self._known_as(domain)
        values = {"s": self.sender, "l": local or "postmaster", "o": host, "d": domain, "h": self.helo}
        return values.get(letter, "in-addr" if self.address.version == 4 else "ip6")

    def _known_as(self, domain: str) -> str:
        names = self._names()
        below = [name for name in names if name == domain or name.endswith(f".{domain}")]
        return domain if domain in names else next(iter([*below, *names]), "unknown")


_MACRO = re.compile(
    r"%%|%_|%-|%\{(?P<letter>[A-Za-z])(?P<digits>[0-9]*)(?P<reverse>[rR]?)(?P<delimiters>[-.+,/_=]*)\}"
)
_FIXED = {"%%": "%", "%_": " ", "%-": "%20"}
_MATCHERS = {
    "all": _Check.everybody,
    "include": _Check.include,
    "a": _Check.hosts,
    "mx": _Check.exchangers,
    "ptr": _Check.named,
    "exists": _Check.exists,
    "ip4": _Check.listed,
    "ip6": _Check.listed,
}


def _is_host_name(name: str) -> bool:
    labels = name.removesuffix(".").split(".")
    return len(labels) > 1 and all(0 < len(label) < 64 for label in labels) and len(name) < 255
