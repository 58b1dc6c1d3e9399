"""LDAP as ldap3 speaks it: one connection, opened, secured, bound, searched and closed.

The one module that names ldap3. Everything in it blocks and belongs into a thread, but for `hang_up`, which
ends whatever the thread is waiting for. Must not know what is searched for, nor which server is best.
"""

from __future__ import annotations

import select
import socket
import ssl
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Literal, cast

from directory.addresses import addresses
from directory.bindwire import PPOLICY, BindResult, Response
from directory.people import Entry
from directory.servers import Secured, Server
from directory.troubles import Ambiguous, Refused, Speaking, Transport

with warnings.catch_warnings():  # ldap3 2.9.1 names attributes that pyasn1 0.6 has renamed
    warnings.filterwarnings("ignore", "(tagMap|typeMap) is deprecated", DeprecationWarning)
    import ldap3
    from ldap3.core.exceptions import LDAPException
    from ldap3.protocol.rfc4511 import Simple

# For a log of its own ldap3 reads each request back as text, and fails on passwords that are not UTF-8.
Simple.encoding = "latin-1"

PAGE, MOST = 500, 1_000_000  # entries of a page, and of one enumeration
NO_SUCH_OBJECT, SIZE_LIMIT_EXCEEDED = 32, 4
Scope = Literal["BASE", "LEVEL", "SUBTREE"]


class _Socket(ssl.SSLSocket):
    """Closed whatever happens: Python leaves it open when the server resets it before TLS begins."""

    __del__ = ssl.SSLSocket.close


