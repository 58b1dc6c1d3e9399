"""The milter protocol's bytes: framing, the few packets we read, the few we write.

Knows lengths, commands, NUL-terminated strings and the words of the negotiation (libmilter's mfdef.h,
Postfix's milter8.c). Must not know what a message, a header or a verdict means: bytes in, bytes out,
nothing becomes text.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

#: One packet, command byte included. Postfix sends 65,535 bytes of body at most, and headers up to 102,400.
PACKET_MAX = 1 << 20

# MTA to filter
NEGOTIATE, MACRO, CONNECT, HELO, MAIL, RCPT = b"O", b"D", b"C", b"H", b"M", b"R"
DATA, UNKNOWN, HEADER, END_OF_HEADERS, BODY = b"T", b"U", b"L", b"N", b"B"
END_OF_MESSAGE, ABORT, QUIT, QUIT_NEW_CONNECTION = b"E", b"A", b"Q", b"K"
COMMANDS = frozenset((NEGOTIATE, MACRO, CONNECT, HELO, MAIL, RCPT, DATA, UNKNOWN, HEADER, END_OF_HEADERS)) | {
    BODY,
    END_OF_MESSAGE,
    ABORT,
    QUIT,
    QUIT_NEW_CONNECTION,
}

VERSIONS = (2, 3, 4, 6)  # what Postfix's milter_protocol can be; 5 was never released

# action bits
CHGHDRS, SETSYMLIST = 1 << 4, 1 << 8
# protocol bits: steps that need not be sent …
NOCONNECT, NOHELO, NOMAIL, NORCPT, NOBODY, NOHDRS, NOEOH = (1 << bit for bit in range(7))
NOUNKNOWN, NODATA = 1 << 8, 1 << 9
# … and steps that get no answer
NR_HDR = 1 << 7
NR_CONN, NR_HELO, NR_MAIL, NR_RCPT, NR_DATA, NR_UNKN, NR_EOH, NR_BODY = (1 << bit for bit in range(12, 20))
HDR_LEADSPC = 1 << 20

#: The step's bit that says "no answer"; a step that isn't here is always answered.
UNANSWERED = {
    CONNECT: NR_CONN,
    HELO: NR_HELO,
    MAIL: NR_MAIL,
    RCPT: NR_RCPT,
    DATA: NR_DATA,
    UNKNOWN: NR_UNKN,
    HEADER: NR_HDR,
    END_OF_HEADERS: NR_EOH,
    BODY: NR_BODY,
}
#: Commands that never get an answer.
SILENT = frozenset((MACRO, ABORT, QUIT, QUIT_NEW_CONNECTION))

# stages of a symbol list (libmilter's SMFIM_*)
SYMBOLS_CONNECT, SYMBOLS_MAIL, SYMBOLS_EOH = 0, 2, 6

_LENGTH = struct.Struct("!I")
_WORDS = struct.Struct("!III")


class Violation(Exception):
    """The peer broke the protocol: log it and disconnect. The text is ours and holds no bytes of the peer."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One command and its data."""

    command: bytes
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Options:
    """The three words of a negotiation: version, action bits, protocol bits."""

    version: int
    actions: int
    protocol: int


class Reader:
    """Cuts a stream into packets. Holds at most one unfinished packet and what one `feed` brought."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        self._buffer += data

    @property
    def is_between_packets(self) -> bool:
        """Whether nothing of a next packet has arrived."""
        return not self._buffer

    @property
    def held(self) -> int:
        """How many bytes wait to be read."""
        return len(self._buffer)

    def next(self) -> Packet | None:
        """The next packet, or None when more bytes are needed. Raises Violation as early as it can."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if not 1 <= length <= PACKET_MAX:
            raise Violation(f"a packet of {length} bytes (1 to {PACKET_MAX} are legal)")
        end = _LENGTH.size + length
        if len(self._buffer) > _LENGTH.size and bytes(self._buffer[4:5]) not in COMMANDS:
            raise Violation(f"unknown command 0x{self._buffer[4]:02x}")
        if len(self._buffer) < end:
            return None
        packet = Packet(bytes(self._buffer[4:5]), bytes(self._buffer[5:end]))
        del self._buffer[:end]
        return packet


