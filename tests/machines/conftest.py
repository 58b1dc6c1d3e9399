"""These need root, systemd-nspawn and debootstrap, and some minutes: script/test --machines runs them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from tests.machines.wheels import make_wheelhouse

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


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The wheels of what stands here by Python's version, made when they are first asked for."""
    made: dict[str, Path] = {}

    def wheels(python: str) -> Path:
        if python not in made:
            made[python] = make_wheelhouse(tmp_path_factory.mktemp("wheels"), python)
        return made[python]

    return wheels
