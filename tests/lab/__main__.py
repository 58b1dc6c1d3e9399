"""script/demo's lab: sets it up, tells the story line by line, and takes everything down again.

Knows arguments, signals and the exit status. Must not know what is told.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

from tests.lab.cast import Step
from tests.lab.lab import Lab
from tests.lab.processes import LabError
from tests.lab.recovery import killed
from tests.lab.story import (
    blocked,
    hosts,
    incoming,
    limits,
    others_addresses,
    own_addresses,
    strangers,
)

STEPS: tuple[Step, ...] = (
    own_addresses,
    others_addresses,
    strangers,
    limits,
    blocked,
    hosts,
    incoming,
    killed,
)
_TALK = """\
The lab runs; Ctrl-C or SIGTERM ends it. All it takes goes into {sink}/new, one file for each recipient.
  submission   {submission} (STARTTLS), {submissions} (TLS); MX {mx}; what to trust: {ca}
  logins       {logins}
  everything   .lab/lab.json, in {directory}
  to send mail, and to see what it cost:

  {swaks}
  {quota}"""
_SWAKS = (
    "swaks --server {submission} -tls --tls-ca-path {ca} --auth-user alice --auth-password {password} "
    "--from alice@example.org --to friend@elsewhere.example"
)
_QUOTA = ".venv/bin/python -m submitward --settings {settings} quota show alice"


class Stopped(BaseException):
    """SIGTERM, Ctrl-C, a lost terminal, or the end of the leash."""


def main() -> int:
    """Tell the story; 0 only if every line is as expected, 1 if not, 2 when the lab cannot start."""
    options = _parser().parse_args()
    if not 1024 <= options.port_base <= 64000:
        print("the port base is a number from 1024 to 64000", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    if options.leash:
        threading.Thread(target=_hold_leash, daemon=True).start()
    try:
        return _demonstrate(options)
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except Stopped:
        print("demo: stopped; nothing is left running", file=sys.stderr)
        return 143


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/demo", description="Show the relay at work on loopback.")
    parser.add_argument("--keep", action="store_true", help="leave the lab running until Ctrl-C or SIGTERM")
    parser.add_argument(
        "--port-base",
        type=int,
        default=10000,
        metavar="N",
        help="submission on N+587, with TLS on N+465, MX on N+25; default: %(default)s",
    )
    parser.add_argument(
        "--directory",
        choices=("file", "ldap"),
        default="file",
        help="where the principals stand: a YAML file, or a slapd of the lab's own; default: %(default)s",
    )
    parser.add_argument("--leash", action="store_true", help=argparse.SUPPRESS)
    return parser


def _demonstrate(options: argparse.Namespace) -> int:
    say("Setting up the lab: certificates, keys, Postfix, OpenDKIM, the three sidecars")
    with Lab(port_base=options.port_base, directory=options.directory) as lab:
        say(f"Lab in {lab.places.directory}: submission {lab.submission}, TLS {lab.submissions}, MX {lab.mx}")
        wrong = sum(tell(step, lab) for step in STEPS)
        say("Every step went as expected." if not wrong else f"NOT as expected: {wrong} lines, see above.")
        if options.keep:
            with contextlib.suppress(Stopped):
                say(how_to_talk(lab))
                while True:
                    time.sleep(1)
    return 1 if wrong else 0


def tell(step: Step, lab: Lab) -> int:
    """Print a step's lines as they come; returns how many were not as expected."""
    title = (step.__doc__ or "").strip()
    number = title.partition(".")[0]
    say(f"\n{title}")
    wrong = 0
    try:
        for line in step(lab):
            say(f"  [{number}] {line}")
            wrong += not line.good
    except (AssertionError, LabError, OSError) as error:
        say(f"  [{number}] the step broke off: {type(error).__name__}: {error} → NOT as expected")
        return wrong + 1
    return wrong


def say(text: str) -> None:
    print(text, flush=True)


def how_to_talk(lab: Lab) -> str:
    """What is printed while the lab is kept: ports, logins, and commands that can be pasted, one a line."""
    facts = {
        **lab.describe(),
        "directory": lab.places.directory,
        "password": lab.logins["alice"],
        "logins": ", ".join(f"{name} (password {password})" for name, password in lab.logins.items()),
    }
    commands = {"swaks": _SWAKS.format(**facts), "quota": _QUOTA.format(**facts)}
    return _TALK.format(**facts, **commands)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped


def _hold_leash() -> None:
    """Under sudo, script/demo can't signal us: it holds our standard input and lets go of it instead."""
    while os.read(0, 1):  # not through sys.stdin, whose lock would still be held when the program ends
        pass
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
