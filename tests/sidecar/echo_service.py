"""A tiny service behind sidecar.daemon, started as a process by the tests: it answers each line with itself.

A line `slow` is answered after a second, `never` is not answered, `crash` raises, `hang` stops the loop, and
`eat descriptors` leaves none. Settings: a YAML file with version, greeting, listen and log.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import Literal

from sidecar import ending
from sidecar.listen import Listen
from sidecar.log import Log, LogSettings
from sidecar.settings import Secret, SettingsError, digest, load


@dataclass(frozen=True)
class Settings:
    version: Literal[1]
    greeting: str = "echo"
    key: Secret | None = None
    sick: bool = False
    listen: Listen = field(default_factory=Listen)
    log: LogSettings = field(default_factory=LogSettings)


def eat():
    """Every descriptor that is left."""
    while True:
        try:
            yield os.open("/dev/null", os.O_RDONLY)
        except OSError:
            return


def main() -> int:
    ending.leave_at_once()
    from twisted.internet import asyncioreactor

    asyncioreactor.install()
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.protocol import Factory
    from twisted.protocols.basic import LineReceiver

    from sidecar.daemon import run

    path = sys.argv[1]
    try:
        settings = load(path, Settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2

    eaten: list[int] = []

    class Echo(LineReceiver):
        delimiter = b"\n"

        def connectionMade(self):
            if service.settings.greeting == "broken":
                raise RuntimeError("broken greeting")

        def lineReceived(self, line):
            if line == b"crash":
                raise RuntimeError("crash\n<3>forged: event=forged")
            if line == b"hang":
                log.notice("hang")
                time.sleep(30)
            if line == b"never":
                log.notice("never")
                service.busy += 1
                return
            if line == b"eat descriptors":
                eaten.extend(eat())
            if line == b"free descriptors":
                while eaten:
                    os.close(eaten.pop())
            service.busy += 1
            reactor.callLater(1 if line == b"slow" else 0, self.answer, line)

        def answer(self, line):
            service.busy -= 1
            self.sendLine(service.settings.greeting.encode() + b" " + line)
            if service.drained and not service.busy:
                service.drained.callback(None)

    class Service:
        settings = None
        busy = 0
        drained = None

        def factory(self, listener):
            return Factory.forProtocol(Echo)

        def start(self):
            if self.settings.greeting == "crash at start":
                raise RuntimeError(self.settings.greeting)
            log.notice("settings", digest=digest(self.settings))

        def reload(self):
            new = load(path, Settings)
            if new.greeting == "crash on reload":
                raise RuntimeError(new.greeting)
            self.settings = new
            log.notice("settings", digest=digest(self.settings))

        def drain(self):
            self.drained = Deferred()
            if not self.busy:
                return None
            return self.drained

        def healthy(self):
            return not self.settings.sick

        def state(self):
            return "ok" if self.settings.greeting == "echo" else "degraded: odd greeting"

    log = Log(sys.stderr, program="echo", format=settings.log.format, level=settings.log.level)
    service = Service()
    service.settings = settings
    return run(
        reactor,
        name="policy",
        listeners=settings.listen.policy,
        service=service,
        log=log,
        metrics_address=settings.listen.metrics.get("policyd", ""),
    )


if __name__ == "__main__":
    sys.exit(main())
