"""saslauthd with a watch on its reactor: a timer is due every 10 ms, and how late it comes is written down.

    python -m bench.lateness FILE THREADS [saslauthd's own arguments]

Knows the door of saslauthd and the reactor. Must not know what is measured meanwhile.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

EVERY = 0.01  # seconds


def samples(file: Path, since: float = 0.0) -> list[float]:
    """Seconds by which the timer was late, sorted; `since` is a time of the boot clock."""
    if not file.exists():
        return []
    pairs = (line.split() for line in file.read_text().splitlines() if line.count(" ") == 1)
    return sorted(float(late) for at, late in pairs if float(at) >= since)


def watch(reactor: Any, file: Path) -> None:
    """Write down the time and the lateness of each tick."""
    out = file.open("w")

    def tick(due: float) -> None:
        now = time.monotonic()
        out.write(f"{now:.4f} {now - due:.6f}\n")
        out.flush()
        reactor.callLater(EVERY, tick, now + EVERY)

    reactor.callWhenRunning(tick, time.monotonic())


def main() -> int:
    """Run saslauthd's door."""
    file, threads, *arguments = sys.argv[1:]
    from saslauthd import __main__ as door
    from sidecar import daemon

    kept = daemon.run

    def run(reactor: Any, **options: Any) -> int:
        watch(reactor, Path(file))
        return kept(reactor, **options)

    daemon.run = run  # the door imports it when it is entered
    if int(threads):
        from directory import ldap_directory

        ldap_directory.own_checker = ldap_directory.ThreadChecker  # type: ignore[assignment,misc]
    return door.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
