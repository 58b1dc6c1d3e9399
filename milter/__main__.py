"""The door of milter: arguments, reactor, settings, wiring; then the daemon runs.

Knows what is plugged into what. Must not know what any of it does.
"""

from __future__ import annotations

import argparse
import sys

from sidecar import ending


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM; returns 0, 1 when it cannot start, 2 when the settings are wrong."""
    ending.leave_at_once()
    parser = argparse.ArgumentParser(
        prog="milter", description="Checks the visible author of submitted messages."
    )
    parser.add_argument("--settings", default="/etc/submitward/config.yaml", metavar="FILE")
    options = parser.parse_args(argv)

    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # type: ignore[no-untyped-call]
    from twisted.internet import reactor

    from milter.service import MilterService
    from milter.settings import load_settings
    from sidecar import daemon
    from sidecar.log import Log
    from sidecar.metrics import Metrics
    from sidecar.settings import SettingsError

    try:
        settings = load_settings(options.settings)
    except SettingsError as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 2
    log = Log(sys.stderr, program="milter", format=settings.log.format, level=settings.log.level)
    metrics = Metrics()
    service = MilterService(
        settings, reactor=reactor, log=log, metrics=metrics, load=lambda: load_settings(options.settings)
    )
    return daemon.run(
        reactor,
        name="milter",
        listeners=settings.listen.milter,
        service=service,
        log=log,
        metrics_address=settings.listen.metrics.get("milter", ""),
        metrics=metrics,
    )


if __name__ == "__main__":
    sys.exit(main())
