"""Words to the service manager: READY, RELOADING, STOPPING, STATUS and WATCHDOG (sd_notify(3)).

Knows NOTIFY_SOCKET and WATCHDOG_USEC. Must not know when any of them is due.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

SEND_WAIT = 0.2  # seconds; a manager that does not read must not stop the loop


class Notifier:
    """Sends to the manager when there is one. `watchdog` is its patience in seconds, 0 without one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self.watchdog = _watchdog(environ)
        if address[:1] in ("/", "@") and len(address) > 1:
            self._address = "\0" + address[1:] if address.startswith("@") else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(SEND_WAIT)

    def send(self, *assignments: str) -> bool:
        """Send assignments such as ``READY=1``; False when nobody took them."""
        if self._socket is None:
            return False
        message = "\n".join(assignment.replace("\n", " ") for assignment in assignments)
        try:
            self._socket.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _watchdog(environ: Mapping[str, str]) -> float:
    """WATCHDOG_USEC in seconds when it is meant for this process (sd_watchdog_enabled(3)), else 0."""
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (microseconds.isascii() and microseconds.isdigit()) or pid not in ("", str(os.getpid())):
        return 0.0
    return int(microseconds) / 1e6
