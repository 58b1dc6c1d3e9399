"""Records the transcripts postfix_*.txt from a real Postfix: `python -m tests.milter.record`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from smtplib import SMTP
from typing import Any

from milter import wire
from milter.wire import Reader
from tests.milter.mail_host import MailHost, mail_host, send, threaded
from tests.milter.transcripts import FOLDER, shown

ALICE = "Alice <alice@example.org>"


def one_message(client: SMTP) -> None:
    """One message that passes."""
    send(client, ALICE, "To: someone@elsewhere.example", "X-Folded: a\r\n\tb")


def two_messages(client: SMTP) -> None:
    """A message that is refused, then one that passes, on one connection."""
    send(client, "Bob <bob@example.org>")
    send(client, ALICE)


def abort(client: SMTP) -> None:
    """RSET after MAIL and RCPT, then a message."""
    client.mail("alice@example.org")
    client.rcpt("someone@elsewhere.example")
    client.rset()
    send(client, ALICE)


def hang_up(client: SMTP) -> None:
    """QUIT after MAIL."""
    client.mail("alice@example.org")


def smtputf8(client: SMTP) -> None:
    """An internationalized author."""
    send(client, "René <rené@bücher.example>", sender="rené@bücher.example", options=("SMTPUTF8",))


def two_authors(client: SMTP) -> None:
    """Two From fields."""
    send(client, ALICE, "From: bob@example.org")


def no_author(client: SMTP) -> None:
    """A first line that starts with a blank ends the header."""
    client.mail("alice@example.org")
    client.rcpt("someone@elsewhere.example")
    client.data(b" From: alice@example.org\r\n\r\nHello.\r\n")


def percent(client: SMTP) -> None:
    """A percent sign in the text that goes out."""
    send(client, "100%x@example.org")


def claims(client: SMTP) -> None:
    """Fields that are not the client's to send, for which the header is changed at the end."""
    send(
        client,
        ALICE,
        "Authentication-Results: mx1.example.org; spf=pass",
        "Authentication-Results: elsewhere.example; spf=pass",
        "Authentication-Results: (a comment) MX1.example.org 1; dkim=pass",
        "DKIM-Signature: v=1; nonsense",
    )


def long_line(client: SMTP) -> None:
    """A line of the body that is too long."""
    client.mail("alice@example.org")
    client.rcpt("someone@elsewhere.example")
    client.data(f"From: {ALICE}\r\n\r\n{'x' * 999}\r\n".encode())


SCENES: tuple[tuple[Callable[[SMTP], None], str], ...] = (
    (one_message, "alice"),
    (two_messages, "alice"),
    (abort, "alice"),
    (hang_up, "alice"),
    (smtputf8, "rené"),
    (two_authors, "alice"),
    (no_author, "alice"),
    (percent, "alice"),
    (claims, "alice"),
    (long_line, "alice"),
)


class Tape:
    """What went over one connection, in order."""

    def __init__(self, protocol: Any) -> None:
        self.lines: list[str] = []
        self._readers = {"M": Reader(), "F": Reader()}
        hear, say = protocol.dataReceived, protocol._send
        protocol.dataReceived = lambda data: (self._note("M", data), hear(data))
        protocol._send = lambda data: (self._note("F", data), say(data))

    def _note(self, who: str, data: bytes) -> None:
        reader = self._readers[who]
        commands = wire.COMMANDS
        wire.COMMANDS = commands | {b"c", b"m", b"y"}  # type: ignore[misc]
        reader.feed(data)
        while (packet := reader.next()) is not None:
            self.lines.append(f"{who}: {shown(packet)}")
        wire.COMMANDS = commands  # type: ignore[misc]


async def scene(host: MailHost, act: Callable[[SMTP], None], login: str) -> str:
    """The transcript of one scene."""
    (_, factory), tapes = host.stage.service._factories[0], []
    build = type(factory).buildProtocol

    def taped(address: Any) -> Any:
        protocol = build(factory, address)
        tapes.append(Tape(protocol))
        return protocol

    factory.buildProtocol = taped
    client = await threaded(host.connect, login)
    await threaded(act, client)
    await threaded(client.quit)
    await host.stage.pause(0.3)
    (tape,) = tapes
    text = re.sub(r"incident [0-9a-f]{8}", "incident {incident}", "\n".join(tape.lines))
    queue_ids = dict.fromkeys(re.findall(r"^M: D [LN]i\|(\w+)\|", text, re.MULTILINE))
    head = [f"# Postfix 3.7.11. {act.__doc__}", *(f"S: record {one} login:{login}" for one in queue_ids)]
    return "\n".join([*head, text, "F: <CLOSED>", ""])


async def record(reactor: Any) -> None:
    """Every scene."""
    for act, login in SCENES:
        async with mail_host(reactor) as host:
            text = await scene(host, act, login)
        (FOLDER / f"postfix_{act.__name__}.txt").write_text(text, encoding="utf-8")


def main() -> int:
    """Record, and end."""
    from twisted.internet import asyncioreactor

    asyncioreactor.install()
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    failures: list[Any] = []
    done = Deferred.fromCoroutine(record(reactor))
    done.addErrback(failures.append)
    done.addBoth(lambda _: reactor.stop())
    reactor.run()
    for failure in failures:
        failure.printTraceback()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
