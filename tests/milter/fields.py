"""The tables of From fields: hostile_from.txt and ordinary_from.txt."""

import re
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent
_REPEAT = re.compile(rb"<([0-9]{2,})\*(.+)>(?=[^>]|$)")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|(.))")
_NAMED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


@dataclass(frozen=True)
class Row:
    """One line: what is expected, the value, and where the case is from."""

    expected: str
    value: bytes
    source: str


def spelled(text: str) -> bytes:
    """The bytes that a column stands for."""

    def unescape(found: re.Match[bytes]) -> bytes:
        return bytes([int(found[1], 16)]) if found[1] else _NAMED[found[2]]

    data = _ESCAPE.sub(unescape, text.encode("utf-8"))
    return _REPEAT.sub(lambda found: found[2] * int(found[1]), data)


def rows(name: str) -> list[Row]:
    """Every row of a table."""
    found = []
    for line in (_FOLDER / name).read_text("utf-8").split("\n"):
        if line and not line.startswith("#"):
            expected, value, source = line.split("\t")
            found.append(Row(spelled(expected).decode("utf-8"), spelled(value), source))
    return found


HOSTILE = rows("hostile_from.txt")
ORDINARY = rows("ordinary_from.txt")
