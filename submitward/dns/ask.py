"""Questions to the DNS, and what an answer is worth: there, not there, or cannot be known now.

The one module that names dnspython, which falls back to TCP for answers that were cut (RFC 7766). Must not
know what anybody makes of a record. Each question is asked once in a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.reversename

from submitward.dns.settings import split_server

Kind = Literal["TXT", "A", "AAAA", "MX", "PTR", "SOA"]
CHAIN_MAX = 8  # CNAMEs that are followed
PATIENCE = (
    2  # questions about one domain, or to servers that have never answered, that may stay without answer
)


class CannotKnow(Exception):
    """No answer, or one that says nothing: a timeout, SERVFAIL, REFUSED. Never a "no"; str() says which."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is of one kind at a name.

    `texts`: the records; of TXT the strings joined, of MX and the others as text (``10 mx.example.org``),
    names in lower case without the last dot. `parts`: the strings of each TXT record. `ttl` seconds: the
    largest on the way, since a cache may keep each of them. `chain`: the names that CNAMEs led to. `exists`:
    whether there is such a name at all. `negative` seconds: how long "nothing there" may be remembered
    (RFC 2308).
    """

    texts: tuple[str, ...] = ()
    parts: tuple[tuple[str, ...], ...] = ()
    ttl: int = 0
    chain: tuple[str, ...] = ()
    exists: bool = True
    negative: int = 0


#: What the judges of records are given. Raises CannotKnow.
Ask = Callable[[str, Kind], Answer]


class Resolver:
    """Asks `servers` (``192.0.2.53``, ``[2001:db8::53]:5353``), or those of resolv.conf(5) when there are
    none; each question may take `timeout` seconds."""

    def __init__(self, servers: Iterable[str] = (), timeout: float = 5.0) -> None:
        listed = [dns.nameserver.Do53Nameserver(*split_server(text)) for text in servers]
        try:
            self._resolver = dns.resolver.Resolver(configure=not listed)
        except dns.resolver.NoResolverConfiguration:
            self._resolver = dns.resolver.Resolver(configure=False)
        if listed:
            self._resolver.nameservers = listed
        self._resolver.use_edns(0, 0, 1232)
        self._timeout = timeout
        self._known: dict[tuple[str, Kind], Answer | CannotKnow] = {}
        self._silent: Counter[str] = Counter()
        self._heard = False

    def ask(self, name: str, kind: Kind) -> Answer:
        """The answer about `name` (A-labels, with or without the last dot). Raises CannotKnow."""
        key = (name.lower().rstrip("."), kind)
        if key not in self._known:
            try:
                self._known[key] = self._follow(*key)
            except CannotKnow as unknown:
                self._known[key] = unknown
        found = self._known[key]
        if isinstance(found, CannotKnow):
            raise CannotKnow(str(found))
        return found

    def _follow(self, name: str, kind: Kind) -> Answer:
        """An answer through CNAMEs that the server does not follow itself (out of its zones)."""
        ttl, chain = 0, [name]
        while True:
            answer = self._once(chain[-1], kind)
            ttl = max(ttl, answer.ttl)
            chain += answer.chain
            if answer.texts or not answer.chain or not answer.exists:
                return Answer(
                    answer.texts, answer.parts, ttl, tuple(chain[1:]), answer.exists, answer.negative
                )
            if len(chain) > CHAIN_MAX or len(set(chain)) < len(chain):
                raise CannotKnow(f"{name} {kind}: the CNAMEs lead in a circle, or too far")

    def _once(self, name: str, kind: Kind) -> Answer:
        try:
            asked = dns.name.from_text(name)
        except dns.exception.DNSException:
            return Answer(exists=False)  # a name that cannot be is not there
        domain = ".".join(name.split(".")[-2:])
        if self._silent[domain] >= PATIENCE or (not self._heard and self._silent.total() > PATIENCE):
            raise CannotKnow(f"{name} {kind}: not asked again, the name servers do not answer")
        try:
            found = self._resolver.resolve(
                asked, kind, raise_on_no_answer=False, search=False, lifetime=self._timeout
            )
            message = found.response
        except dns.resolver.NXDOMAIN as none:
            message = none.response(asked)  # type: ignore[no-untyped-call]
        except dns.exception.Timeout:
            self._silent[domain] += 1
            raise CannotKnow(f"{name} {kind}: no answer within {self._timeout:g} s") from None
        except dns.exception.DNSException as wrong:
            raise CannotKnow(f"{name} {kind}: {_said(wrong)}") from None
        self._heard = True
        return _read(message, asked, kind)


def reverse_name(address: str) -> str:
    """The name at which the PTR record of an address is."""
    return dns.reversename.from_address(address).to_text(omit_final_dot=True)


def _said(wrong: dns.exception.DNSException) -> str:
    """SERVFAIL and the like, in a few words."""
    errors = getattr(wrong, "kwargs", {}).get("errors") or []
    words = {str(error[3]) or type(error[3]).__name__ for error in errors if len(error) > 3}
    return ", ".join(sorted(words)) or " ".join(str(wrong).split())[:200]


def _read(message: dns.message.Message, asked: dns.name.Name, kind: Kind) -> Answer:
    """The answer in a message of the server."""
    wanted, name, ttl = dns.rdatatype.from_text(kind), asked, 0
    chain: list[str] = []
    while True:
        records: Any = next((r for r in message.answer if r.name == name and r.rdtype == wanted), None)
        alias: Any = next(
            (r for r in message.answer if r.name == name and r.rdtype == dns.rdatatype.CNAME), None
        )
        if records is not None or alias is None or len(chain) > CHAIN_MAX:
            break
        ttl, name = max(ttl, alias.ttl), alias[0].target
        chain.append(_plain(name))
    if records is None:
        exists = message.rcode() != 3  # NXDOMAIN
        return Answer((), (), ttl, tuple(chain), exists, _negative(message))
    parts = tuple(_strings(record) for record in records) if kind == "TXT" else ()
    texts = tuple("".join(strings) for strings in parts) or tuple(_text(record) for record in records)
    return Answer(texts, parts, max(ttl, records.ttl), tuple(chain))


def _strings(record: Any) -> tuple[str, ...]:
    return tuple(string.decode("utf-8", "replace") for string in record.strings)


def _text(record: Any) -> str:
    if record.rdtype == dns.rdatatype.MX:
        return f"{record.preference} {_plain(record.exchange)}"
    if record.rdtype == dns.rdatatype.PTR:
        return _plain(record.target)
    return str(record)


def _plain(name: dns.name.Name) -> str:
    return name.to_text().lower().rstrip(".")


def _negative(message: dns.message.Message) -> int:
    """RFC 2308, 5: the smaller of the SOA's TTL and its last field."""
    for records in message.authority:
        if records.rdtype == dns.rdatatype.SOA:
            minimum: int = records[0].minimum
            return min(records.ttl, minimum)
    return 0
