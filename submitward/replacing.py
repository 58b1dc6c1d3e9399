"""Replacing files: all of them or none, each complete at every moment, owner, mode and ACL kept.

Knows rename, fsync and how to take a half-done step back. Must not know what the files are for.
Standard library and Python 3.9 only: it goes to hosts with the graft.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Step:
    """One file: the new one, complete and on disk, and a second name of the old one, if there is one."""

    path: Path
    new: Path
    old: Path | None


def replace_files(contents: Mapping[Path, bytes], *, mode: int = 0o644) -> tuple[Path, ...]:
    """Write every file whose content is another one; returns those. `mode` is for files that are not there.

    Raises OSError when one cannot be written, and then all are as they were.
    """
    changed = {path.resolve(): content for path, content in contents.items() if not _holds(path, content)}
    with contextlib.ExitStack() as stack:
        several = len(changed) > 1
        steps = [_prepare(path, content, mode, several, stack) for path, content in changed.items()]
        done: list[_Step] = []
        try:
            for step in steps:
                step.new.replace(step.path)
                done.append(step)
            for directory in {path.parent for path in changed}:
                _sync(directory)
        except OSError:
            _take_back(done)
            raise
    return tuple(path for path in contents if path.resolve() in changed)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False


def _prepare(path: Path, content: bytes, mode: int, several: bool, stack: contextlib.ExitStack) -> _Step:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    new = Path(name)
    stack.callback(new.unlink, missing_ok=True)
    with open(handle, "wb") as file:
        file.write(content)
        file.flush()
        try:
            _take_after(path.stat(), file.fileno(), path)
        except FileNotFoundError:
            os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    old = None
    if several and path.exists():  # one rename needs no way back
        old = new.with_suffix(".old")
        os.link(path, old)
        stack.callback(old.unlink, missing_ok=True)
    return _Step(path, new, old)


def _take_after(status: os.stat_result, handle: int, path: Path) -> None:
    """Give the new file the owner and mode of the old one, and its ACL and the like where that can be."""
    mine = os.fstat(handle)
    if (mine.st_uid, mine.st_gid) != (status.st_uid, status.st_gid):
        try:
            os.fchown(handle, status.st_uid, status.st_gid)
        except PermissionError as wrong:
            raise PermissionError(wrong.errno, "its owner could not be kept", str(path)) from None
    with contextlib.suppress(OSError):
        for name in os.listxattr(path):
            with contextlib.suppress(OSError):
                os.setxattr(handle, name, os.getxattr(path, name))
    os.fchmod(handle, status.st_mode & 0o7777)


def _take_back(done: list[_Step]) -> None:
    for step in done:
        if step.old is not None:
            step.old.replace(step.path)
        else:
            step.path.unlink()


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
