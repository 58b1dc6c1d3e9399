"""A message in a file, cut into fields and body as Postfix's smtpd and cleanup show it to a milter.

Knows where a header ends for Postfix, what it mends on the way (line ends, bare CR, an mbox "From " line,
fields that it drops) and its bounds. Must not know what a field means, nor judge one. Holds one field and one
chunk, however large the file is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

FIELD_MAX = 102_400  # octets of one field, name and folds included: header_size_limit; the rest is cut
CHUNK = 65_535  # octets of the body that Postfix shows together
_READ = 1 << 16

_FIELD = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:", re.DOTALL)
_DROPPED = frozenset((b"bcc", b"content-length", b"resent-bcc", b"return-path"))
_MBOX = re.compile(rb">*From ")

NUL = "it holds a NUL, for which Postfix refuses it before the milter is asked (message_reject_characters)"


class MessageFile:
    """Reads `stream` once: first all of `fields`, then all of `body`. `notes` say what Postfix does to it,
    `size` how many octets were read; `has_nul` is known at the end."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._first_of_body: bytes | None = None  # a line that ended the header and is body already
        self.notes: list[str] = []
        self.size = 0
        self.has_nul = False

    def fields(self) -> Iterator[tuple[bytes, bytes]]:
        """Name and value of each field, folds as LF, as a milter sees them. Raises OSError."""
        for name, value in self._fields():
            if name.lower() in _DROPPED:
                self._note(f"the field {name.decode('ascii')}, which Postfix drops (message_drop_headers)")
            else:
                yield name, value

    def _fields(self) -> Iterator[tuple[bytes, bytes]]:
        name, value = b"", bytearray()
        for number, line in enumerate(self._lines(), 1):
            if number == 1 and _MBOX.match(line):
                self._note('the first line is mbox\'s "From ", which Postfix makes an X-Mailbox-Line field')
                line = b"X-Mailbox-Line: " + line
            if name and line[:1] in (b" ", b"\t"):
                value += b"\n" + line
                del value[FIELD_MAX:]
                continue
            if name:
                yield name, bytes(value)
            name = b""
            found = _FIELD.match(line)
            if found is None:
                self._end_header(number, line)
                return
            name, value = found[1], bytearray(line[found.end() : FIELD_MAX])
        if name:
            yield name, bytes(value)

    def _end_header(self, number: int, line: bytes) -> None:
        if line:
            why = "starts with a blank" if line[:1] in (b" ", b"\t") else "is no field"
            self._note(f"line {number} {why}, so the header ends before it, and what follows is body")
            self._first_of_body = line

    def body(self) -> Iterator[bytes]:
        """The body with CRLF line ends, in chunks; to be read after the fields. Raises OSError."""
        if self._first_of_body is not None:
            yield self._first_of_body + b"\r\n"
        held = b""
        while chunk := self._read(CHUNK - 1 - len(held)):
            chunk = held + chunk
            held = b"\r" if chunk.endswith(b"\r") else b""  # its LF may be in the next chunk
            chunk = chunk.removesuffix(held) if held else chunk
            yield self._mended(chunk.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")

    def _lines(self) -> Iterator[bytes]:
        """Lines without their ends; of a long one no more than could stand in a field."""
        line, whole = bytearray(), True
        while piece := self._readline():
            whole = piece.endswith(b"\n")
            line += piece
            if whole:
                end = -2 if line.endswith(b"\r\n") else -1
                yield self._mended(bytes(line[:end]))
                line.clear()
            elif len(line) > FIELD_MAX:
                line[FIELD_MAX:] = b""
        if line or not whole:
            yield self._mended(bytes(line))

    def _mended(self, data: bytes) -> bytes:
        """Without NUL, which a milter cannot be shown, and with a blank for each bare CR, as Postfix does."""
        if b"\0" in data:
            self.has_nul = True
            data = data.replace(b"\0", b"")
        if b"\r" in data:
            self._note("a bare CR, which Postfix makes a blank (cleanup_replace_stray_cr_lf)")
            data = data.replace(b"\r", b" ")
        return data

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _readline(self) -> bytes:
        piece = self._stream.readline(_READ)
        self.size += len(piece)
        return piece

    def _read(self, most: int) -> bytes:
        chunk = self._stream.read(most)
        self.size += len(chunk)
        return chunk
