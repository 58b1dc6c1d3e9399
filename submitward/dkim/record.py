"""The DNS record that publishes a key: written, split as the DNS wants it, and read strictly.

Knows the grammar of key records (RFC 6376, 3.6.1) and the strings of a TXT record (RFC 1035, 3.3.14). Must
not ask the DNS, nor see a private key.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

STRING_MAX = 255  # octets of one string of a TXT record
NAME_MAX = 253  # characters of a name in the DNS (RFC 1035, 2.3.4, without the last dot)
TTL = 3600  # seconds; what we suggest


class BadRecord(ValueError):
    """What stands at the name is no key record that verifiers take; str() says why."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key record: the octets of p= (empty: revoked) and what verifiers act upon.

    `hashes` and `services` are empty when every one is allowed. `notes`: what is allowed and yet unwise.
    """

    octets: bytes
    type: str = "rsa"
    hashes: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def is_revoked(self) -> bool:
        """Whether p= is empty."""
        return not self.octets


def owner_name(selector: str, domain: str) -> str:
    """The name at which the record of a key stands."""
    return f"{selector}._domainkey.{domain}"


def format_record(public: str) -> str:
    """The record for the base64 of a SubjectPublicKeyInfo; ``""`` revokes. sha256 alone (RFC 8301, 3.1)."""
    return f"v=DKIM1; k=rsa; h=sha256; p={public}"


def split(record: str) -> tuple[str, ...]:
    """The record in strings of 255 octets at most; receivers join them with nothing between."""
    return tuple(record[at : at + STRING_MAX] for at in range(0, len(record), STRING_MAX))


def zone_lines(name: str, record: str, ttl: int = TTL) -> str:
    """The record as a zone file has it (RFC 1035, 5.1): each string in quotes."""
    strings = "\n".join(f'    "{string}"' for string in split(record))
    return f"{name}. {ttl} IN TXT (\n{strings}\n)"


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_VALUE = re.compile(r"[!-:<-~\s]*", re.ASCII)


def parse_record(text: str) -> KeyRecord:
    """A key record. Raises BadRecord with the first thing that makes verifiers pass it over."""
    tags = _tags(text)
    if tags.get("v", "DKIM1") != "DKIM1":
        raise BadRecord(f"v= must be DKIM1, and is {tags['v']!r}")
    if "v" in tags and next(iter(tags)) != "v":
        raise BadRecord("v= must come first")
    if "p" not in tags:
        raise BadRecord("it has no p=, so it is no key record")
    hashes, services, flags = (_colons(tags.get(name, "")) for name in ("h", "s", "t"))
    record = KeyRecord(
        _octets(tags["p"]), tags.get("k", "rsa").lower(), hashes, services, flags, _notes(tags)
    )
    if record.type not in ("rsa", "ed25519"):
        raise BadRecord(f"k= must be rsa, and is {record.type!r}")
    if hashes and "sha256" not in hashes:
        raise BadRecord(f"h={':'.join(hashes)} does not allow sha256, which we sign with")
    if services and not {"*", "email"} & set(services):
        raise BadRecord(f"s={':'.join(services)} does not allow email")
    return record


def _tags(text: str) -> dict[str, str]:
    if "\\" in text:
        raise BadRecord("it holds backslashes: a zone tool has escaped the semicolons; write them plainly")
    if '"' in text:
        raise BadRecord("it holds quotation marks, which belong around the strings in a zone file only")
    tags: dict[str, str] = {}
    pieces = text.split(";")
    if not pieces[-1].strip():
        pieces.pop()
    for piece in pieces:
        name, equals, value = (part.strip() for part in piece.partition("="))
        if not (equals and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise BadRecord(f"{piece.strip()[:40]!r} is no tag=value")
        if name in tags:
            raise BadRecord(f"{name}= stands there twice")
        tags[name] = value
    return tags


def _colons(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(":") if word.strip())


def _octets(text: str) -> bytes:
    try:
        return base64.b64decode(re.sub(r"\s", "", text), validate=True)
    except binascii.Error:
        raise BadRecord("p= is no base64: something was lost or added on the way into the zone") from None


def _notes(tags: dict[str, str]) -> tuple[str, ...]:
    notes = []
    if "y" in _colons(tags.get("t", "")):
        notes.append("t=y says that the domain is only testing: receivers may treat its mail as unsigned")
    if "v" not in tags:
        notes.append("v=DKIM1 is missing; it is recommended")
    if "g" in tags:
        notes.append("g= is of DomainKeys and is ignored")
    return tuple(notes)
