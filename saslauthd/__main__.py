"""The door of saslauthd: what it is called, where it listens, and what it is made of.

Knows its names and parts. Must not know what any of them does.
"""

from __future__ import annotations

import sys

from sidecar import door


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM; returns 0, 1 when it cannot start, 2 when the settings are wrong."""
    return door.serve(
        argv,
        program="saslauthd",
        name="auth",
        description="Answers Postfix's questions about logins.",
        parts=_parts,
    )


def _parts() -> door.Parts:
    from saslauthd.service import AuthService
    from saslauthd.settings import load_settings

    return load_settings, AuthService


if __name__ == "__main__":
    sys.exit(main())
