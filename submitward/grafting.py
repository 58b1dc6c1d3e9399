"""`submitward graft`: sets Submitward into the Postfix of this host, and takes it out again.

Knows arguments and how a plan is shown. Must not know what a plan puts where.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path

from submitward.graft.applying import BACKUPS, carry_out, owed
from submitward.graft.files import Refused
from submitward.graft.host import SOCKETS, Planner, try_out
from submitward.graft.plan import plan, remove
from submitward.graft.texts import shown
from submitward.graft.wish import Wish

HELP = "plug Submitward into the Postfix of this host, or take it out"
DONE, REFUSED = 0, 1


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("verb", choices=["plan", "apply", "remove"], help="plan shows, and changes nothing")
    parser.add_argument("--postfix", type=Path, default=Path("/etc/postfix"), metavar="DIR")
    parser.add_argument("--backups", type=Path, default=BACKUPS, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--sockets", type=Path, default=SOCKETS, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--service", action="append", default=[], metavar="submission/inet")
    parser.add_argument("--own", action="append", default=[], metavar="submission", help="make this service")
    parser.add_argument("--own-tls", action="append", default=[], metavar="submissions")
    parser.add_argument("--hosts", action="store_true", help="certificates and networks may relay")
    parser.add_argument("--observe", action="store_true", help="take nothing from a service: all mail passes")
    parser.add_argument("--mx", action="store_true", help="ask the policy on the MX port too")
    parser.add_argument("--signer", default="", metavar="unix:opendkim/opendkim.sock")
    for part in ("policy", "authentication", "milter"):
        parser.add_argument(f"--no-{part}", dest=part, action="store_false")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def wish_of(options: argparse.Namespace) -> Wish:
    """What the arguments ask for."""
    return Wish(
        services=tuple(options.service),
        own=(*options.own, *options.own_tls),
        wrapped=tuple(options.own_tls),
        policy=options.policy,
        authentication=options.authentication,
        milter=options.milter,
        hosts=options.hosts,
        observe=options.observe,
        mx=options.mx,
        signer=options.signer,
    )


def run(options: argparse.Namespace) -> int:
    """0 done or nothing to do, 1 refused: then nothing has been changed."""
    planner: Planner = remove if options.verb == "remove" else functools.partial(plan, wish=wish_of(options))
    try:
        outcome = try_out(options.postfix, planner, options.sockets)
        late = owed(outcome, options.backups)
        kept = None if options.verb == "plan" else carry_out(outcome, options.backups)
    except Refused as refused:
        print(shown(str(refused)), file=sys.stderr)
        return REFUSED
    told: dict[str, object] = {
        "changed": list(outcome.changed),
        "difference": shown(outcome.difference),
        "notes": [*map(shown, outcome.notes), *late],
        "backup": str(kept or ""),
    }
    print(json.dumps(told, indent=1) if options.json else _text(told))
    return DONE


def _text(told: dict[str, object]) -> str:
    lines = [str(told["difference"]).rstrip("\n") or "nothing to change"]
    notes = told["notes"]
    lines += [f"note: {note}" for note in notes] if isinstance(notes, list) else []
    lines += [f"the files as they were: {told['backup']}"] if told["backup"] else []
    return "\n".join(lines)
