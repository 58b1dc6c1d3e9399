"""`submitward audit`: who changed what, when and why.

Knows how the audit trail is listed. Must not know how it is kept, nor what any action does.
"""

from __future__ import annotations

import argparse

from ledger.charges import Unavailable
from ledger.lookout import Deed, SharedLookout, open_lookout
from policyd.settings import Settings
from submitward.bookkeeping import DONE, UNAVAILABLE, Answer, answer, moment, printable
from submitward.targets import FORMS, argument, at_least_one, parse_target

HELP = "who reset, granted, blocked or lifted what, when and why"
SHOWN = 50
READ = 100_000  # lines of the trail that are looked through for one target


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", nargs="?", type=argument(parse_target), metavar="TARGET", help=FORMS)
    parser.add_argument(
        "--most", type=argument(at_least_one), default=SHOWN, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON array")


def run(options: argparse.Namespace) -> int:
    """0 listed, 2 usage or settings, 75 unavailable."""
    return answer(options, lambda settings: show(settings, options))


def show(settings: Settings, options: argparse.Namespace) -> Answer:
    """The newest changes, the oldest of them first."""
    with open_lookout(settings.ledger) as lookout:
        status, notes, most = DONE, tuple[str, ...](), READ if options.target else options.most
        try:
            deeds = lookout.deeds(most)
        except Unavailable as away:
            if not isinstance(lookout, SharedLookout):
                raise
            deeds, status = lookout.deeds_here(most), UNAVAILABLE
            notes = (f"{away}. This is what was done on this host while Redis was away.",)
    meant = [deed for deed in deeds if options.target in (None, deed.subject)][: options.most][::-1]
    lines = tuple(map(in_words, meant)) or ("nothing was changed",)
    return Answer(status, [deed._asdict() for deed in meant], lines, notes)


def in_words(deed: Deed) -> str:
    """One change on one line."""
    parts = [moment(deed.at), deed.author, deed.action, deed.subject, deed.id]
    why = f"reason: {deed.reason}" if deed.reason else ""
    return printable("  ".join(part for part in (*parts, why) if part))
