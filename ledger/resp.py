"""RESP2, the protocol that Redis speaks: commands out, answers in.

Knows bytes, and answers that come in any portions. Must not know connections, nor what is said. Sans-io: the
client library's own parser wants a coroutine and costs more than the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple, Union


class Failed(NamedTuple):
    """An error that Redis answers; its text begins with a word for what it is (``LOADING Redis is …``)."""

    text: str


Answer = Union[bytes, int, Failed, list["Answer"], None]  # noqa: UP007  it names itself


class Pending(Enum):
    """No whole answer yet."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING

_BULK, _LIST, _NUMBER, _PLAIN, _ERROR = b"$*:+-"


def encode(words: Sequence[bytes]) -> bytes:
    """The bytes of a command."""
    return b"*%d\r\n%b" % (len(words), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words]))


class Reader:
    """Bytes in any portions in, whole answers out. Raises ValueError for what is not RESP2, and is of no more
    use then."""

    __slots__ = ("_at", "_buffer", "_open")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._open: list[tuple[int, list[Answer]]] = []  # lists that are not whole: their length, their items

    def __len__(self) -> int:
        """Octets that were fed and not yet taken."""
        return len(self._buffer) - self._at

    def feed(self, data: bytes) -> None:
        """Keep `data` for `take`."""
        self._buffer = self._buffer[self._at :] + data
        self._at = 0

    def take(self) -> Answer | Pending:
        """The next whole answer, PENDING when there is none."""
        while True:
            item = self._item()
            if item is PENDING:
                return PENDING
            if isinstance(item, tuple) and not isinstance(item, Failed):
                self._open.append(item)
                continue
            while self._open:
                size, items = self._open[-1]
                items.append(item)
                if len(items) < size:
                    break
                item = self._open.pop()[1]
            else:
                return item

    def _item(self) -> Answer | Pending | tuple[int, list[Answer]]:
        """The next value; of a list that holds something, its length and the empty list."""
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return PENDING
        kind, text, after = buffer[at], buffer[at + 1 : end], end + 2
        value: Answer | tuple[int, list[Answer]]
        if kind == _BULK:
            size = int(text)
            if size >= 0:
                after += size + 2
                if len(buffer) < after:
                    return PENDING
                value = buffer[after - size - 2 : after - 2]
            else:
                value = None
        elif kind == _LIST:
            size = int(text)
            value = (size, []) if size > 0 else [] if size == 0 else None
        elif kind == _NUMBER:
            value = int(text)
        elif kind == _PLAIN:
            value = text
        elif kind == _ERROR:
            value = Failed(text.decode("utf-8", "replace"))
        else:
            raise ValueError(f"{buffer[at : at + 20]!r} is no answer of Redis")
        self._at = after
        return value
