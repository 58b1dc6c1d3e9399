"""The file in which the keys' lives are kept, one process at a time.

Knows JSON, locks and atomic writing. Must not know what a stage means. A file that cannot be read is never
written over.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from submitward.dkim.rotation import KeyState, Stage
from submitward.replacing import replace_files

NAME, LOCK = "rotation.json", ".rotation.lock"
Lives = dict[str, list[KeyState]]  # domain → its keys, the oldest first


class Busy(Exception):
    """Another process is at work on the keys."""


class BadState(ValueError):
    """The file says something that we did not write; str() names the file."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep all others out. Raises Busy at once when one is there, and OSError."""
    handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another submitward dkim is at work in {directory}: try again") from None
        yield
    finally:
        os.close(handle)


def read(directory: Path) -> Lives:
    """What is kept; nothing when there is no file. Raises BadState, or OSError."""
    path = directory / NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        value = json.loads(text)
        if value["version"] != 1:
            raise ValueError("of another version")
        return {domain: [_key(item) for item in keys] for domain, keys in value["domains"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as wrong:
        raise BadState(f"{path}: is not what was written there ({wrong}); restore it from a backup") from None


def _key(item: Any) -> KeyState:
    key = KeyState(**item)
    good = key.stage in get_args(Stage) and isinstance(key.since, int | float) and isinstance(key.ttl, int)
    if not (good and isinstance(key.selector, str) and isinstance(key.path, str)):
        raise ValueError(f"a key {item}")
    return key


def write(directory: Path, lives: Lives) -> None:
    """Keep it: complete on disk, or as it was. Raises OSError."""
    domains = {domain: [asdict(key) for key in keys] for domain, keys in sorted(lives.items())}
    text = json.dumps({"version": 1, "domains": domains}, indent=1) + "\n"
    replace_files({directory / NAME: text.encode("ascii")})
