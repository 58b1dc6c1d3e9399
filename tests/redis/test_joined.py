"""What waits together goes out together, and a lone verb in the call that brings it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from ledger import runner
from ledger.charges import Admitted, Amounts, ChargeId, Submission
from ledger.limits import parse_limit
from ledger.settings import LedgerSettings, RedisSettings
from ledger.shared import SharedLedger
from ledger.sqlite import SqliteLedger
from tests.ledger.stores import Lines
from tests.redis.server import Server

LIMITS = (("login:alice", parse_limit("25 recipients per hour"), True),)
ALICE = Submission("login:alice", "alice@example.org")


def calls(server: Server) -> int:
    """How often a script was run there."""
    told = re.search(r"cmdstat_evalsha:calls=(\d+)", server.ask("INFO", "commandstats"))
    return int(told[1]) if told else 0


@pytest_twisted.ensureDeferred
async def test_what_comes_while_a_call_is_on_the_wire_shares_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "POLL", 3600.0)  # no looking around in between
    server = Server().start()
    settings = LedgerSettings("redis", redis=RedisSettings(server.url))
    file = SqliteLedger(tmp_path / "ledger.sqlite", reactor=reactor, log=Lines())
    ledger = SharedLedger(settings, local=file, reactor=reactor, log=Lines())
    ledger.start()
    try:
        await ledger.blocks()
        before = -1
        while (now := calls(server)) != before:  # until it has compared the blocks
            before = now
            await deferLater(reactor, 0.5)
        charges = [ChargeId("mx1", f"i{n}", f"Q{n}") for n in range(40)]
        asked = [ledger.reserve(charge, ALICE, Amounts(1, 1, 0), LIMITS) for charge in charges]
        assert calls(server) == before + 1, "the first is there before anybody has waited"
        outcomes = await gatherResults(asked)
        assert [isinstance(outcome, Admitted) for outcome in outcomes] == [True] * 25 + [False] * 15
        assert calls(server) == before + 2, "all others are one call"
    finally:
        await ledger.stop()
        server.remove()
