"""Inherited sockets: what systemd or a supervisor opened for this process.

Knows LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES (sd_listen_fds(3)). Must not know settings.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

from sidecar.binding import BACKLOG, ListenError

FIRST = 3  # SD_LISTEN_FDS_START
MOST = 1000


def take(name: str, environ: MutableMapping[str, str]) -> dict[str, socket.socket]:
    """The inherited sockets by address key; all of them must be named `name`. Raises ListenError.

    The three variables leave `environ`, so that no child takes the sockets for its own.
    """
    pid, count, names = (environ.pop(key, "") for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return {}
    given = names.split(":")
    found = {}
    with contextlib.ExitStack() as undo:
        for index in range(min(int(count), MOST)):
            if index >= len(given) or given[index] != name:
                which = given[index] if index < len(given) else ""
                raise ListenError(
                    f"inherited descriptor {FIRST + index} is named {which!r}, not {name!r}: "
                    f"set FileDescriptorName={name}"
                )
            inherited = _adopt(FIRST + index)
            undo.callback(inherited.close)
            found[key(address_of(inherited))] = inherited
        undo.pop_all()
    return found


def address_of(found: socket.socket) -> str:
    """The address a socket is bound to, as it is written in the settings."""
    name = found.getsockname()
    if found.family == socket.AF_UNIX:
        return f"unix:{name}" if isinstance(name, str) else f"unix:@{name[1:].decode(errors='replace')}"
    if found.family not in (socket.AF_INET, socket.AF_INET6):
        return f"of family {found.family}"
    return f"[{name[0]}]:{name[1]}" if found.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def key(address: str) -> str:
    """What two spellings of one address have in common: /var/run is /run."""
    return "unix:" + os.path.realpath(address[5:]) if address.startswith("unix:/") else address


def _adopt(descriptor: int) -> socket.socket:
    try:
        found = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ListenError(f"inherited descriptor {descriptor} is no socket: {error.strerror}") from None
    listens = found.type == socket.SOCK_STREAM and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not listens:
        address = address_of(found)
        found.close()
        raise ListenError(
            f"inherited descriptor {descriptor} ({address}) does not listen for streams: "
            "the unit needs ListenStream= and Accept=no"
        )
    found.set_inheritable(False)
    found.listen(BACKLOG)
    return found
