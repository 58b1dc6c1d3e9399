"""The lab's mailbox host: takes every message and keeps one file for each recipient.

A process of its own (``python -m tests.lab.sink DIRECTORY [ADDRESS:PORT]``). Knows SMTP through aiosmtpd;
must not know what the lab expects of the mail.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope

PORT_FILE = "port"


class Keep:
    """Writes what arrives into ``new/``, Maildir-like: written in ``tmp/``, then renamed.

    A file holds ``X-Envelope-From: <…>`` and ``X-Envelope-To: <…>``, then the message as it was delivered.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.numbers = count()
        for name in ("tmp", "new"):
            (directory / name).mkdir(parents=True, exist_ok=True)

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        for recipient in envelope.rcpt_tos:
            self.keep(envelope.mail_from or "", recipient, envelope.content or b"")
        return "250 2.0.0 kept"

    def keep(self, sender: str, recipient: str, content: bytes | str) -> None:
        assert isinstance(content, bytes)
        head = f"X-Envelope-From: <{sender}>\r\nX-Envelope-To: <{recipient}>\r\n".encode()
        name = f"{time.time_ns()}.{os.getpid()}_{next(self.numbers)}.sink"
        temporary = self.directory / "tmp" / name
        temporary.write_bytes(head + content)
        temporary.rename(self.directory / "new" / name)


async def serve(directory: Path, host: str = "127.0.0.1", port: int = 0) -> None:
    """Listen, by default on a free port of loopback, write it to ``port``, and take mail until SIGTERM."""
    loop = asyncio.get_running_loop()
    keep = Keep(directory)

    def protocol() -> SMTP:
        return SMTP(
            keep, data_size_limit=None, enable_SMTPUTF8=True, hostname="mailbox.example.org", loop=loop
        )

    server = await loop.create_server(protocol, host, port, backlog=512)
    temporary = directory / "port.new"
    temporary.write_text(str(server.sockets[0].getsockname()[1]))
    temporary.rename(directory / PORT_FILE)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    place, _, number = sys.argv[2].rpartition(":") if len(sys.argv) > 2 else ("127.0.0.1", "", "0")
    asyncio.run(serve(Path(sys.argv[1]), place, int(number)))
