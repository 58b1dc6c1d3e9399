"""The door of saslauthd: settings in, reactor installed, service handed to the daemon.

Knows the command line and the reactor. Must not know anything else.
"""

from __future__ import annotations

import argparse
import sys

from sidecar import ending


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM. Returns 0, 1 when it could not start, 2 for wrong settings."""
    ending.leave_at_once()

    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # type: ignore[no-untyped-call]
    from twisted.internet import reactor

    from saslauthd.service import AuthService
    from saslauthd.settings import load_settings
    from sidecar.daemon import run
    from sidecar.log import Log
    from sidecar.metrics import Metrics
    from sidecar.settings import SettingsError

    parser = argparse.ArgumentParser(
        prog="saslauthd", description="Answers Postfix's questions about logins."
    )
    parser.add_argument("--settings", default="/etc/submitward/config.yaml", metavar="FILE")
    path = parser.parse_args(argv).settings
    try:
        settings = load_settings(path)
    except SettingsError as wrong:
        print(wrong, file=sys.stderr)  # noqa: T201
        return 2
    log = Log(sys.stderr, program="saslauthd", format=settings.log.format, level=settings.log.level)
    metrics = Metrics()
    service = AuthService(reactor, settings, lambda: load_settings(path), log=log, metrics=metrics)
    return run(
        reactor,
        name="auth",
        listeners=settings.listen.auth,
        service=service,
        log=log,
        metrics_address=settings.listen.metrics.get("saslauthd", ""),
        metrics=metrics,
    )


if __name__ == "__main__":
    sys.exit(main())
