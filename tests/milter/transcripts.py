"""How transcripts are written and read; see tests/transcripts/milter/README.md."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

from milter import wire
from milter.wire import Options, Packet, encode

FOLDER = Path(__file__).parents[1] / "transcripts" / "milter"
CLOSED = "<CLOSED>"
_SHOWN = {0: b"|", 9: b"\\t", 10: b"\\n", 13: b"\\r", 92: b"\\\\", 124: b"\\|"}
_MEANT = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"\\": b"\\", b"|": b"\x7c"}


def shown(packet: Packet) -> str:
    """A packet as one line says it."""
    command = packet.command.decode("ascii")
    if packet.command == wire.NEGOTIATE and len(packet.data) >= 12:
        version, actions, protocol = struct.unpack_from("!III", packet.data)
        return f"{command} {version} {actions:x} {protocol:x}{_symbols(packet.data[12:])}"
    data = b"".join(
        _SHOWN.get(octet) or (bytes([octet]) if octet > 31 else b"\\x%02x" % octet) for octet in packet.data
    )
    return f"{command} {data.decode('utf-8', 'backslashreplace')}" if data else command


def _symbols(data: bytes) -> str:
    found = ""
    while data:
        names, _, rest = data[4:].partition(b"\0")
        found += f" | {int.from_bytes(data[:4], 'big')} {names.decode('ascii')}"
        data = rest
    return found


def meant(text: str) -> Packet:
    """The packet that a line stands for."""
    command, _, rest = text.partition(" ")
    if command == "O" and rest[:1].isdigit():
        words, *lists = rest.split(" | ")
        version, *bits = words.split(" ")
        options = Options(int(version), *(int(word, 16) for word in bits))
        symbols = {int(one.partition(" ")[0]): one.partition(" ")[2].encode() for one in lists}
        return Packet(b"O", wire.encode_options(options, symbols)[5:])

    def unescape(found: re.Match[bytes]) -> bytes:
        if found[0] == b"|":
            return b"\0"
        return bytes([int(found[1], 16)]) if found[1] else _MEANT[found[2]]

    data = re.sub(rb"\\(?:x([0-9a-f]{2})|(.))|\|", unescape, rest.encode("utf-8"))
    return Packet(command.encode("ascii"), data)


@dataclass
class Transcript:
    """What the MTA says, a pattern of what the filter says, whether it hangs up, and what the stage needs."""

    said: bytes = b""
    heard: bytes = b""
    closed: bool = False
    records: list[tuple[str, str]] = field(default_factory=list)
    sections: dict[str, str] = field(default_factory=dict)


def parse(text: str) -> Transcript:
    """One transcript."""
    found = Transcript()
    for line in text.split("\n"):
        who, _, rest = line.partition(" ")
        if not line or who.startswith("#"):
            continue
        assert not found.closed, "nothing comes after the end"
        if who == "S:":
            name, _, value = rest.partition(" ")
            if name == "record":
                queue_id, _, subject = value.partition(" ")
                found.records.append((queue_id, subject))
            else:
                found.sections[name] = value
        elif who == "M:":
            found.said += encode(meant(rest))
        elif rest == CLOSED:
            found.closed = True
        else:
            assert who == "F:", line
            eight = meant(rest.replace("{incident}", "00000000"))
            found.heard += re.escape(encode(eight)).replace(b"00000000", b"[0-9a-f]{8}")
    return found
