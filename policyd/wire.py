"""The words of Postfix's policy delegation protocol (SMTPD_POLICY_README): requests in, actions out.

Knows bytes, attributes and the closed set of actions we may ever answer. Must not know what a principal is,
why anything is refused, or that there are sockets and clocks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

REQUEST_MAX = 65536  # octets of one request, its final newline included
ATTRIBUTES_MAX = 1000
TEXT_MAX = 400  # characters: with what Postfix puts around it, a reply stays within RFC 5321's 512 octets
_IDENTIFIER_MAX = 255


class ProtocolError(Exception):
    """The peer broke the protocol. The shell logs this once and disconnects without a reply."""


class Request(NamedTuple):
    """One request, reduced to the attributes that are judged; named as Postfix spells them.

    Text holds surrogate escapes where the peer sent no UTF-8. Absent, empty and 0 are the same.
    """

    protocol_state: str = ""
    instance: str = ""
    queue_id: str = ""
    sender: str = ""
    recipient: str = ""
    recipient_count: int = 0
    size: int = 0
    client_address: str = ""
    sasl_username: str = ""
    ccert_fingerprint: str = ""
    ccert_pubkey_fingerprint: str = ""
    encryption_protocol: str = ""
    policy_context: str = ""


#: Attributes that say who asks about what: two values that differ are two stories, and we believe neither.
_ONE_STORY = frozenset(
    {
        *("request", "protocol_state", "instance", "queue_id", "sender", "recipient"),
        *("client_address", "sasl_username", "ccert_subject", "ccert_issuer"),
        *("ccert_fingerprint", "ccert_pubkey_fingerprint"),
    }
)
_IDENTIFIER = re.compile(r"[!-~]*")


class Reader:
    """Bytes in any portions in, whole requests out. Holds at most one request and one portion.

    `feed` keeps what came, `take` gives the next whole request or None, and raises ProtocolError when what
    came cannot be one; after that the reader is of no more use.
    """

    __slots__ = ("_buffer", "_searched")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0

    def __len__(self) -> int:
        """Octets that were fed and not yet taken."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Keep `data` for `take`."""
        self._buffer += data

    def take(self) -> Request | None:
        """The next request, None when it is not whole yet. Raises ProtocolError."""
        buffer = self._buffer
        if not buffer:
            return None
        end = 0 if buffer.startswith(b"\n") else buffer.find(b"\n\n", self._searched)
        if end < 0:
            if buffer.find(b"\n\r\n", max(0, self._searched - 1)) >= 0:
                raise ProtocolError("a line without =: lines end with LF alone")
            if len(buffer) >= REQUEST_MAX:
                raise ProtocolError(f"a request of more than {REQUEST_MAX} octets")
            self._searched = max(0, len(buffer) - 1)
            return None
        if end + 2 > REQUEST_MAX:
            raise ProtocolError(f"a request of more than {REQUEST_MAX} octets")
        text = buffer[:end].decode("utf-8", "surrogateescape")
        del buffer[: end + 2]
        self._searched = 0
        return parse(text)


def parse(text: str) -> Request:
    """A request from its lines, without the empty one that ends it. Raises ProtocolError.

    Of two equal names the first wins, except that two differing values of an attribute that says who asks are
    an error. Unknown names are ignored: new versions of Postfix bring new ones.
    """
    # A dict of all thirty costs 2 µs more than looking for ours alone, and shows every malformed line for it.
    pairs = [line.split("=", 1) for line in text.split("\n")]
    if len(pairs) > ATTRIBUTES_MAX:
        raise ProtocolError(f"a request of more than {ATTRIBUTES_MAX} attributes")
    try:
        attributes = dict(pairs)  # a line without "=" is the ValueError below
    except ValueError:
        raise ProtocolError("a line without =") from None
    if len(attributes) != len(pairs):
        attributes = _first_of_each(pairs)
    if attributes.get("request") != "smtpd_access_policy":
        raise ProtocolError("request= is not smtpd_access_policy")
    return _request(attributes)


def _first_of_each(pairs: list[list[str]]) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for name, value in pairs:
        if attributes.setdefault(name, value) != value and name in _ONE_STORY:
            raise ProtocolError(f"two differing values of {name}")
    return attributes


