"""The reference ledger's events.

Knows what the verbs of `ledger.charges` for events mean. Must not know charges or blocks, a database, or what
time it is: whoever inherits this says so.
"""

from __future__ import annotations

from ledger.events import KEPT, MOST, MOST_OF_ONE, Event, read_event, write_event


class EventsModel:
    """A part of `ledger.model.ModelLedger`, which begins every verb."""

    def __init__(self) -> None:
        super().__init__()
        self._events: dict[str, Event] = {}
        self._noted = 0

    def _begin(self) -> float:
        raise NotImplementedError

    async def note_event(self, event: Event) -> bool:
        now = self._begin()
        if event.id in self._events:
            return False
        self._noted += 1
        kept = read_event(event.id, event.subject, event.at or now, self._noted, write_event(event))
        self._events[event.id] = kept
        if len(self._events) > MOST:
            del self._events[next(iter(self._events))]
        return True

    async def events_of(self, subject: str) -> tuple[Event, ...]:
        since = self._begin() - KEPT
        found = [one for one in self._events.values() if one.subject == subject and one.at > since]
        return tuple(reversed(found[-MOST_OF_ONE:]))
