"""The one that speaks to Redis for this process: what waits together goes out together.

Knows that one call is on the wire at a time, when to dial again, and how answers stay quick while Redis is
away. Must not know Redis' protocol or errors (ledger.redis), nor what a verb means (charge.lua).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from ledger.charges import Unavailable
from ledger.redis import Link, Trouble
from ledger.script import Clock, Verb
from ledger.settings import RedisSettings

BATCH = 64  # verbs in one call
QUEUE = 10_000  # verbs that may wait
POLL = 0.25  # seconds between two looks for what others have changed, and between two attempts to dial
SKEW = 5.0  # seconds that a reader's clock may be off before moments are told by it

AGREED = Clock()

T = TypeVar("T")
Job = tuple[Verb, Callable[[Any, Clock], Any], Deferred[Any]]


class Runner:
    """Runs verbs in the order they come. `look` gives the verb that looks around; `seen` and `away` hear what
    came of it, `troubled` each trouble's label."""

    look: Callable[[], Verb]
    seen: Callable[[list[Any], bool], None]
    away: Callable[[], None]

    def __init__(
        self, settings: RedisSettings, *, reactor: Any, log: Any, clock: Callable[[], float] | None
    ) -> None:
        """`clock` tells the time in place of the server's, for tests."""
        self.troubled: Callable[[str], None] = lambda label: None
        self.trouble = ""
        self.reached = False  # until the first attempt has ended, requests wait
        self._link = Link(settings)
        self._reactor = reactor
        self._log = log
        self._clock = clock
        self._waiting: deque[Job] = deque()
        self._busy = False  # a call is on the wire, or Redis is being dialled
        self._look_due = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped: Deferred[None] | None = None
        self._started = False
        self._said = ""

    def start(self) -> None:
        """Begin to dial, as soon as asyncio's loop runs."""
        if not self._started:
            self._started = True
            self._reactor.callLater(0, self._begin)

    def stop(self) -> Deferred[None]:
        """Run what waits, and let go of the connection."""
        if not self._started:
            return succeed(None)
        if self._stopped is None:
            self._stopped = Deferred()
            self._next()
        waiter: Deferred[None] = Deferred()
        self._stopped.addCallback(lambda _: waiter.callback(None))
        return waiter

    def ask(self, verb: Verb, read: Callable[[Any, Clock], T]) -> Deferred[T]:
        """Hand `verb` in; `read` makes its value of its answer. While Redis is away it fails at once."""
        return fail(Unavailable(self.trouble)) if self.trouble else self.hand(verb, read)

    def hand(self, verb: Verb, read: Callable[[Any, Clock], T]) -> Deferred[T]:
        """Hand `verb` in whatever the state. A Deferred that its owner cancels changes nothing."""
        if not self._started or self._stopped is not None or len(self._waiting) >= QUEUE:
            return fail(Unavailable("the ledger is not running, or too many requests wait for it"))
        answer: Deferred[T] = Deferred()
        self._waiting.append((verb, read, answer))
        if not self._busy:
            self._next()
        return answer

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._look_soon()

    def _look_later(self) -> None:
        self._look_due = False
        if self._loop is not None and self._timer is None:
            self._timer = self._loop.call_later(POLL, self._look_soon)

    def _look_soon(self) -> None:
        self._timer, self._look_due = None, True
        self._next()

    def _next(self) -> None:
        """Begin what is to be done next, unless something is under way: a look around, or one call with all
        that waits. What comes while a call is on the wire shares the next one."""
        if self._busy or self._loop is None:
            return
        if self._stopped is not None and (not self._waiting or self.trouble):
            self._end()
        elif self._look_due:
            self._busy, self._look_due = True, False
            if self._link.is_open:
                self._look(fresh=False)
            else:
                self._dial(lambda: self._look(fresh=True))
        elif self._waiting and not self.trouble:
            self._busy = True
            jobs = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._call(jobs, may_repeat=True)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fail_all()
        self._link.close()
        stopped, self._busy = self._stopped, True  # nothing is begun any more
        if stopped is not None and not stopped.called:
            stopped.callback(None)

    def _dial(self, then: Callable[[], None], jobs: list[Job] | None = None) -> None:
        async def dial() -> None:
            try:
                await self._link.open()
            except Trouble as trouble:
                self._lose(trouble, jobs)
            except Exception as bug:  # noqa: BLE001  every caller would wait for ever
                self._lose(Trouble("internal", repr(bug)), jobs)
            else:
                then()

        self._task = asyncio.ensure_future(dial())

    def _look(self, *, fresh: bool) -> None:
        """See whether Redis serves, and what others have changed."""

        def seen(answers: Any) -> None:
            if isinstance(answers, Trouble):
                self._lose(answers)
                return
            if isinstance(answers[1], bytes):
                self._lose(Trouble("internal", answers[1].decode("utf-8", "replace")))
                return
            news = fresh or not self.reached
            if news:
                self.reached, self.trouble, self._said = True, "", ""
                self._log.notice("ledger", store="redis", state="ok")
            self._look_later()
            self.seen(answers[1], news)
            self._free()

        self._send([self.look()], 1000, seen)

    def _call(self, jobs: list[Job], *, may_repeat: bool) -> None:
        """One call with all these verbs. A lost connection is dialled once more: a repeat costs nothing."""
        if not self._link.is_open:
            self._dial(lambda: self._call(jobs, may_repeat=False), jobs)
            return

        def told(answers: Any) -> None:
            if not isinstance(answers, Trouble):
                self._tell(jobs, answers)
            elif answers.lost and may_repeat:
                self._dial(lambda: self._call(jobs, may_repeat=False), jobs)
            else:
                self._lose(answers, jobs)

        self._send([verb for verb, _, _ in jobs], 2 * len(jobs) + 16, told)

    def _send(self, verbs: list[Verb], sweep: int, told: Callable[[Any], None]) -> None:
        at = b"" if self._clock is None else b"%r" % self._clock()
        words = [word if isinstance(word, bytes) else word() for verb in verbs for word in verb]
        self._link.send([at, b"%d" % sweep, *words], told)

    def _tell(self, jobs: list[Job], answers: list[Any]) -> None:
        wall = time.time() if self._clock is None else self._clock()
        skew = wall - float(answers[0])
        clock = Clock(skew) if abs(skew) > SKEW else AGREED
        for (_, read, deferred), answer in zip(jobs, answers[1:], strict=True):
            self._answer(deferred, read, answer, clock)
        self._free()

    def _free(self) -> None:
        self._busy = False
        self._next()

    def _answer(
        self, deferred: Deferred[Any], read: Callable[[Any, Clock], Any], answer: Any, clock: Clock
    ) -> None:
        if isinstance(answer, bytes) and answer.startswith(b"!"):
            trouble = answer[1:].decode("utf-8", "replace")
            self.troubled(trouble.partition(" ")[0])
            self._log.error("ledger", store="redis", reason=f"a request cannot be kept: {trouble}")
            _fire(deferred, Unavailable(trouble))
            return
        try:
            value = read(answer, clock)
        except (ValueError, LookupError, TypeError) as wrong:
            value = Unavailable(f"Redis answered what is no answer: {wrong!r}")
            self._log.error("ledger", store="redis", reason=str(value))
        _fire(deferred, value)

    def _lose(self, trouble: Trouble, jobs: list[Job] | None = None) -> None:
        """Redis does not serve: all that waits is answered now, and it is tried again every POLL seconds."""
        for _, _, deferred in jobs or ():
            _fire(deferred, Unavailable(str(trouble)))
        self.reached, self.trouble = False, f"Redis: {trouble}"
        self.troubled(trouble.label)
        if self._said != trouble.label:
            self._said = trouble.label
            said = {"label": trouble.label, "reason": str(trouble), "mend": trouble.mend}
            self._log.error("ledger", store="redis", state="unavailable", **said)
        self.away()
        self._fail_all()
        self._look_later()
        self._free()

    def _fail_all(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for _, _, deferred in waiting:
            _fire(deferred, Unavailable(self.trouble or "the ledger is stopped"))


def _fire(deferred: Deferred[Any], answer: Any) -> None:
    if deferred.called:  # its owner has cancelled it
        return
    if isinstance(answer, Unavailable):
        deferred.errback(answer)
    else:
        deferred.callback(answer)
