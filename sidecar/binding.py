"""Binding: opens listening sockets without taking a live one from anybody.

Knows socket files, their locks, modes and groups. Must not know settings, nor who will serve the socket.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat
import time
from collections.abc import Iterator

from sidecar.endpoints import IPAddress

BACKLOG = 4096  # a UNIX connect fails at once when the queue is full, and many smtpd start at once
LOCK_WAIT = 5.0  # seconds for another start in the same directory to finish


class ListenError(Exception):
    """A listener cannot be opened; str() says which, why, and what to do."""


def bind_tcp(host: IPAddress, port: int) -> socket.socket:
    """A listening TCP socket. An IPv6 one takes no IPv4 peers. Raises OSError."""
    family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
    with contextlib.ExitStack() as undo:
        bound = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((str(host), port))
        bound.listen(BACKLOG)
        undo.pop_all()
        return bound


def bind_unix(path: str, mode: int, group: str) -> socket.socket:
    """A listening UNIX socket; a dead one in its place is replaced. Raises ListenError and OSError."""
    gid = _gid(path, group)
    with _locked(os.path.dirname(path)), contextlib.ExitStack() as undo:
        _clear(path)
        bound = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        mask = os.umask(0o777)  # nobody gets in before group and mode are set
        try:
            bound.bind(path)
        finally:
            os.umask(mask)
        undo.callback(os.unlink, path)
        bound.listen(BACKLOG)
        _give(path, gid, group)
        os.chmod(path, mode)
        undo.pop_all()
        return bound


def identity(path: str) -> tuple[int, int] | None:
    """Device and inode of a file, None when there is none. Raises OSError."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _gid(path: str, group: str) -> int:
    if not group:
        return -1
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ListenError(f"unix:{path}: there is no group {group!r} on this host") from None


def _give(path: str, gid: int, group: str) -> None:
    if gid < 0:
        return
    try:
        os.chown(path, -1, gid, follow_symlinks=False)
    except PermissionError:
        must = "this process must be root or a member of that group"
        raise ListenError(f"unix:{path}: cannot be given to group {group}; {must}") from None


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Two starts at once must not both find the socket dead; the directory itself is the lock."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + LOCK_WAIT
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise ListenError(f"{directory} is kept locked by another process")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _clear(path: str) -> None:
    """Remove a socket nobody listens on; refuse everything else."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"unix:{path}: something that is no socket is there; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        # Only a refusal proves that nobody listens; a full queue (EAGAIN) or EACCES proves nothing.
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise ListenError(f"unix:{path}: another process listens there; stop it first")
    os.unlink(path)
