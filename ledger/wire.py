"""One call at a time on a connection that somebody else has dialled.

Knows that a command goes out in the call that brings it, that its answer belongs to it alone, and how long to
wait for it. Must not know Redis' commands, nor what an answer means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from ledger.resp import PENDING, Answer, Reader, encode


class Silence(Exception):
    """No answer in time, or none any more: `lost` is whether the connection was lost."""

    def __init__(self, text: str, *, lost: bool) -> None:
        super().__init__(text)
        self.lost = lost


Heard = Callable[[Answer | Silence], None]


class Wire(asyncio.Protocol):
    """Takes the protocol's place on `transport`. After a Silence it is of no more use."""

    def __init__(self, transport: Any, patience: float) -> None:
        """`patience` in seconds for each answer."""
        self._transport = transport
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._reader = Reader()
        self._heard: Heard | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_open = True
        transport.set_protocol(self)

    def ask(self, words: Sequence[bytes], heard: Heard) -> None:
        """Send a command; `heard` is called once, and not yet, with the answer to it or with Silence."""
        if self._heard is not None:
            raise RuntimeError("one call at a time")
        self._heard = heard
        self._until = self._loop.time() + self._patience
        if self._timer is None:
            self._timer = self._loop.call_later(self._patience, self._look)
        self._transport.write(encode(words))

    def close(self) -> None:
        """Let go of the connection without waiting; whoever waits hears nothing any more."""
        self.is_open, self._heard = False, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Part of an answer, or the whole. What nobody has asked for ends the connection."""
        self._reader.feed(data)
        try:
            answer = self._reader.take()
        except ValueError as wrong:
            self._end(Silence(str(wrong), lost=True))
            return
        if answer is PENDING:
            return
        heard, self._heard = self._heard, None
        if heard is None or len(self._reader):
            self._heard = heard
            self._end(Silence("an answer to no question", lost=True))
        else:
            heard(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody knows whether what was asked was done."""
        self._end(Silence(f"the connection was lost: {exc or 'it was closed'}", lost=True))

    def _look(self) -> None:
        """One timer for all calls: it is set anew only when it finds that it came too early."""
        self._timer = None
        if self._heard is None:
            return
        left = self._until - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._end(Silence(f"no answer within {self._patience:.0f} s", lost=False))

    def _end(self, silence: Silence) -> None:
        heard = self._heard
        self.close()
        if heard is not None:
            heard(silence)
