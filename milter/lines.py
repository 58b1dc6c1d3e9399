"""Lines of a message that are longer than mail may have them (RFC 5322 2.1.1).

Knows how to count octets across chunks. Must not know what follows from a long line. Postfix's SMTP client
folds what is over smtp_line_length_limit, after the message was signed, and the signature no longer holds.
"""

from __future__ import annotations

LINE_MAX = 998  # octets, the line end not counted


class Lines:
    """Feed it the body as the MTA sends it: CRLF line ends, cut anywhere. Holds one number."""

    __slots__ = ("_open", "is_long")

    def __init__(self) -> None:
        self._open = 0
        self.is_long = False

    def feed(self, chunk: bytes) -> None:
        """Take a chunk in; `is_long` tells whether any line so far is too long."""
        if self.is_long:
            return
        if b"\n" not in chunk:
            self._open += len(chunk)
        else:
            first, *others = chunk.split(b"\n")
            self._open += len(first)
            # The CR of a line's end is still counted here. The last piece is no whole line yet.
            self.is_long = self._open > LINE_MAX + 1 or any(len(line) > LINE_MAX + 1 for line in others)
            self._open = len(others[-1])
        self.is_long = self.is_long or self._open > LINE_MAX + 1


def is_long_field(name: bytes, value: bytes) -> bool:
    """Whether a field, folded with LF, holds a line that is too long; the name and its colon count."""
    if len(name) + 1 + len(value) <= LINE_MAX:
        return False
    first, *others = value.split(b"\n")
    return len(name) + 1 + len(first) > LINE_MAX or any(len(line) > LINE_MAX for line in others)
