"""How the verbs for events are said to `charge.lua`, and what its answers mean.

Knows the arguments of each, and how an event lies in Redis. Must not know Redis, connections, or what time
it is.
"""

from __future__ import annotations

from ledger.events import Event, read_event, write_event
from ledger.script import Clock, Verb, read, write


def note(event: Event) -> Verb:
    """`charges.Ledger.note_event`. Answered ``0`` or ``1``."""
    at = b"%r" % event.at if event.at else b""
    return b"event_note", write(event.id), write(event.subject), at, write_event(event).encode()


def of(subject: str) -> Verb:
    """`charges.Ledger.events_of`. `read_events` reads the answer."""
    return b"events_of", write(subject)


def find(id: str) -> Verb:
    """The event of an id. `read_events` reads the answer."""
    return b"event_find", write(id)


def after(serial: int, most: int) -> Verb:
    """What was noted after a serial. Answered with the epoch, the last serial, then as
    `read_events` reads it."""
    return b"events_after", b"%d" % serial, b"%d" % most


def read_events(flat: list[bytes], clock: Clock) -> tuple[Event, ...]:
    """The events in id, text, id, text …; moments by the reader's clock."""
    return tuple(_event(read(id), text, clock) for id, text in zip(flat[::2], flat[1::2], strict=True))


def _event(id: str, text: bytes, clock: Clock) -> Event:
    serial, at, size, rest = text.split(b" ", 3)
    subject, body = rest[: int(size)], rest[int(size) :]
    return read_event(id, read(subject), clock.read(at) or 0.0, int(serial), body.decode())
