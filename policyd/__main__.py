"""The door of policyd: what it is called, where it listens, and what it is made of.

Knows its names and parts. Must not know what any of them does.
"""

from __future__ import annotations

import sys

from sidecar import door


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM; returns 0, 1 when it cannot start, 2 when the settings are wrong."""
    return door.serve(
        argv,
        program="policyd",
        name="policy",
        description="Answers Postfix's policy requests.",
        parts=_parts,
    )


def _parts() -> door.Parts:
    from policyd.service import PolicyService
    from policyd.settings import load_settings

    return load_settings, PolicyService


if __name__ == "__main__":
    sys.exit(main())
