"""Log lines: how an event becomes exactly one line, and how that line is read back.

Knows escaping, bounds and the two formats. Must not know where lines go or what events mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

PRIORITIES: dict[str, int] = {"error": 3, "warning": 4, "notice": 5, "info": 6, "debug": 7}
LONGEST_VALUE = 1000  # characters; no address is longer
LONGEST_TRACEBACK = 8000
LONGEST_LINE = (
    16000  # journald splits at 48 kB (LineMax=); what is over is left out and the line says cut=true
)

_PLAIN = re.compile(r"[!#-\[\]-~]+")  # printable ASCII without blank, quote and backslash
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHORT = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LONG = {short[1]: char for char, short in _SHORT.items()}
_ESCAPE = re.compile(r'\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([\\"nrt]))')
_HEAD = re.compile(r"<([0-7])>([^ :]+): ")
_FIELD = re.compile(r'([a-z][a-z0-9_]*)=("(?:[^"\\]|\\.)*"|[!#-\[\]-~]+)(?: |$)')


def text_line(level: str, program: str, event: str, fields: Mapping[str, object]) -> str:
    """``<6>program: event=… key=value …``, the number being the journal's priority (sd-daemon(3))."""
    parts = [f"<{PRIORITIES[level]}>{program}: event={format_value(event)}"]
    length = len(parts[0])
    for name, value in fields.items():
        if _is_absent(value):
            continue
        part = f"{name}={format_value(value, _longest(name))}"
        length += len(part) + 1
        if length > LONGEST_LINE:
            parts.append("cut=true")
            break
        parts.append(part)
    return " ".join(parts)


def json_line(stamp: str, level: str, program: str, event: str, fields: Mapping[str, object]) -> str:
    """One JSON object in ASCII; `stamp` is the time as text."""
    entry: dict[str, object] = {"time": stamp, "level": level, "program": program, "event": event}
    length = 0
    for name, value in fields.items():
        if _is_absent(value):
            continue
        item = value
        if not isinstance(value, bool | int):
            item = _SURROGATE.sub(lambda m: _escape(m[0]), _bounded(_as_text(value), _longest(name)))
        length += len(json.dumps(item))
        if length > LONGEST_LINE:
            entry["cut"] = True
            break
        entry[name] = item
    return json.dumps(entry, separators=(",", ":"))


def format_value(value: object, longest: int = LONGEST_VALUE) -> str:
    """A value as it stands behind ``key=``: bare when that is safe, else quoted with everything odd escaped.

    Bytes are shown as UTF-8, a byte that is none as ``\\xff``.
    """
    text = _bounded(_as_text(value), longest)
    if _PLAIN.fullmatch(text):
        return text
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else _escape(c) for c in text) + '"'


def parse_value(text: str) -> str:
    """What `format_value` was given, as text; bytes that are no UTF-8 become surrogates (PEP 383)."""
    if not text.startswith('"'):
        return text
    return _ESCAPE.sub(_unescape, text[1:-1])


def parse_line(line: str) -> tuple[int, str, dict[str, str]]:
    """Priority, program and fields of a text line without its newline. Raises ValueError if it is none."""
    head = _HEAD.match(line)
    if head is None:
        raise ValueError(f"no log line: {line[:80]!r}")
    fields, position = {}, head.end()
    while position < len(line):
        match = _FIELD.match(line, position)
        if match is None:
            raise ValueError(f"no field at {position}: {line[position : position + 80]!r}")
        fields[match[1]] = parse_value(match[2])
        position = match.end()
    return int(head[1]), head[2], fields


def _is_absent(value: object) -> bool:
    return value is None or value == "" or value == b""


def _longest(name: str) -> int:
    return LONGEST_TRACEBACK if name == "traceback" else LONGEST_VALUE


def _bounded(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + "…"


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(round(value, 3))
    if isinstance(value, tuple | list):
        return ",".join(_as_text(item) for item in value)
    return str(value)


def _escape(char: str) -> str:
    code = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _unescape(match: re.Match[str]) -> str:
    if match[4]:
        return _LONG[match[4]]
    code = int(match[1] or match[2] or match[3], 16)
    return chr(code + 0xDC00 if match[1] and code >= 0x80 else code)