def _request(attributes: Mapping[str, str]) -> Request:
    get = attributes.get
    return Request(
        get("protocol_state", ""),
        _identifier("instance", get("instance", "")),
        _identifier("queue_id", get("queue_id", "")),
        get("sender", ""),
        get("recipient", ""),
        _number("recipient_count", get("recipient_count", "")),
        _number("size", get("size", "")),
        get("client_address", ""),
        get("sasl_username", ""),
        get("ccert_fingerprint", ""),
        get("ccert_pubkey_fingerprint", ""),
        get("encryption_protocol", ""),
        get("policy_context", ""),
    )


def _identifier(name: str, value: str) -> str:
    """What names a delivery attempt becomes a key in the ledger: Postfix's are printable ASCII and short."""
    if len(value) > _IDENTIFIER_MAX or not _IDENTIFIER.fullmatch(value):
        raise ProtocolError(f"{name} is not printable ASCII of at most {_IDENTIFIER_MAX} characters")
    return value


def _number(name: str, value: str) -> int:
    if not value:
        return 0
    if len(value) > 18 or not (value.isascii() and value.isdigit()):
        raise ProtocolError(f"{name} is not a number of at most 18 digits")
    return int(value)


# Actions. Postfix takes an empty action and one of digits alone for a permit (access(5)), so what can be said
# stands here and nowhere else: none of these permits, and all but DUNNO carry text.


@dataclass(frozen=True, slots=True)
class Dunno:
    """Nothing against it: the next restriction of Postfix decides."""


@dataclass(frozen=True, slots=True)
class DeferIfPermit:
    """We cannot know now: 450 unless something else refuses for good. `text` is what the sender may read."""

    text: str

    def __post_init__(self) -> None:
        _check(self.text)


@dataclass(frozen=True, slots=True)
class Reply:
    """A refusal in words: SMTP code (4xx or 5xx), enhanced code of the same class (RFC 3463), text."""

    code: int
    enhanced: str
    text: str

    def __post_init__(self) -> None:
        _check(self.text)
        shape = re.fullmatch(r"([45])\.\d{1,3}\.\d{1,3}", self.enhanced, re.ASCII)
        if not 400 <= self.code <= 599 or shape is None or int(shape[1]) != self.code // 100:
            raise ValueError(f"{self.code} {self.enhanced} is no refusal")


Action = Dunno | DeferIfPermit | Reply

DUNNO = Dunno()
_UNPRINTABLE = re.compile(r"[^ -~]+")


def _check(text: str) -> None:
    if len(text) > TEXT_MAX or text.strip().strip("0123456789") == "" or _UNPRINTABLE.search(text):
        raise ValueError("the text of a reply is printable ASCII, has words, and at most 400 characters")


def plain(text: str, most: int = TEXT_MAX) -> str:
    """`text` fit for a reply: printable ASCII, ``?`` for each run of the rest, at most `most` characters."""
    text = _UNPRINTABLE.sub("?", text)
    return text if len(text) <= most else text[: most - 3] + "..."


def encode(action: Action) -> bytes:
    """The bytes of an answer, ``action=…`` and an empty line; with a CR Postfix would wait for ever."""
    return b"action=%s\n\n" % words(action).encode("ascii")


def words(action: Action) -> str:
    """What stands after ``action=``. Raises TypeError for anything that is not one of the three actions."""
    if isinstance(action, Dunno):
        return "DUNNO"
    if isinstance(action, DeferIfPermit):
        return f"DEFER_IF_PERMIT 4.3.0 {action.text}"
    if isinstance(action, Reply):
        return f"{action.code} {action.enhanced} {action.text}"
    raise TypeError(f"{type(action).__name__} is no action")


def encode_request(attributes: Mapping[str, str]) -> bytes:
    """The bytes of a request, as Postfix would send it. Raises ValueError for a line break in it."""
    lines = [f"{name}={value}\n" for name, value in attributes.items()]
    if any(line.count("\n") > 1 for line in lines) or any("=" in name for name in attributes):
        raise ValueError("neither a name nor a value of a request can hold a line break, nor a name =")
    return ("".join(lines) + "\n").encode("utf-8", "surrogateescape")


def parse_answer(data: bytes) -> str | None:
    """What stands after ``action=`` in an answer, None when the answer is not whole. Raises ProtocolError."""
    line, end, _ = data.partition(b"\n\n")
    if not end:
        return None
    if not line.startswith(b"action=") or b"\n" in line:
        raise ProtocolError("an answer that is not one action= line")
    return line[7:].decode("utf-8", "backslashreplace")
