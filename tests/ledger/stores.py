"""What the contract needs of a store under test: a way to make one, and a clock that the test turns."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor

from ledger.charges import Ledger
from ledger.clock import HostClock
from ledger.model import ModelLedger
from ledger.settings import LedgerSettings, RedisSettings
from ledger.shared import SharedLedger
from ledger.sqlite import SqliteLedger
from tests.redis.server import running

START = 1_800_000_000.0 + 17.0


class TestClock(HostClock):
    """A host's two clocks, turned by hand."""

    __test__ = False

    def __init__(self) -> None:
        super().__init__(adopt=True)
        self.now = START
        self.ticks = 1000.0

    def wall(self) -> float:
        return self.now

    def uptime(self) -> float:
        return self.ticks

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.ticks += seconds

    def set(self, now: float) -> None:
        """The wall clock is set, and the sidecar started again: the boot clock's shift is another."""
        self.now = now
        self.booted = f"{self.booted}'"

    def jump(self, seconds: float) -> None:
        """The wall clock is set while the sidecar runs."""
        self.now += seconds


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def __getattr__(self, level: str):
        def write(event: str, **fields: object) -> None:
            self.lines.append((level, event, fields))

        return write

    def text(self) -> str:
        return "\n".join(f"{level} {event} {fields}" for level, event, fields in self.lines)


def model(clock: TestClock, directory: Path) -> Ledger:
    return ModelLedger(clock.wall)


def sqlite(clock: TestClock, directory: Path) -> Ledger:
    return SqliteLedger(directory / "ledger.sqlite", reactor=reactor, log=Lines(), clock=clock)


def redis(clock: TestClock, directory: Path) -> Ledger:
    server = running()
    settings = LedgerSettings("redis", redis=RedisSettings(f"unix://{server.socket}", prefix=server.prefix()))
    local = sqlite(clock, directory)
    return SharedLedger(settings, local=local, reactor=reactor, log=Lines(), clock=clock.wall)


#: A store joins the contract by one line here.
STORES = {"model": model, "sqlite": sqlite, "redis": redis}
