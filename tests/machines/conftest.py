"""These need root, systemd-nspawn and debootstrap, and some minutes: script/test --machines runs them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

collect_ignore_glob = [] if os.environ.get("SUBMITWARD_MACHINES") else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def _machines_end_with_the_tests() -> Iterator[None]:
    """SIGTERM and a lost terminal end the tests as Ctrl-C does, so that the machines end too."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
