"""What is told aside, after the answer went out: events, and the blocks that follow from them.

Knows patience and bounds: an event is told once by this process, slower and slower while the ledger is away,
and never delays or changes an answer. Must not know verdicts' reasons, nor how events are counted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ledger.charges import Ledger
from ledger.escalation import Escalation, decide, event_of, windows
from ledger.events import Event
from policyd.deadline import within
from policyd.facts import AWAY, Away, Verdict
from policyd.memory import Bounded
from policyd.settlements import ask
from policyd.wire import Request

MOST = 1000  # events that wait; what comes when there are so many is not kept
PATIENCE = 5.0  # seconds for one round
LAST_PATIENCE = 1.0  # seconds for what still waits when the process ends
FIRST_PAUSE, LAST_PAUSE = 0.5, 10.0  # seconds between attempts
AGAIN = 60.0  # seconds after which what goes on is told again, should the ledger have been emptied

_twisted = Logger()
_LOGGED = {"trip": "limit_trip", "warning": "limit_warning", "block": "self_block", "permanent": "self_block"}


class Alarms:
    """Tells events in the order they came. `escalation` and `contact` may be exchanged at any time."""

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        *,
        reactor: Any,
        log: Any,
        count: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`ledger` gives the present one; `count` counts an event by its kind, ``lost`` too."""
        self.escalation = Escalation()
        self.contact = ""
        self._ledger = ledger
        self._reactor = reactor
        self._log = log
        self._count = count
        self._clock = clock
        self._known: Bounded[str, float] = Bounded()  # ids that were told, or wait, since when
        self._waiting: deque[Event] = deque()
        self._pause = FIRST_PAUSE
        self._timer: Any = None
        self._busy = False

    def __len__(self) -> int:
        return len(self._waiting)

    def hear(self, request: Request, verdict: Verdict, mta: str) -> None:
        """Tell what a verdict says to have happened, unless this process has."""
        found = verdict.found
        happened = verdict.warnings if found is None else filter(None, (found.event,))
        for event in happened:
            known = self._known.get(event.id)
            if known is None or (self._reactor.seconds() - known >= AGAIN and not self._waits(event)):
                who = verdict.principal.subject if verdict.principal else ""
                told = replace(event, mta=mta, principal=who)
                self._add(replace(told, instance=request.instance, queue_id=request.queue_id))

    def flush(self) -> Deferred[None]:
        """Try at once to tell everything; fires when that has ended, one way or the other."""
        return within(self._reactor, LAST_PATIENCE, self._deliver())

    def stop(self) -> None:
        """Let go of the timer; what still waits is lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for event in self._waiting:
            self._lose(event)
        self._waiting.clear()

    def _waits(self, event: Event) -> bool:
        return any(one.id == event.id for one in self._waiting)

    def _add(self, event: Event) -> None:
        if len(self._waiting) >= MOST:
            self._count("lost")  # and not known: it is told when it happens again and there is room
            return
        self._known.set(event.id, self._reactor.seconds())
        self._waiting.append(event)
        if not self._busy and self._timer is None:
            self._timer = self._reactor.callLater(0, self._run)

    def _lose(self, event: Event) -> None:
        self._count("lost")
        self._log.warning("event", told="lost", incident=event.id, subject=event.subject)

    def _run(self) -> None:
        self._timer, self._busy = None, True
        self._in_time(self._deliver()).addBoth(self._ended)

    def _ended(self, result: object) -> None:
        self._busy = False
        if isinstance(result, Failure):  # nothing known does this: without the one that did we go on
            _twisted.failure("an event could not be told", result)
            if self._waiting:
                self._lose(self._waiting.popleft())
        if self._waiting and self._timer is None:
            self._timer = self._reactor.callLater(self._pause, self._run)
            self._pause = min(2 * self._pause, LAST_PAUSE)

    async def _deliver(self) -> None:
        while self._waiting:
            event = self._waiting[0]
            if not await self._tell(event):
                return
            self._pause = FIRST_PAUSE
            if self._waiting and self._waiting[0] is event:
                self._waiting.popleft()

    async def _tell(self, event: Event) -> bool:
        """Note an event, and see what follows from it; False while the ledger is away."""
        is_first = await ask(self._ledger().note_event(event))
        if is_first is AWAY:
            return False
        if is_first:
            self._say(event)
        # Not only the first one looks: it may have been killed before it could.
        return event.kind != "trip" or await self._escalate(event)

    async def _escalate(self, trip: Event) -> bool:
        """Set the block that follows from a trip of a principal's own limit; False: the ledger is away."""
        subject, numbers, ledger = trip.subject, self.escalation, self._ledger()
        if not numbers.windows or subject != trip.principal:
            return True
        events = await ask(ledger.events_of(subject))
        if isinstance(events, Away):
            return False
        if len(windows(events, numbers.within)) < numbers.windows:
            return True
        history = await ask(ledger.history())
        if isinstance(history, Away):
            return False
        block = decide(subject, events, history, numbers, self._clock(), self.contact)
        if block is None:
            return True
        if await ask(ledger.block_once(block)) is AWAY:
            return False
        event = event_of(block, trip.mta)  # another host may have been first, or our answer was lost
        if await ask(ledger.note_event(event)) is True:
            self._say(event)
        return True

    def _say(self, event: Event) -> None:
        self._count(event.kind)
        write = self._log.warning if event.kind in ("block", "permanent") else self._log.notice
        write(
            _LOGGED[event.kind],
            incident=event.id,
            subject=event.subject,
            principal=event.principal,
            limit=event.limit,
            used=event.used or None,
            text=event.text,
            instance=event.instance,
            queue_id=event.queue_id,
        )

    def _in_time(self, coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
        return within(self._reactor, PATIENCE, coroutine)
