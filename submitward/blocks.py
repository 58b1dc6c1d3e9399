"""`submitward blocks`: who is stopped, by whom, why and until when.

Knows how blocks are listed. Must not know how they are kept.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict

from ledger.tombstones import Tombstone
from policyd.settings import Settings
from submitward.block import until
from submitward.bookkeeping import DONE, Answer, answer, moment, the_book

HELP = "list who is blocked"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--all", action="store_true", help="ended and lifted blocks too")
    parser.add_argument("--json", action="store_true", help="print one JSON array")


def run(options: argparse.Namespace) -> int:
    """0 listed, 2 usage or settings, 75 unavailable."""
    return answer(options, lambda settings: show(settings, options))


def show(settings: Settings, options: argparse.Namespace) -> Answer:
    """The blocks, oldest first."""
    now = time.time()
    with the_book(settings) as book:
        history = book.register.history()
    stops = (one for one in history if not one.block.is_grant)
    listed = [one for one in stops if options.all or state(one, now) == "in force"]
    lines = tuple(in_words(one, now) for one in listed) or ("no blocks",)
    return Answer(DONE, [in_json(one, now) for one in listed], lines)


def in_json(one: Tombstone, now: float) -> dict[str, object]:
    """One block for programs; moments are epoch seconds."""
    end = {"lifted": one.lifted, "lifted_by": one.lifted_by, "lifted_why": one.lifted_why}
    value = asdict(one.block)
    del value["terms"]  # of grants only
    return value | {"state": state(one, now)} | end


def state(one: Tombstone, now: float) -> str:
    """``in force``, ``lifted``, ``ended`` or ``to come``."""
    if one.lifted is not None:
        return "lifted"
    if one.block.holds(now):
        return "in force"
    return "to come" if now < one.block.start else "ended"


def in_words(one: Tombstone, now: float) -> str:
    """One block on one line."""
    block = one.block
    parts = [f"{block.id}  {block.subject}  {block.extent}  {state(one, now)}  {until(block)}"]
    parts.append(f"since {moment(block.start)} by {block.author}")
    parts += [
        f"{name}: {text}" for name, text in (("reason", block.reason), ("contact", block.contact)) if text
    ]
    if one.lifted is not None:
        why = f": {one.lifted_why}" if one.lifted_why else ""
        parts.append(f"lifted {moment(one.lifted)} by {one.lifted_by}{why}")
    return "  ".join(parts)
