"""A sidecar whose process kills itself right before, or right after, one verb of the ledger.

`python -m tests.redis.killer policyd|milter VERB before|after --settings FILE`
"""

from __future__ import annotations

import importlib
import os
import signal
import sys

SIDECAR, VERB, WHEN = sys.argv[1:4]
SERVICES = {"policyd": "PolicyService", "milter": "MilterService"}


class Deadly:
    """A ledger around which the process dies."""

    def __init__(self, ledger) -> None:
        self._ledger = ledger

    def __getattr__(self, name):
        verb = getattr(self._ledger, name)
        if name != VERB:
            return verb

        def die(*arguments, **named):
            if WHEN == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = verb(*arguments, **named)
            return answer.addBoth(lambda _: os.kill(os.getpid(), signal.SIGKILL))

        return die


def main() -> int:
    from twisted.internet import asyncioreactor

    door = importlib.import_module(f"{SIDECAR}.__main__")
    asyncioreactor.install()
    install, asyncioreactor.install = asyncioreactor.install, lambda: None
    service = importlib.import_module(f"{SIDECAR}.service")
    defaults = getattr(service, SERVICES[SIDECAR]).__init__.__kwdefaults__
    defaults["open_ledger"] = lambda *a, **n: Deadly(service.open_ledger(*a, **n))
    try:
        return door.main(sys.argv[4:])
    finally:
        asyncioreactor.install = install


if __name__ == "__main__":
    sys.exit(main())
