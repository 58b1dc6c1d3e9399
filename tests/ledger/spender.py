"""A child process that spends: reserves and settles as fast as it can, and prints what it was told.

`python -m tests.ledger.spender FILE NAME COUNT [REDIS PREFIX]` — one line per answered message on standard
output, written only once the ledger has answered. NAME is the MTA's too.
"""

from __future__ import annotations

import sys

from twisted.internet import asyncioreactor

LIMIT = "2000 recipients per day"


def main(path: str, name: str, count: int, redis: str = "", prefix: str = "") -> None:
    asyncioreactor.install()
    from pathlib import Path

    from twisted.internet import defer, reactor

    from ledger.charges import Admitted, Amounts, ChargeId, Submission
    from ledger.limits import parse_limit
    from ledger.settings import LedgerSettings, RedisSettings
    from ledger.shared import SharedLedger
    from ledger.sqlite import SqliteLedger
    from tests.ledger.stores import Lines

    ledger = file = SqliteLedger(Path(path), reactor=reactor, log=Lines())
    if redis:
        settings = LedgerSettings("redis", redis=RedisSettings(redis, prefix=prefix))
        ledger = SharedLedger(settings, local=file, reactor=reactor, log=Lines())
    limits = (("relay", parse_limit(LIMIT), True),)
    numbers = iter(range(count))

    async def lane() -> None:
        for number in numbers:
            charge = ChargeId(name, f"{name}{number}", f"{name}{number}")
            got = await ledger.reserve(charge, Submission("relay", ""), Amounts(1, 1, 0), limits)
            if not isinstance(got, Admitted):
                print("refused", flush=True)
                continue
            await ledger.settle(charge, Amounts(1, 1, 0))
            print("settled", charge.queue_id, flush=True)

    async def spend() -> None:
        print("ready", flush=True)
        sys.stdin.readline()
        ledger.start()
        await defer.gatherResults([defer.ensureDeferred(lane()) for _ in range(8)])
        await ledger.stop()
        reactor.stop()

    reactor.callWhenRunning(lambda: defer.ensureDeferred(spend()))
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
