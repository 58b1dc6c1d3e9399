"""The door of a sidecar: arguments, reactor, settings, wiring; then the daemon runs.

Knows in which order these come, and what an exit status means. Must not know what is served: it is imported
once the reactor is there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from sidecar import ending

#: What reads a settings file (raises SettingsError), and what makes a sidecar.daemon.Service of settings.
Parts = tuple[Callable[[str], Any], Callable[..., Any]]


def serve(
    argv: list[str] | None, *, program: str, name: str, description: str, parts: Callable[[], Parts]
) -> int:
    """Serve at the sockets in ``listen.NAME`` until SIGTERM; 0, 1 when it cannot start, 2 for wrong settings.

    `parts` is called once the reactor is installed, and imports what this sidecar is made of.
    """
    ending.leave_at_once()
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--settings", default="/etc/submitward/config.yaml", metavar="FILE")
    path = parser.parse_args(argv).settings

    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # type: ignore[no-untyped-call]
    from twisted.internet import reactor

    from sidecar import daemon
    from sidecar.log import Log
    from sidecar.metrics import Metrics
    from sidecar.settings import SettingsError

    load, open_service = parts()
    try:
        settings = load(path)
    except SettingsError as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 2
    log = Log(sys.stderr, program=program, format=settings.log.format, level=settings.log.level)
    metrics = Metrics()
    service = open_service(settings, reactor=reactor, log=log, metrics=metrics, load=lambda: load(path))
    return daemon.run(
        reactor,
        name=name,
        listeners=getattr(settings.listen, name),
        service=service,
        log=log,
        metrics_address=settings.listen.metrics.get(program, ""),
        metrics=metrics,
    )
