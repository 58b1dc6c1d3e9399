"""Whether Postfix can reach the sidecars' sockets: asked as the user that Postfix runs as.

Knows sockets, users and processes. Must not know what is spoken on a socket.
"""

from __future__ import annotations

import errno
import os
import pwd
import socket
import stat

from sidecar.endpoints import split_host_port
from sidecar.listen import Listener
from submitward.findings import Finding, error, good, warning

_SECONDS = 5.0
_NOT_TRIED = 255  # no errno is so large


def reach(listener: Listener, user: str) -> Finding:
    """Connect as `user` when we are root, as ourselves otherwise, and say what came of it."""
    who = user if os.geteuid() == 0 else "this user"
    number = _connect_as(listener, user) if os.geteuid() == 0 else _connect(listener)
    place = listener.address
    if number == 0:
        return _reached(listener, who)
    if number == errno.EACCES:
        return error(place, f"{who} may not connect", _permissions(listener, user))
    if number in (errno.ENOENT, errno.ECONNREFUSED):
        return error(place, "nobody listens", "start the sidecar, and read its log if it ends at once")
    if number == _NOT_TRIED:
        return Finding("unavailable", place, f"cannot become {user} to try it", "is there such a user?")
    return error(
        place, f"{who} cannot connect: {os.strerror(number)}", "see that it runs and is not overloaded"
    )


def _connect_as(listener: Listener, user: str) -> int:
    """The errno of a connect by `user`, 0 for none; tried in a process of its own."""
    child = os.fork()
    if child == 0:
        number = _NOT_TRIED
        try:
            entry = pwd.getpwnam(user)
            os.initgroups(user, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            number = _connect(listener)
        finally:
            os._exit(number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _connect(listener: Listener) -> int:
    """The errno of a connect, 0 for none."""
    family, target = socket.AF_UNIX, listener.address.removeprefix("unix:")
    place: str | tuple[str, int] = target
    if not listener.is_unix:
        address, port = split_host_port(listener.address)
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        place = (str(address), port)
    with socket.socket(family) as probe:
        probe.settimeout(_SECONDS)
        try:
            probe.connect(place)
        except TimeoutError:
            return errno.ETIMEDOUT
        except OSError as trouble:
            return trouble.errno or errno.EIO
    return 0


def _reached(listener: Listener, who: str) -> Finding:
    """It answers; whether it answers too many."""
    mode = _mode(listener)
    if mode & 0o002:
        text = f"every local user can connect (mode {mode:04o}): any of them may guess passwords or ask"
        return warning(listener.address, text, "mode: 0660 and group: for the listener")
    return good(listener.address, f"{who} can connect")


def _mode(listener: Listener) -> int:
    """The mode of a UNIX socket, 0 for what has none that we can see."""
    try:
        return stat.S_IMODE(os.stat(listener.path).st_mode) if listener.is_unix else 0
    except OSError:
        return 0


def _permissions(listener: Listener, user: str) -> str:
    """What to change so that `user` may connect."""
    folder = os.path.dirname(listener.path)
    return f"give the listener `mode: 0660` and a `group:` of {user}'s, and let {user} enter {folder}"
