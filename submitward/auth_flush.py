"""`submitward auth flush`: have every sidecar forget what it remembers of a login.

Knows what may be forgotten. Must not know how it is remembered.
"""

from __future__ import annotations

import argparse
import secrets

from policyd.settings import Settings
from saslauthd import guard
from submitward.bookkeeping import DONE, Answer, answer, author, the_book


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--failures",
        action="store_true",
        help="flush: also forget the wrong passwords that the guard counts for it; only once the directory"
        " has forgotten them too, or it may lock the login",
    )


def flush(options: argparse.Namespace, login: str) -> int:
    """0 done, 2 settings, 75 unavailable."""

    def work(settings: Settings) -> Answer:
        with the_book(settings) as book:
            dropped = guard.forgotten(login) if options.failures else ()
            book.announce(guard.flush(login, secrets.token_hex(4)), dropped)
            why = "failures too" if options.failures else ""
            book.note(author(), "auth flush", f"login:{login}", why)
        line = f"{login}: every sidecar forgets now what it remembers of it, and asks the directory again"
        return Answer(DONE, {"login": login, "failures": options.failures}, (line,))

    return answer(options, work)
