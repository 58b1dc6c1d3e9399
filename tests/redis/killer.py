"""policyd whose process kills itself right before, or right after, one verb of the ledger.

`python -m tests.redis.killer VERB before|after --settings FILE`
"""

from __future__ import annotations

import os
import signal
import sys

VERB, WHEN = sys.argv[1:3]


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

    from policyd import __main__ as door

    asyncioreactor.install()
    install, asyncioreactor.install = asyncioreactor.install, lambda: None
    from policyd.service import PolicyService, open_ledger

    PolicyService.__init__.__kwdefaults__["open_ledger"] = lambda *a, **n: Deadly(open_ledger(*a, **n))
    try:
        return door.main(sys.argv[3:])
    finally:
        asyncioreactor.install = install


if __name__ == "__main__":
    sys.exit(main())
