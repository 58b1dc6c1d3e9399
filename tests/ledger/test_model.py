"""What the reference ledger alone has to bear: it tells of a change in the very call that makes it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred

from ledger.charges import Amounts, ChargeId, Submission
from ledger.limits import parse_limit
from ledger.model import ModelLedger

LIMIT = parse_limit("10 messages per hour")


def result(asked: Any) -> Any:
    """What a verb answers, which is known at once."""
    done: Deferred[Any] = ensureDeferred(asked)
    found: list[Any] = []
    done.addCallback(found.append)
    return found[0]


def test_whoever_is_told_of_a_lapse_may_ask_at_once() -> None:
    now, told = [0.0], []
    ledger = ModelLedger(lambda: now[0])
    for number, final in ((1, False), (2, True), (3, False)):
        charge = ChargeId("mx1", f"i{number}", f"Q{number}")
        held = (("login:alice", LIMIT, True),)
        result(ledger.reserve(charge, Submission("login:alice", ""), Amounts(1, 1, 1), held, final=final))

    def changed(generation: int, blocks: object) -> None:
        told.append(result(ledger.standing((("login:alice", LIMIT),)))[0].used)

    ledger.watch(changed)
    assert told == [3]
    now[0] = 10_000.0
    assert result(ledger.standing((("login:alice", LIMIT),)))[0].used == 0
    assert told[1:] == [0] * len(told[1:])
