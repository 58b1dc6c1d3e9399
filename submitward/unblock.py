"""`submitward unblock`: lift blocks, by whom they stop or by their id.

Knows which blocks are meant. Must not know how they are kept.
"""

from __future__ import annotations

import argparse

from policyd.settings import Settings
from submitward.bookkeeping import DONE, NO, Answer, Refused, answer, author, the_book
from submitward.scoping import at_home
from submitward.targets import FORMS, argument, parse_target, plain

HELP = "lift every block of a target, or one block by its id"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", type=argument(parse_target), nargs="?", metavar="TARGET", help=FORMS)
    parser.add_argument("--id", metavar="ID", help="one block, as `submitward blocks` lists it")
    parser.add_argument("--reason", type=argument(plain), default="", help="why, for the audit trail")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """0 lifted, 1 there was none, 2 usage or settings, 75 unavailable."""
    return answer(options, lambda settings: lift(settings, options))


def lift(settings: Settings, options: argparse.Namespace) -> Answer:
    """Lift what is meant; running sidecars learn of it within 250 ms."""
    if (options.target is None) == (options.id is None):
        raise Refused("give either a TARGET or --id ID")
    target = None if options.target is None else at_home(settings, options.target)[0]
    with the_book(settings) as book:
        meant = [
            block.id
            for block in book.register.current()
            if not block.is_grant
            and (options.id == block.id or (options.id is None and block.subject in (target, options.target)))
        ]
        lifted = [block_id for block_id in meant if book.lift(block_id, author(), options.reason)]
    what = options.target or f"block {options.id}"
    words = f"lifted {', '.join(lifted)}" if lifted else "there is no block to lift"
    value = {"target": options.target, "id": options.id, "lifted": lifted}
    return Answer(DONE if lifted else NO, value, (f"{what}: {words}",))