class _Tls(ldap3.Tls):  # type: ignore[misc]
    """TLS whose context checks the name: ldap3's own check knows no IP addresses and is off by default."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = context
        context.sslsocket_class = _Socket
        self._name = name

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """Shake hands on a socket that `hang_up` can find."""
        connection.socket = self._context.wrap_socket(
            connection.socket, server_hostname=self._name, do_handshake_on_connect=False
        )
        connection.socket.do_handshake()


class _Server(ldap3.Server):  # type: ignore[misc]
    """A server whose addresses are looked up with a limit."""

    _address_info: list[list[Any]]

    @property
    def address_info(self) -> list[list[Any]]:
        """The addresses, with what ldap3 notes of each. Raises OSError."""
        if not self._address_info:
            self._address_info = [[*found, None, None] for found in addresses(self.host, self.port)]
        return self._address_info


class Session:
    """One connection. Used by one thread at a time; after any exception it is closed and not used again."""

    def __init__(self, server: Server, *, patience: int = 0) -> None:
        self.server = server
        self._is_hung_up = False
        # A Server object of its own: ldap3's is not safe to share between threads.
        target = _Server(
            server.host,
            port=server.port,
            use_ssl=server.tls == "ldaps",
            get_info=ldap3.NONE,
            connect_timeout=server.connect_timeout,
            tls=_Tls(server.context, server.host) if server.context is not None else None,
            allowed_referral_hosts=[],
        )
        self._connection = ldap3.Connection(
            target,
            client_strategy=ldap3.SAFE_SYNC,
            auto_bind=ldap3.AUTO_BIND_NONE,
            auto_referrals=False,
            auto_range=False,
            check_names=False,
            read_only=True,
            raise_exceptions=False,
            receive_timeout=patience or server.answer_timeout,
            return_empty_attributes=False,
        )

    def connect(self) -> None:
        """Connect. Raises Transport."""
        with self._speaking("connect"):
            self._connection.open(read_server_info=False)
            self._connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self.server.tls == "starttls":
            self._start_tls()

    def _start_tls(self) -> None:
        with self._speaking("StartTLS"):
            # SAFE_SYNC's tuples are true whatever they say: what counts is the socket.
            self._connection.start_tls(read_server_info=False)
            if not isinstance(self._connection.socket, ssl.SSLSocket):
                raise Transport(f"{self.server}: StartTLS was refused")

    def bind(self, dn: str, password: bytes, *, policy: bool = False) -> BindResult:
        """The server's answer to a simple bind with the password as it is. Raises Transport.

        Raises ValueError for what would be an unauthenticated bind (RFC 4513, 5.1.2).
        """
        if not dn or not password:
            raise ValueError("a bind without a name or a password authenticates nobody")
        if self._connection.closed:  # or ldap3 would open it again, without TLS
            raise Transport(f"{self.server}: bind: the connection is closed")
        controls = [(PPOLICY, False, None)] if policy else None
        with self._speaking("bind"):
            try:
                answer = self._connection.rebind(
                    user=dn, password=password, read_server_info=False, controls=controls
                )
            finally:
                self._connection.password = None
        result = cast(dict[str, Any], answer[1])
        if result.get("type") != "bindResponse":
            raise Transport(f"{self.server}: the answer to a bind is no bind response")
        control = (result.get("controls") or {}).get(PPOLICY)
        value = bytes(control["value"]) if control and control.get("value") else None
        return BindResult(result["result"], result.get("message") or "", value)

    def search(
        self, base: str, filter: str, attributes: Iterable[str], *, scope: Scope = "SUBTREE", most: int = 0
    ) -> tuple[Entry, ...]:
        """The entries found; referrals are left alone. `most` > 0 raises Ambiguous beyond it.

        Raises Refused for any other result than success, Transport when the connection fails.
        """
        with self._speaking("search"):
            _, result, response, _ = self._connection.search(
                base,
                filter,
                search_scope=scope,
                attributes=list(attributes) or ["1.1"],
                size_limit=most + 1 if most else 0,
                time_limit=self.server.answer_timeout,
            )
        entries = _entries(response)
        if most and (len(entries) > most or result["result"] == SIZE_LIMIT_EXCEEDED):
            names = " and ".join(entry.dn for entry in entries)
            raise Ambiguous(f"more than {most} entry for {filter}: {names}", SIZE_LIMIT_EXCEEDED)
        if result["result"] != 0:
            raise Refused(_words(f"{self.server}: search at {base}", result), result["result"])
        return entries

    def enumerate(self, base: str, filter: str, attributes: Iterable[str]) -> Iterator[Entry]:
        """Every entry found, page by page (RFC 2696). Raises Refused and Transport."""
        cookie: bytes | None = None
        wanted, count = list(attributes) or ["1.1"], 0
        while count < MOST:
            with self._speaking("search"):
                _, result, response, _ = self._connection.search(
                    base, filter, attributes=wanted, paged_size=PAGE, paged_cookie=cookie
                )
            if result["result"] != 0:
                raise Refused(_words(f"{self.server}: search at {base}", result), result["result"])
            entries = _entries(response)
            count += len(entries)
            yield from entries
            control = (result.get("controls") or {}).get("1.2.840.113556.1.4.319")
            cookie = control["value"]["cookie"] if control else None
            if not cookie:
                return
        raise Refused(f"{self.server}: more than {MOST} entries for {filter}")

    def converse(self, message: bytes, read: Callable[[bytes], list[Response]]) -> list[Response]:
        """Send octets and read until `read` has made something of the answer. Raises Transport."""
        with self._speaking("converse"):
            self._connection.socket.sendall(message)
            while data := self._connection.socket.recv(4096):
                if found := read(data):
                    return found
        return []

    def secured(self) -> Secured | None:
        """What TLS has come to on this connection, None without TLS."""
        found = self._connection.socket
        if not isinstance(found, ssl.SSLSocket):
            return None
        shown: dict[str, Any] = found.getpeercert() or {}
        names = tuple(name for _, name in shown.get("subjectAltName", ()))
        return Secured(found.version() or "TLS", names, ssl.cert_time_to_seconds(shown["notAfter"]))

    @property
    def is_usable(self) -> bool:
        """Whether an idle connection can be used: what is readable now is its end or a notice of it."""
        found = self._connection.socket
        if self._is_hung_up or found is None or self._connection.closed or found.fileno() < 0:
            return False
        pending = isinstance(found, ssl.SSLSocket) and found.pending()
        return not pending and not select.select([found], [], [], 0)[0]

    def hang_up(self) -> None:
        """End the connection now. From any thread; whoever waits on it gets Transport."""
        self._is_hung_up = True
        found = self._connection.socket
        if found is not None:
            with suppress(OSError):  # not connected yet, or not any more
                socket.socket.shutdown(found, socket.SHUT_RDWR)

    def close(self) -> None:
        """Let the connection go; by the thread that has it."""
        left = self._connection.socket  # which ldap3 forgets when it could not be opened
        with suppress(LDAPException, OSError):
            self._connection.strategy.close()
        if left is not None:
            left.close()

    def _speaking(self, what: str) -> Speaking:
        if self._is_hung_up:
            raise Transport(f"{self.server}: {what}: it was given up")
        return Speaking(f"{self.server}: {what}")


def _entries(response: Iterable[dict[str, Any]] | None) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            str(item["dn"]),
            {
                name.lower(): tuple(bytes(value) for value in values)
                for name, values in item["raw_attributes"].items()
            },
        )
        for item in response or ()
        if item.get("type") == "searchResEntry"
    )


def _words(what: str, result: dict[str, Any]) -> str:
    text = f"{result.get('description', '')} {result.get('message') or ''}"
    return f"{what}: result {result['result']} {text}".strip()
