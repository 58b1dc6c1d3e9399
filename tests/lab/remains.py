"""What a lab leaves on the machine, and how none of it stays: directories, locks, announcements, signals.

Knows how a lab that was killed is told from one that runs. Must not know what a lab is made of.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tests.lab.processes import sweep

CLONE = Path(__file__).resolve().parent.parent.parent
ROOM = Path("/var/tmp")
PREFIX = "submitward-lab."
_KEPT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE")


def environment() -> dict[str, str]:
    """The environment of everything that a lab starts: nothing of ours but the packages of this clone."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = kept.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin"
    quiet = {"PYTHONDONTWRITEBYTECODE": "1"} if "SUDO_UID" in os.environ else {}
    return {**kept, "PATH": path.lstrip(":"), "PYTHONPATH": str(CLONE), **quiet}


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside it SIGTERM, Ctrl-C and a lost terminal change nothing."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hold(directory: Path) -> TextIO:
    """Lock a lab's directory for as long as the returned file is open, so for as long as this process
    lives."""
    lock = (directory / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def remove(directory: Path) -> None:
    """End what still runs there and remove it."""
    sweep(directory)
    shutil.rmtree(directory)


def clear_stale() -> list[Path]:
    """Remove every lab whose process is gone (killed -9): its processes would hold the ports. Returns
    which."""
    stale = [directory for directory in ROOM.glob(f"{PREFIX}*") if _is_abandoned(directory)]
    for directory in stale:
        remove(directory)
    return stale


def _is_abandoned(directory: Path) -> bool:
    try:
        with (directory / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked by a lab that runs, or no lock: not a lab, or one that is just beginning
        return False
    return True
