"""A mail client for the story: one SMTP command at a time, every reply kept as it came.

Knows SMTP through smtplib and how to tell a relay where it comes from: login, certificate or address. Must
not know what the relay ought to answer.
"""

from __future__ import annotations

import base64
import re
import smtplib
import ssl
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from types import TracebackType

TIMEOUT = 60
FRIEND = "friend@elsewhere.example"
_TEXT = re.compile(r"(\d\.\d{1,3}\.\d{1,3}) (.*)", re.DOTALL)


@dataclass(frozen=True)
class Reply:
    """What the relay answered, and to which command."""

    code: int
    text: str
    stage: str

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 3463), ``""`` if there is none."""
        found = _TEXT.match(self.text)
        return found.group(1) if found else ""

    def __str__(self) -> str:
        return f"{self.code} {' '.join(self.text.split())} (at {self.stage})"


@dataclass(frozen=True)
class Client:
    """How to reach a relay: `address` ``host:port``, the authority, and what the client shows of itself."""

    address: str
    ca: Path
    certificate: tuple[Path, Path] | None = None
    source: str = ""
    wrapped: bool = False
    tls: bool = True

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate:
            context.load_cert_chain(*self.certificate)
        return context

    def open(self) -> Session:
        """Connect, say EHLO, and begin TLS when it is wanted."""
        return Session(self)


class Session:
    """One SMTP session. Replies are returned, never raised; a lost connection raises
    SMTPServerDisconnected."""

    def __init__(self, client: Client) -> None:
        host, _, port = client.address.rpartition(":")
        source = (client.source, 0) if client.source else None
        name = "client.example.org"
        if client.wrapped:
            self.smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                host, int(port), name, timeout=TIMEOUT, source_address=source, context=client.context()
            )
        else:
            self.smtp = smtplib.SMTP(host, int(port), name, timeout=TIMEOUT, source_address=source)
        try:
            self.smtp.ehlo()
            if client.tls and not client.wrapped:
                self.starttls(client)
        except BaseException:
            self.smtp.close()
            raise

    def starttls(self, client: Client) -> None:
        code, text = self.smtp.starttls(context=client.context())
        if code != 220:
            raise smtplib.SMTPResponseException(code, text)
        self.smtp.ehlo()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        try:
            self.smtp.quit()
        except (OSError, smtplib.SMTPException):
            self.smtp.close()

    @property
    def offers(self) -> Mapping[str, str]:
        """The extensions of the last EHLO, in lower case."""
        return self.smtp.esmtp_features

    def command(self, verb: str, arguments: str = "", stage: str = "") -> Reply:
        code, text = self.smtp.docmd(verb, arguments)
        return Reply(code, text.decode(errors="replace"), stage or verb)

    def auth(self, login: str, password: str, mechanism: str = "PLAIN") -> Reply:
        """AUTH PLAIN with an initial response (RFC 4616), or AUTH LOGIN with two challenges."""
        if mechanism == "PLAIN":
            return self.command("AUTH", "PLAIN " + _base64(f"\0{login}\0{password}"))
        reply = self.command("AUTH", "LOGIN")
        for answer in (login, password):
            if reply.code != 334:
                return reply
            reply = self.command(_base64(answer), stage="AUTH")
        return reply

    def send(
        self,
        sender: str,
        recipients: Sequence[str],
        message: bytes,
        before: Mapping[str, Callable[[], object]] | None = None,
        options: str = "",
    ) -> Reply:
        """One transaction: the reply at its end, or the first refusal, after which RSET is said.

        `options` follow the sender in MAIL (``SMTPUTF8``).
        `before` names what is to happen just before a command (``MAIL``, ``RCPT``, ``DATA``) or the final dot
        (``.``).
        """
        hooks = before or {}
        steps = [
            ("MAIL", f"FROM:<{sender}> {options}".rstrip()),
            *(("RCPT", f"TO:<{recipient}>") for recipient in recipients),
        ]
        for verb, arguments in [*steps, ("DATA", "")]:
            hooks.get(verb, _nothing)()
            reply = self.command(verb, arguments)
            if reply.code != (354 if verb == "DATA" else 250):
                return self._abandon(reply)
        body = re.sub(rb"(?m)^\.", b"..", message)
        self.smtp.send(body if body.endswith(b"\r\n") else body + b"\r\n")
        hooks.get(".", _nothing)()
        self.smtp.send(b".\r\n")
        code, text = self.smtp.getreply()
        return Reply(code, text.decode(errors="replace"), "end of message")

    def _abandon(self, reply: Reply) -> Reply:
        if reply.code != 421:
            self.command("RSET")
        return reply


def compose(author: str, token: str, *, to: str = FRIEND, body: str = "Hello.\r\n") -> bytes:
    """A plain message whose visible From is `author`; `token` names it in the sink."""
    lines = (
        f"From: {author}",
        f"To: {to}",
        f"Subject: {token}",
        f"Date: {formatdate()}",
        f"Message-ID: <{token}@client.example.org>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
    )
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def token() -> str:
    """A word that is in no other message."""
    return f"t{uuid.uuid4().hex}"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _nothing() -> None:
    return
