"""These need root, systemd-nspawn and debootstrap, and some minutes: script/test --machines runs them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

collect_ignore_glob = [] if os.environ.get("SUBMITWARD_MACHINES") else ["test_*.py"]

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(scope="session", autouse=True)
def _machines_end_with_the_tests() -> Iterator[None]:
    """Being stopped ends the tests, also where SIGINT is ignored, and not twice while the machines end."""

    def stop(number: int, frame: FrameType | None) -> None:
        for other in _STOPS:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in _STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
