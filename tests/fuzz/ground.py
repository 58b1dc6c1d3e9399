"""What the harnesses stand on: a log that is watched, a sidecar, and a neighbour that must notice nothing.

Everything runs in one process, in no time, on a clock that only the harness moves: an input that was found
does the same when it is replayed.
"""

from __future__ import annotations

import re
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import provider

from sidecar.log import Log
from tests.fuzz.peers import How, Stores, Transport, connect, promise

REST = 2 * 3600.0  # seconds that pass after each input: whatever may lapse has lapsed

_TROUBLE = re.compile(r"Traceback|internal_error|reason=fault|event=(?:crash|twisted|python)")


class Witness:
    """The log of the sidecar and Twisted's own: nothing there may be a fault of ours."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failures: list[str] = []
        self.log = Log(cast(Any, self), program="fuzz", level="debug")

        @provider(ILogObserver)
        def observe(event: dict[str, Any]) -> None:
            if event.get("log_failure") is not None or event.get("log_level") in (
                LogLevel.error,
                LogLevel.critical,
            ):
                failure = event.get("log_failure")
                self.failures.append(failure.getTraceback() if failure else str(event.get("log_format")))

        self._observe = observe
        globalLogPublisher.addObserver(observe)

    def write(self, text: str) -> None:
        self.lines.append(text)

    def flush(self) -> None:
        """A stream has it."""

    def take(self) -> list[str]:
        """The lines since the last time. Raises BrokenPromise when one tells of a fault."""
        lines, self.lines = self.lines, []
        promise(not self.failures, "a failure was logged: " + "\n".join(self.failures[:3]))
        for line in lines:
            promise(line.endswith("\n") and line[:-1].isprintable(), f"no one printable line: {line!r}")
            promise(not _TROUBLE.search(line), f"the log tells of a fault: {line!r}")
        return lines

    def close(self) -> None:
        globalLogPublisher.removeObserver(self._observe)


class Target:
    """One sidecar in memory, a neighbour's connection that stays through all inputs, and what must hold."""

    name = ""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000.0)
        self.witness = Witness()
        self.stores: list[Stores] = []
        self.inputs = 0

    def run(self, data: bytes) -> None:
        """One input. Raises BrokenPromise, or whatever a sidecar let out."""
        self.inputs += 1
        how, said = How.of(data[0] if data else 0), data[1:]
        self.prepare(how)
        self.neighbour_begins()
        self.set_up(nobody=how.other)
        self._set(away=how.away, late=how.late)
        peer = connect(self.factory(how), how.deaf)
        for number, portion in enumerate(how.cut(said)):
            peer.arrive(portion)
            if how.slow and number < 10:
                self.clock.advance(11.0)
        if how.leaves:
            peer.lose()
        self._set(away=how.away, late=False)
        self._let_stores_answer(peer)
        self.check(how, said, bytes(peer.heard))
        self._set(away=False, late=False)
        self.set_up(nobody=False)
        self.neighbour_ends()
        peer.lose()
        self._rest(how)

    def _set(self, *, away: bool, late: bool) -> None:
        for store in self.stores:
            store.is_away, store.is_late = away, late

    def _let_stores_answer(self, peer: Transport) -> None:
        for _ in range(10_000):
            answered = [store.catch_up() for store in self.stores]
            before = len(peer.heard)
            peer.turn()
            if not any(answered) and len(peer.heard) == before:
                return
        promise(False, "the sidecar never comes to rest")

    def _rest(self, how: How) -> None:
        """Time passes, and nothing may be left of the input but its line in the log."""
        for _ in range(8):
            self.clock.advance(REST / 8)
        left = self.connections() - 1
        promise(left == 0, f"{left} connections are left")
        calls = [call for call in self.clock.getDelayedCalls() if not self.is_ours(call)]
        promise(not calls, f"timers are left: {calls[:3]}")
        self.judge_log(how, self.witness.take())

    # What each sidecar says of itself.

    def prepare(self, how: How) -> None:
        """Before an input."""

    def set_up(self, *, nobody: bool) -> None:
        """For the peer's time; `nobody` has anything to be let in for."""

    def factory(self, how: How) -> Any:
        """Whom the peer connects to."""
        raise NotImplementedError

    def connections(self) -> int:
        """How many connections the sidecar holds, the neighbour's included."""
        raise NotImplementedError

    def is_ours(self, call: Any) -> bool:
        """Whether a timer runs for ever, for nobody in particular."""
        return False

    def neighbour_begins(self) -> None:
        """The neighbour starts something."""
        raise NotImplementedError

    def neighbour_ends(self) -> None:
        """And ends it; what it hears is what it always hears."""
        raise NotImplementedError

    def check(self, how: How, said: bytes, heard: bytes) -> None:
        """What the peer heard."""
        raise NotImplementedError

    def judge_log(self, how: How, lines: list[str]) -> None:
        """What the log says of it."""

    def close(self) -> None:
        """Let the log go."""
        self.witness.close()
