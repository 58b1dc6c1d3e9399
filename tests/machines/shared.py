"""A limit that two relays share, told like the story: what is spent at one cannot be spent at the other.

Run in the mailbox host's network as ``python -m tests.machines.shared DIRECTORY LEADER@ADDRESS LEADER@ADDRESS
LOGIN=PASSWORD…``. Knows alice's limit. Must not know where what she has spent is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.lab import story
from tests.lab.__main__ import tell
from tests.lab.cast import Cast, Line, taken
from tests.lab.evidence import names_limit
from tests.lab.story import LIMIT, many, reset
from tests.machines.relay import Relay

#: relay, recipients, and what the refusal must say was used; 0 when the message must be taken
_STEPS = ((0, 15, 0), (1, 10, 15), (1, 5, 0), (0, 1, 20), (1, 1, 20))


def shared(relays: list[Relay]) -> Iterator[Line]:
    """9. alice's recipients run out at both relays together."""
    reset(relays[0], "alice")  # type: ignore[arg-type]
    for which, count, used in _STEPS:
        with Cast(relays[which]).login("alice") as session:  # type: ignore[arg-type]
            reply = many(session, count)
        what = f"alice to {count} by relay {which + 1}"
        refused = reply.code == 450 and names_limit(reply.text, used, LIMIT)
        yield Line(what, str(reply), refused) if used else taken(what, reply)
    reset(relays[1], "alice")  # type: ignore[arg-type]


def main(directory: str, first: str, second: str, *logins: str) -> int:
    """0 when every line is as expected."""
    story.NOTICED = 2.0
    known = dict(login.split("=", 1) for login in logins)
    pairs = (relay.split("@") for relay in (first, second))
    relays = [Relay(int(leader), Path(directory), known, address) for leader, address in pairs]

    def step(_: object) -> Iterator[Line]:
        return shared(relays)

    step.__doc__ = shared.__doc__
    return 1 if tell(step, relays[0]) else 0  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
