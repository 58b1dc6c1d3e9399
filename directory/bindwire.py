"""The few octets of LDAP that a simple bind needs: requests made, responses read (RFC 4511, BER).

Knows BindRequest, BindResponse, StartTLS, "Who am I?", the password policy control and the notice of
disconnection, and nothing else. Must not know sockets, nor what a result code means.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The control that asks for the password policy's opinion (draft-behera-ldap-password-policy).
PPOLICY = "1.3.6.1.4.1.42.2.27.8.5.1"
LONGEST = 65536  # octets of one response; a diagnostic message is far shorter
BIND_RESPONSE, EXTENDED_RESPONSE = 0x61, 0x78
_START_TLS = b"1.3.6.1.4.1.1466.20037"
_WHO_AM_I = b"1.3.6.1.4.1.4203.1.11.3"


class Broken(Exception):
    """The server does not speak LDAP, or says what nobody asked for."""


@dataclass(frozen=True, slots=True)
class BindResult:
    """A bind response: result code, diagnostic message, and the value of the password policy control."""

    code: int
    text: str = ""
    policy: bytes | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """One response: its message id (0 for a notice), its kind, and its result."""

    id: int
    kind: int
    result: BindResult


def _encode(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


_POLICY = _encode(0xA0, _encode(0x30, _encode(0x04, PPOLICY.encode())))


def _message(id: int, rest: bytes) -> bytes:
    number = id.to_bytes(id.bit_length() // 8 + 1, "big")
    return _encode(0x30, _encode(0x02, number) + rest)


def encode_bind(id: int, dn: str, password: bytes) -> bytes:
    """A simple bind, asking for the password policy's opinion.

    Raises ValueError for what would be an unauthenticated or anonymous bind (RFC 4513, 5.1.2).
    """
    if not dn or not password:
        raise ValueError("a bind without a name or a password authenticates nobody")
    bind = b"\x02\x01\x03" + _encode(0x04, dn.encode()) + _encode(0x80, password)
    return _message(id, _encode(0x60, bind) + _POLICY)


def encode_unauthenticated(id: int, dn: str) -> bytes:
    """A name without a password: what `submitward check` asks a server about, and nobody else ever sends."""
    return _message(id, _encode(0x60, b"\x02\x01\x03" + _encode(0x04, dn.encode()) + _encode(0x80, b"")))


def encode_start_tls(id: int) -> bytes:
    """The extended request that asks for TLS (RFC 4511, 4.14)."""
    return _message(id, _encode(0x77, _encode(0x80, _START_TLS)))


def encode_who_am_i(id: int) -> bytes:
    """The extended request "Who am I?" (RFC 4532), which authenticates nobody and which every server answers,
    also one that does not know it."""
    return _message(id, _encode(0x77, _encode(0x80, _WHO_AM_I)))


class Reader:
    """Puts responses together out of whatever pieces arrive."""

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def is_empty(self) -> bool:
        """Whether nothing of a next response has arrived."""
        return not self._buffer

    def feed(self, data: bytes) -> list[Response]:
        """The responses that these octets complete. Raises Broken."""
        self._buffer += data
        found = []
        while (end := _end(self._buffer)) is not None:
            message, self._buffer = self._buffer[:end], self._buffer[end:]
            found.append(_parse(message))
        if len(self._buffer) > LONGEST:
            raise Broken(f"a response is longer than {LONGEST} octets")
        return found


def _end(buffer: bytes) -> int | None:
    """Where the first message ends, None while that is not known or not there yet."""
    if len(buffer) < 2:
        return None
    if buffer[0] != 0x30:
        raise Broken("this is no LDAP")
    size, at = buffer[1], 2
    if size >= 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4:
            raise Broken("a length that LDAP does not use")
        if len(buffer) < 2 + count:
            return None
        size, at = int.from_bytes(buffer[2 : 2 + count], "big"), 2 + count
    if size > LONGEST:
        raise Broken(f"a response is longer than {LONGEST} octets")
    return at + size if len(buffer) >= at + size else None


def elements(data: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each BER element in `data`, lengths in any form that LDAP allows. Raises Broken."""
    found, at = [], 0
    while at < len(data):
        if at + 2 > len(data):
            raise Broken("an element is cut off")
        tag, size = data[at], data[at + 1]
        at += 2
        if size >= 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4 or at + count > len(data):
                raise Broken("a length that LDAP does not use")
            size, at = int.from_bytes(data[at : at + count], "big"), at + count
        if at + size > len(data):
            raise Broken("an element is cut off")
        found.append((tag, data[at : at + size]))
        at += size
    return found


def _parse(message: bytes) -> Response:
    parts = elements(elements(message)[0][1])
    if len(parts) < 2 or parts[0][0] != 0x02 or not 1 <= len(parts[0][1]) <= 4:
        raise Broken("a message without an id")
    kind, operation = parts[1]
    if kind not in (BIND_RESPONSE, EXTENDED_RESPONSE):
        raise Broken(f"an answer of kind {kind:#x} that nobody asked for")
    fields = elements(operation)
    if [tag for tag, _ in fields[:3]] != [0x0A, 0x04, 0x04] or not 1 <= len(fields[0][1]) <= 4:
        raise Broken("a result without a code")
    code, text = int.from_bytes(fields[0][1], "big"), fields[2][1].decode("utf-8", "replace")
    policy = _policy(parts[2][1]) if len(parts) > 2 and parts[2][0] == 0xA0 else None
    return Response(int.from_bytes(parts[0][1], "big"), kind, BindResult(code, text, policy))


def _policy(controls: bytes) -> bytes | None:
    for _, control in elements(controls):
        fields = elements(control)
        if fields and fields[0] == (0x04, PPOLICY.encode()) and fields[-1][0] == 0x04 and len(fields) > 1:
            return fields[-1][1]
    return None
