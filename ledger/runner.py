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
        self._wake: asyncio.Future[None] | None = None
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
            self._rouse()
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
        self._rouse()
        return answer

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._serve())

    async def _serve(self) -> None:
        """The only one that speaks to Redis: dials, makes the calls, looks around."""
        loop = asyncio.get_running_loop()
        next_look = 0.0
        while self._stopped is None or (self._waiting and not self.trouble):
            try:
                if loop.time() >= next_look:
                    await self._look()
                    next_look = loop.time() + POLL
                if self._waiting:
                    await self._call([self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))])
                    continue
            except Trouble as trouble:
                self._lose(trouble)
                next_look = loop.time() + POLL
            if self._stopped is None:
                await self._sleep(loop, next_look)
        self._fail_all()
        self._link.close()
        stopped = self._stopped
        stopped.callback(None)

    async def _sleep(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        self._wake = loop.create_future()
        timer = loop.call_at(until, self._rouse)
        try:
            await self._wake
        finally:
            timer.cancel()

    async def _look(self) -> None:
        """See whether Redis serves, and what others have changed."""
        fresh = not self._link.is_open
        if fresh:
            await self._link.open()
        answers = await self._run([self.look()], sweep=1000)
        if not self.reached:
            self.reached, self.trouble, self._said, fresh = True, "", "", True
            self._log.notice("ledger", store="redis", state="ok")
        self.seen(answers[1], fresh)

    async def _call(self, jobs: list[Job]) -> None:
        """One call with all these verbs. A lost connection is dialled once more: a repeat costs nothing."""
        verbs = [verb for verb, _, _ in jobs]
        sweep = 2 * len(jobs) + 16
        try:
            try:
                answers = await self._run(verbs, sweep)
            except Trouble as trouble:
                if not trouble.lost:
                    raise
                await self._link.open()
                answers = await self._run(verbs, sweep)
        except Trouble as trouble:
            for _, _, deferred in jobs:
                _fire(deferred, Unavailable(str(trouble)))
            raise
        wall = time.time() if self._clock is None else self._clock()
        skew = wall - float(answers[0])
        clock = Clock(skew if abs(skew) > SKEW else 0.0)
        for (_, read, deferred), answer in zip(jobs, answers[1:], strict=True):
            self._answer(deferred, read, answer, clock)

    async def _run(self, verbs: list[Verb], sweep: int) -> list[Any]:
        at = b"" if self._clock is None else b"%r" % self._clock()
        if not self._link.is_open:
            await self._link.open()
        words = (word if isinstance(word, bytes) else word() for verb in verbs for word in verb)
        return await self._link.run([at, b"%d" % sweep, *words])

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

    def _lose(self, trouble: Trouble) -> None:
        """Redis does not serve: all that waits is answered now, and it is tried again every POLL seconds."""
        self.reached, self.trouble = False, f"Redis: {trouble}"
        self.troubled(trouble.label)
        if self._said != trouble.label:
            self._said = trouble.label
            said = {"label": trouble.label, "reason": str(trouble), "mend": trouble.mend}
            self._log.error("ledger", store="redis", state="unavailable", **said)
        self.away()
        self._fail_all()

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
