"""One lab for all real-MTA tests of a session, on ports of its own: a running demo is not in the way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from socket import AF_UNIX, socket
from types import FrameType

import pytest

from tests.lab import Lab
from tests.lab.cast import Cast
from tests.lab.lab import PORTS
from tests.lab.processes import is_free
from tests.lab.story import reset

#: The bases that this process holds, each by a name that goes with the process (unix(7), abstract).
_HELD: set[int] = set()


def free_port_base(start: int = 20000) -> int:
    """A port base whose three ports are free now, and which no other run gets while this one lasts.

    Postfix listens with SO_REUSEPORT: two that came by the same base would share the clients.
    """
    bases = (base for base in range(start, 60000, 1000) if _is_ours(base))
    return next(base for base in bases if all(is_free("127.0.0.1", base + port) for port in PORTS.values()))


def _is_ours(base: int) -> bool:
    if base not in _HELD:
        name = socket(AF_UNIX)
        try:
            name.bind(f"\0submitward-tests-{base}")
        except OSError:
            name.close()
            return False
        name.detach()  # it stays open for as long as this process lasts
        _HELD.add(base)
    return True


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    announce: Path = tmp_path_factory.mktemp("announced") / ".lab"
    try:
        with Lab(port_base=free_port_base(), announce=announce) as running:
            yield running
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def cast(lab: Lab) -> Cast:
    """The story's people, alice having spent nothing."""
    reset(lab, "alice")
    return Cast(lab)
