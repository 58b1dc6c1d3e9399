"""`submitward status`: how the sidecars, their stores and the ledger are, in one look.

Knows what is put together, and when it is well. Must not know how any of it is found out.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict

from ledger.charges import Unavailable
from ledger.events import Event
from ledger.lookout import open_lookout
from policyd.settings import Settings
from submitward import events
from submitward.bookkeeping import DONE, NO, UNAVAILABLE, Answer, answer
from submitward.states import State, ask

HELP = "how the sidecars of this host, their stores and the ledger are"
SIDECARS = ("policyd", "saslauthd", "milter")
LAST = 5  # events that are shown


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """0 all is well, 1 something is degraded, 2 usage or settings, 75 the ledger is unavailable."""
    return answer(options, show)


def show(settings: Settings) -> Answer:
    """Everything, the worst of it as the exit code."""
    sidecars = {name: ask(settings.listen.metrics.get(name, "")) for name in SIDECARS}
    ledger, blocks, last = look(settings)
    is_well = ledger == "ok" and all(one.state in ("ok", "not asked") for one in sidecars.values())
    status = UNAVAILABLE if ledger.startswith("unavailable") else DONE if is_well else NO
    lines = [f"{name:<10} {in_words(one)}" for name, one in sidecars.items()]
    lines.append(f"{'ledger':<10} {settings.ledger.kind} {ledger}")
    lines.append(f"{'blocks':<10} {'not known' if blocks is None else f'{blocks} in force'}")
    lines += [f"{'event':<10} {events.in_words(event)}" for event in last]
    value = {
        "status": {DONE: "ok", NO: "degraded"}.get(status, "unavailable"),
        "sidecars": {name: asdict(one) for name, one in sidecars.items()},
        "ledger": {"kind": settings.ledger.kind, "state": ledger},
        "blocks": blocks,
        "events": [asdict(event) for event in last],
    }
    return Answer(status, value, tuple(lines))


def look(settings: Settings) -> tuple[str, int | None, tuple[Event, ...]]:
    """How the ledger is, how many blocks are in force, and the last events."""
    state, blocks, now = "ok", None, time.time()
    last: tuple[Event, ...] = ()
    with open_lookout(settings.ledger) as lookout:
        try:
            last = events.newest(lookout, lookout.events_after(0, 0).last, LAST, None)
        except Unavailable as away:
            goes_on = settings.ledger.kind == "redis" and settings.ledger.unavailable == "local"
            state = f"{'degraded: this host counts by itself' if goes_on else 'unavailable'}: {away}"
        try:
            stops = (one for one in lookout.history() if not one.block.is_grant)
            blocks = sum(one.lifted is None and one.block.holds(now) for one in stops)
        except Unavailable as away:
            state = f"unavailable: {away}"
    return state, blocks, last


def in_words(state: State) -> str:
    """A sidecar's state and what waits in it."""
    waiting = "".join(f", {name} {number:g}" for name, number in state.numbers.items())
    return f"{state.state}{f' {state.detail}' if state.detail else ''}{waiting}"
