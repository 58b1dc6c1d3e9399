"""The way out of a connection: what is said goes to the kernel at once.

Knows a transport of Twisted's. Must not know what is said.
"""

from __future__ import annotations

from typing import Any


class Outlet:
    """Writes to `transport` without waiting for the reactor's next turn, which costs as much as judging.

    What the kernel does not take goes through the transport, and from then on everything does.
    """

    __slots__ = ("_backlog", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._backlog = False

    def send(self, data: bytes) -> None:
        """Send it, after all that was sent before."""
        transport = self._transport
        if not self._backlog and not transport.disconnecting:
            sent = transport.writeSomeData(data)
            if sent == len(data):
                return
            if not isinstance(sent, int):
                transport.abortConnection()
                return
            self._backlog = True
            data = data[sent:]
        transport.write(data)
