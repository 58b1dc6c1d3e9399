"""`submitward block`: stop somebody, at once and on connections that are open.

Knows how a block is asked for. Must not know how it is kept or found.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict

from ledger.blocks import EXTENTS, Block
from policyd.settings import Settings
from sidecar.settings import SettingsError, duration
from submitward.bookkeeping import DONE, Answer, Refused, answer, author, moment, the_book
from submitward.listing import read, unlisted
from submitward.scoping import at_home
from submitward.targets import FORMS, argument, parse_target, plain

HELP = "stop a principal, a domain or the whole relay from sending"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", type=argument(parse_target), metavar="TARGET", help=FORMS)
    parser.add_argument(
        "--extent",
        choices=EXTENTS,
        default="sending",
        help="sending (default): mail is refused with the contact text; login: AUTH fails too",
    )
    parser.add_argument(
        "--for", dest="span", type=argument(duration), metavar="TIME", help='such as "2 h"; default: for good'
    )
    parser.add_argument("--reason", type=argument(plain), default="", help="why, for operators only")
    parser.add_argument(
        "--contact", type=argument(plain), default="", help="what the blocked sender may read"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """0 blocked, 2 usage or settings, 75 unavailable."""
    return answer(options, lambda settings: keep(settings, options))


def keep(settings: Settings, options: argparse.Namespace) -> Answer:
    """Keep the block; running sidecars learn of it within 250 ms."""
    kind = options.target.partition(":")[0]
    if options.extent == "login" and kind in ("certificate", "network"):
        raise Refused(f"a {kind} has no AUTH to fail: leave --extent login away")
    if options.span is not None and options.span <= 0:
        raise Refused("--for needs more than nothing")
    now = time.time()
    end = None if options.span is None else now + options.span
    subject, alias = at_home(settings, options.target)
    wanted = Block("", subject, options.extent, author(), options.reason, options.contact, now, end)
    with the_book(settings) as book:
        kept = book.block(wanted)
    line = f"{kept.subject}: blocked ({kept.extent}) {until(kept)}, id {kept.id}"
    note = missing(settings, kept.subject)  # the block comes first: it is urgent, and looking may fail
    value = asdict(kept)
    del value["terms"]  # of grants only
    notes = ((alias,) if alias else ()) + ((f"{note}; the block holds all the same",) if note else ())
    return Answer(DONE, value, (line,), notes)


def missing(settings: Settings, subject: str) -> str:
    """What to tell when the directory has nobody whom a block of `subject` stops, ``""`` if it has. Networks
    and the relay need no entry."""
    if subject == "relay" or subject.startswith("network:"):
        return ""
    try:
        return unlisted(read(settings, subject), subject)
    except (SettingsError, Refused) as wrong:
        return f"whether the directory lists {subject} cannot be known: {wrong}"


def until(block: Block) -> str:
    """``until 2026-11-21 14:05:00 +0100`` or ``for good``."""
    return "for good" if block.end is None else f"until {moment(block.end)}"
