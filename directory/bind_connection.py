"""One connection for simple binds: secured before anything is sent, one bind at a time.

Knows StartTLS, the handshake verified by service-identity, and whose answer an answer is. Must not know which
server is best, nor how long to wait.
"""

from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import (
    Certificate,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from directory.bindwire import (
    BIND_RESPONSE,
    EXTENDED_RESPONSE,
    BindResult,
    Broken,
    Reader,
    Response,
    encode_bind,
    encode_start_tls,
    encode_who_am_i,
)
from directory.servers import Server
from directory.troubles import Transport

#: What OpenSSL takes for a certificate; what stands between them is anybody's, in any encoding.
_PEM = re.compile(rb"-----BEGIN ((?:TRUSTED |X509 )?CERTIFICATE)-----(.*?)-----END \1-----", re.DOTALL)


def trust(ca_file: str) -> Any:
    """What verifies certificates: the CAs in a PEM file, or the system's. Raises OSError and ValueError."""
    if not ca_file:
        return platformTrust()  # type: ignore[no-untyped-call]
    blocks = [found[2] for found in _PEM.finditer(Path(ca_file).read_bytes())]
    if not blocks:
        raise ValueError(f"{ca_file}: no certificate in it")
    try:
        # As DER, where what a TRUSTED one is trusted for stands behind it and is left unread.
        certificates = [Certificate.load(b64decode(block), crypto.FILETYPE_ASN1) for block in blocks]
        return trustRootFromCertificates(certificates)  # type: ignore[no-untyped-call]
    except (SSL.Error, crypto.Error, ValueError) as wrong:
        raise ValueError(f"{ca_file}: {wrong}") from None


@implementer(IHandshakeListener)
class BindConnection(Protocol):
    """One connection; at most one bind at a time. `ready` fires when it may be used."""

    transport: Any

    def __init__(self, server: Server, options: Any) -> None:
        self.server = server
        self.used = 0.0
        self.is_lost = False
        self.ready: Deferred[None] = Deferred()
        self._options = options
        self._reader = Reader()
        self._id = 0
        self._kind = BIND_RESPONSE
        self._waiting: Deferred[BindResult] | None = None

    def bind(self, dn: str, password: bytes) -> Deferred[BindResult]:
        """The server's answer; fails with Transport. Cancelling it ends the connection."""
        self._id = self._id % 0x7FFFFFFF + 1
        return self._ask(BIND_RESPONSE, encode_bind(self._id, dn, password))

    def probe(self) -> Deferred[BindResult]:
        """Any answer of a server that is asked for nothing; as `bind` else."""
        self._id = self._id % 0x7FFFFFFF + 1
        return self._ask(EXTENDED_RESPONSE, encode_who_am_i(self._id))

    def _ask(self, kind: int, message: bytes) -> Deferred[BindResult]:
        assert self._waiting is None
        self._kind = kind
        self._waiting = Deferred(lambda _: self.hang_up())
        if self.server.tls == "none":  # at once, which saves a turn of the reactor; nothing else is under way
            sent = self.transport.writeSomeData(message)
            message = message[sent:] if isinstance(sent, int) else b""
        if message:
            self.transport.write(message)
        return self._waiting

    def hang_up(self) -> None:
        """End the connection now."""
        if not self.is_lost:
            self.transport.abortConnection()

    # Twisted calls these.

    def connectionMade(self) -> None:
        """Secure it; without TLS it is ready."""
        self.transport.setTcpKeepAlive(True)
        self.transport.setTcpNoDelay(True)
        if self.server.tls == "none":
            self.ready.callback(None)
        elif self.server.tls == "starttls":
            self._id += 1
            asked = self._ask(EXTENDED_RESPONSE, encode_start_tls(self._id))
            asked.addCallback(self._start_tls).addErrback(self._not_ready)

    def _start_tls(self, result: BindResult) -> None:
        if result.code != 0:
            raise Transport(f"{self.server}: StartTLS was refused: result {result.code} {result.text[:200]}")
        if not self._reader.is_empty:
            raise Transport(f"{self.server}: something was said between StartTLS and TLS")
        self.transport.startTLS(self._options)

    def handshakeCompleted(self) -> None:
        """The certificate and its name are right."""
        if not self.ready.called:
            self.ready.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """Answers."""
        try:
            for response in self._reader.feed(data):
                self._take(response)
        except Broken as broken:
            self.lose(f"{self.server}: {broken}")

    def _take(self, response: Response) -> None:
        waiting = self._waiting
        if response.id == 0:
            raise Broken(f"the server says goodbye: {response.result.text[:200]}")
        if waiting is None or (response.id, response.kind) != (self._id, self._kind):
            raise Broken("an answer that nobody waits for")
        self._waiting = None
        waiting.callback(response.result)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Whoever waits will not be answered."""
        self.is_lost = True
        self.lose(f"{self.server}: {reason_of(reason)}")

    def lose(self, why: str) -> None:
        """End the connection; whoever waits is told why."""
        waiting, self._waiting = self._waiting, None
        self.hang_up()
        if waiting is not None and not waiting.called:
            waiting.errback(Transport(why))
        if not self.ready.called:
            self.ready.errback(Transport(why))

    def _not_ready(self, failure: Failure) -> None:
        self.hang_up()
        if not self.ready.called:
            self.ready.errback(failure)


def reason_of(failure: Failure) -> str:
    """One line about why a connection is no more."""
    words = str(failure.value).splitlines() or [""]
    return f"{type(failure.value).__name__}: {words[0][:300]}"