def encode(packet: Packet) -> bytes:
    """The bytes of one packet."""
    return _LENGTH.pack(1 + len(packet.data)) + packet.command + packet.data


def parse_strings(data: bytes) -> tuple[bytes, ...]:
    """NUL-terminated strings. Raises Violation when the last one isn't terminated."""
    if not data:
        return ()
    if data[-1]:
        raise Violation("a string without its NUL")
    return tuple(data[:-1].split(b"\0"))


def parse_options(data: bytes) -> Options:
    """What the MTA offers. Raises Violation (also for a version nobody speaks)."""
    if len(data) < _WORDS.size:
        raise Violation("a negotiation of less than three words")
    options = Options(*_WORDS.unpack_from(data))
    if options.version not in VERSIONS:
        raise Violation(f"milter protocol version {options.version} (2, 3, 4 and 6 are spoken)")
    return options


def parse_macros(data: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The command that the macros belong to, and name → value, names without braces. Raises Violation."""
    stage, strings = data[:1], parse_strings(data[1:])
    if stage not in COMMANDS:
        raise Violation("macros for no known command")
    if len(strings) % 2:
        raise Violation("a macro without its value")
    names = (_bare(name) for name in strings[::2])
    return stage, dict(zip(names, strings[1::2], strict=True))


def _bare(name: bytes) -> bytes:
    return name[1:-1] if name[:1] == b"{" and name[-1:] == b"}" else name


def parse_header(data: bytes) -> tuple[bytes, bytes]:
    """Name and value of one header field. Raises Violation."""
    strings = parse_strings(data)
    if len(strings) != 2:
        raise Violation("a header packet that isn't a name and a value")
    return strings[0], strings[1]


def parse_mail(data: bytes) -> bytes:
    """The envelope sender as the MTA writes it, angle brackets included. Raises Violation."""
    strings = parse_strings(data)
    if not strings:
        raise Violation("MAIL without a sender")
    return strings[0]


def encode_options(options: Options, symbols: Mapping[int, bytes]) -> bytes:
    """Our side of the negotiation; `symbols` are the macros we want per stage, with SETSYMLIST only."""
    lists = b"".join(_LENGTH.pack(stage) + names + b"\0" for stage, names in symbols.items())
    words = _WORDS.pack(options.version, options.actions, options.protocol)
    return encode(Packet(NEGOTIATE, words + lists))


CONTINUE = encode(Packet(b"c"))


def encode_removal(name: bytes, index: int) -> bytes:
    """Remove the field `name` that is number `index` (from 1) of that name; at end of message only."""
    return encode(Packet(b"m", _LENGTH.pack(index) + name + b"\0\0"))


_REPLY = re.compile(
    rb"(?:4[0-9]{2} 4|5[0-9]{2} 5)\.[0-9]{1,3}\.[0-9]{1,3} [\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?"
)
REPLY_MAX = 512  # RFC 5321 4.5.3.1.5, the line end included


def encode_reply(line: bytes) -> bytes:
    """A refusal: ``550 5.7.1 text`` of one printable ASCII line. Raises ValueError for anything else.

    A percent sign is doubled, as libmilter's smfi_setreply wants it: Postfix halves it again.
    """
    if len(line) > REPLY_MAX - 2 or not _REPLY.fullmatch(line):
        raise ValueError(f"no reply line: {line!r}")
    return encode(Packet(b"y", line.replace(b"%", b"%%") + b"\0"))


def packets(data: bytes) -> Iterator[Packet]:
    """Every whole packet in `data` (for tests and transcripts). Raises Violation, also for a rest."""
    reader = Reader()
    reader.feed(data)
    while (packet := reader.next()) is not None:
        yield packet
    if not reader.is_between_packets:
        raise Violation("the bytes end inside a packet")
