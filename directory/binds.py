"""Simple binds on kept Twisted connections, secured before anything is sent, with deadlines that end them.

Knows connections, TLS verified by service-identity, and which server is next. A bind is sent once: what may
have been processed is never sent again. A server that did not answer has to answer a question that counts for
nobody before it gets another password. Must not know logins, nor what a result code means.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredSemaphore,
    TimeoutError,
    ensureDeferred,
    fail,
)
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.ssl import TLSVersion, optionsForClientTLS
from twisted.python.failure import Failure

from directory.addresses import Resolving
from directory.bind_connection import BindConnection, reason_of, trust
from directory.bindwire import BindResult
from directory.breakers import Breakers
from directory.identity import Unanswered, Unavailable
from directory.servers import Server
from directory.troubles import Transport
from sidecar.deadlines import Deadlines

WAITING_MAX = 512  # binds that wait for a connection; over it the answer is Unavailable at once
IDLE_MAX = 60.0  # seconds; below what servers and firewalls allow
PATIENCE = 3.5  # seconds for the answer to a bind: hashes cost time
PROBE = 1.5  # seconds for an answer of a server that did not answer before


_NO_CONNECTION = (ConnectError, ConnectingCancelledError, OSError, SSL.Error, ValueError)


class _Asker:
    """Who waits for a bind. Once it has left, what goes wrong says nothing about the server; before its
    password `was_sent` nothing can have been counted."""

    __slots__ = ("has_left", "was_sent")

    def __init__(self) -> None:
        self.has_left = self.was_sent = False


class Binds:
    """Binds on `servers`, on at most `size` connections; made ready when the first one is asked for."""

    def __init__(
        self, servers: Sequence[Server], weights: Sequence[int], *, size: int, reactor: Any, log: Any
    ) -> None:
        self._servers = tuple(servers)
        self._breakers = Breakers(weights, random.random)
        self._reactor = reactor
        self._log = log
        self._turns = DeferredSemaphore(size)
        self._idle: list[list[BindConnection]] = [[] for _ in self._servers]
        self._all: set[BindConnection] = set()
        self._patience = Deadlines(reactor, PATIENCE)
        self._probing = Deadlines(reactor, PROBE)
        self._resolving = Resolving(reactor)
        self._is_stopped = False
        self._options: dict[int, Any] = {}
        self._is_counted = 0

    def start(self) -> None:
        """Nothing to do: connections are made when they are needed."""

    def stop(self) -> None:
        """Hang up on all servers."""
        self._is_stopped = True
        for connection in tuple(self._all):
            connection.hang_up()

    def check(self, dn: str, password: bytes, deadline: float) -> Deferred[BindResult]:
        """The server's answer, never asked twice; fails with Unavailable after `deadline` seconds."""
        if self._is_stopped:
            return fail(Unavailable("the directory is closed"))
        if self._is_counted >= WAITING_MAX:
            return fail(Unavailable(f"{self._is_counted} logins are waiting for the directory"))
        if not self._breakers.candidates(self._reactor.seconds()):
            return fail(Unavailable(f"no LDAP server answers: {self._breakers.why()}"))
        self._is_counted += 1
        asker = _Asker()
        asked = ensureDeferred(self._check(asker, dn, password))

        def leave(_: object) -> None:
            asker.has_left = True
            asked.cancel()

        checked: Deferred[BindResult] = Deferred(leave)
        asked.addBoth(checked.callback)  # a Failure becomes an errback
        checked.addTimeout(deadline, self._reactor)
        checked.addBoth(self._done, asker)
        return checked

    def _done(self, result: BindResult | Failure, asker: _Asker) -> BindResult | Failure:
        self._is_counted -= 1
        if isinstance(result, Failure) and not isinstance(result.value, (Unavailable, CancelledError)):
            kind = Unanswered if asker.was_sent else Unavailable
            raise kind(f"no answer: {reason_of(result)}")
        return result

    async def _check(self, asker: _Asker, dn: str, password: bytes) -> BindResult:
        await self._turns.acquire()
        try:
            return await self._ask(asker, dn, password)
        finally:
            self._turns.release()

    async def _ask(self, asker: _Asker, dn: str, password: bytes) -> BindResult:
        trouble = Transport(f"no LDAP server answers: {self._breakers.why()}")
        for index in self._breakers.candidates(self._reactor.seconds()):
            if not self._breakers.begin(index, self._reactor.seconds()):
                continue
            was_down = self._breakers.is_down(index)
            try:
                connection = await self._connection(index, asker)
                if was_down:
                    await self._probe(index, connection)
            except Transport as wrong:  # nothing was sent: the next server may be asked
                trouble = wrong
                continue
            asker.was_sent = True
            return await self._bind(index, connection, dn, password)
        raise trouble

    async def _probe(self, index: int, connection: BindConnection) -> None:
        asked = connection.probe()
        self._probing.watch(asked)
        try:
            await self._answer(index, connection, asked)
        except Transport:
            connection.hang_up()
            raise

    async def _bind(self, index: int, connection: BindConnection, dn: str, password: bytes) -> BindResult:
        asked = connection.bind(dn, password)
        self._patience.watch(asked)
        try:
            result = await self._answer(index, connection, asked)
        except Transport as wrong:
            raise Unanswered(str(wrong)) from None
        if result.code in (51, 52):  # busy, unavailable
            self._failed(index, f"{connection.server}: result {result.code} {result.text[:200]}")
            connection.hang_up()
        else:
            self._succeeded(index)
            self._keep(index, connection)
        return result

    async def _answer(
        self, index: int, connection: BindConnection, asked: Deferred[BindResult]
    ) -> BindResult:
        """What the server says; Transport, and the breaker is told, when it says nothing."""
        try:
            return await asked
        except (Transport, TimeoutError) as wrong:
            text = str(wrong) if isinstance(wrong, Transport) else f"{connection.server} does not answer"
            self._failed(index, text)
            raise Transport(text) from None
        except CancelledError:
            self._breakers.given_up(index)
            raise

    async def _connection(self, index: int, asker: _Asker) -> BindConnection:
        idle, now = self._idle[index], self._reactor.seconds()
        while idle:
            kept = idle.pop()
            if not kept.is_lost and now - kept.used < IDLE_MAX:
                return kept
            kept.hang_up()
        server = self._servers[index]
        try:
            limit = server.connect_timeout + server.answer_timeout
            return await ensureDeferred(self._connect(index, server)).addTimeout(limit, self._reactor)
        except (CancelledError, TimeoutError, Transport, *_NO_CONNECTION) as wrong:
            if asker.has_left:  # endpoints have many words for having been cancelled
                self._breakers.given_up(index)
                raise CancelledError from None
            text = (
                str(wrong) if isinstance(wrong, Transport) else f"{server}: {type(wrong).__name__}: {wrong}"
            )
            self._failed(index, text)
            raise Transport(text) from None

    async def _connect(self, index: int, server: Server) -> BindConnection:
        # Importing it empties LISTEN_FDS, from which the sidecar takes its sockets first.
        from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS

        options = self._tls(index)
        connection = BindConnection(server, options)
        endpoint: Any = HostnameEndpoint(
            self._resolving, server.host, server.port, timeout=server.connect_timeout
        )
        if server.tls == "ldaps":
            endpoint = wrapClientTLS(options, endpoint)
        await connectProtocol(endpoint, connection)  # type: ignore[no-untyped-call]
        self._all = {one for one in self._all if not one.is_lost} | {connection}
        expiry = self._reactor.callLater(
            server.answer_timeout, connection.lose, f"{server}: TLS does not come about"
        )
        try:
            await connection.ready
        except BaseException:
            connection.hang_up()
            raise
        finally:
            if expiry.active():
                expiry.cancel()
        return connection

    def _tls(self, index: int) -> Any:
        server = self._servers[index]
        if server.tls == "none":
            return None
        if index not in self._options:
            self._options[index] = optionsForClientTLS(
                server.host,
                trustRoot=trust(server.ca_file),
                extraCertificateOptions={"raiseMinimumTo": TLSVersion.TLSv1_2},
            )
        return self._options[index]

    def _keep(self, index: int, connection: BindConnection) -> None:
        connection.used = self._reactor.seconds()
        if self._is_stopped:
            connection.hang_up()
        else:
            self._idle[index].append(connection)

    def _failed(self, index: int, why: str) -> None:
        if self._breakers.failed(index, self._reactor.seconds(), why):
            self._log.error("ldap_server_failed", server=str(self._servers[index]), problem=why)

    def _succeeded(self, index: int) -> None:
        if self._breakers.succeeded(index):
            self._log.notice("ldap_server_back", server=str(self._servers[index]))
