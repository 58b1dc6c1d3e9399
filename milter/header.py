"""The header of one message, as far as it is judged: who stands in it, and which fields stand twice.

Knows the names of fields and how often RFC 5322 allows them. Must not know whether anybody may be there.
Keeps the few values that are judged and counts of the rest, so a large header costs no memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from milter.claims import CLAIMS_MAX, NAMES, Claim
from milter.lines import is_long_field

HEADER_MAX = 256 * 1024  # octets of names and values together; Postfix itself sets no limit on all of them
VALUE_KEPT = 2048  # more than author.FIELD_MAX, so that what was cut is still seen to be too long

#: Fields that RFC 5322 3.6 allows once.
ONCE = frozenset(
    (
        b"date",
        b"from",
        b"sender",
        b"reply-to",
        b"to",
        b"cc",
        b"bcc",
        b"message-id",
        b"in-reply-to",
        b"references",
        b"subject",
    )
)
_JUDGED = frozenset((b"from", b"sender"))  # these have reasons of their own

#: Octets that stand in no field (RFC 5322 2.2): controls other than tab; a LF only before a blank.
_STRANGE = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\n(?![ \t])")


@dataclass(slots=True)
class Header:
    """What was seen so far.

    `repeated`, `resent`, `strange` (holds octets that stand in no field), `long` (has a line that is too
    long) and `claimed` (one claim too many) are the first such field's name in lower case. `claims` are the
    fields by which the client says what is ours to say.
    """

    size: int = 0
    author: bytes | None = None
    sender: bytes | None = None
    repeated: bytes = b""
    resent: bytes = b""
    strange: bytes = b""
    long: bytes = b""
    claimed: bytes = b""
    seen: set[bytes] = field(default_factory=set)
    claims: list[Claim] = field(default_factory=list)
    counts: dict[bytes, int] = field(default_factory=dict)

    @property
    def is_too_large(self) -> bool:
        """Whether it is over HEADER_MAX; what comes after that is not looked at any more."""
        return self.size > HEADER_MAX

    def add(self, name: bytes, value: bytes) -> None:
        """Take one field in, as the MTA shows it."""
        self.size += len(name) + len(value)
        if self.is_too_large:
            return
        name = name.strip(b" \t").lower()  # RFC 5322 4.5 lets blanks stand before the colon
        if name in ONCE:
            if name in self.seen:
                self.repeated = self.repeated or name
            self.seen.add(name)
        if name == b"from" and self.author is None:
            self.author = value[:VALUE_KEPT]
        elif name == b"sender" and self.sender is None:
            self.sender = value[:VALUE_KEPT]
        elif name.startswith(b"resent-") and not self.resent:
            self.resent = name[:40]
        if name in NAMES:
            self.counts[name] = self.counts.get(name, 0) + 1
            self.claims.append(Claim(name, self.counts[name], value))
            self.claimed = self.claimed or (name if len(self.claims) > CLAIMS_MAX else b"")
        if name not in _JUDGED and not self.strange and _STRANGE.search(value):
            self.strange = name[:40]
        if not self.long and is_long_field(name, value):
            self.long = name[:40]
