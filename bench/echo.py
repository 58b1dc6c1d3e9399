"""A policy service that says DUNNO to everything: what asking costs Postfix, whoever answers.

`python -m bench.echo SOCKET`. Knows where a request ends. Must not know what it says.
"""

from __future__ import annotations

import asyncio
import sys


class Echo(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = transport
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        *whole, self.rest = (self.rest + data).split(b"\n\n")
        for _ in whole:
            self.transport.write(b"action=DUNNO\n\n")  # type: ignore[attr-defined]


async def main(path: str) -> None:
    """Serve until ended."""
    server = await asyncio.get_running_loop().create_unix_server(Echo, path)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
