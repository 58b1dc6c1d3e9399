"""The addresses of a server's name, looked up in threads that nobody has to wait for.

Knows getaddrinfo, which takes as long as the name servers like and cannot be interrupted. Must not know what
the addresses are for.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
)
from zope.interface import directlyProvides, implementer, providedBy

PATIENCE = 2.0  # seconds for the addresses of one name

#: As socket.getaddrinfo gives them.
Found = list[tuple[Any, ...]]

_under_way: dict[tuple[str, int], tuple[Future[Found], float]] = {}
_lock = threading.Lock()


def ask(host: str, port: int) -> Future[Found]:
    """The addresses later, OSError when there are none; at once for an address. From any thread.

    Whoever asks within PATIENCE of another joins it, so that a name server that hangs holds few threads; and
    since they are daemons, none of them keeps the process from ending.
    """
    asked: Future[Found] = Future()
    try:
        asked.set_result(_getaddrinfo(host, port, socket.AI_NUMERICHOST))
        return asked
    except OSError:
        pass
    key, now = (host, port), time.monotonic()
    with _lock:
        joined, since = _under_way.get(key, (None, 0.0))
        if joined is not None and now - since < PATIENCE:
            return joined
        _under_way[key] = (asked, now)
    threading.Thread(target=_answer, args=(key, asked), name=f"name-{host}", daemon=True).start()
    return asked


def addresses(host: str, port: int) -> Found:
    """The addresses, waited for in this thread. Raises OSError, after PATIENCE at the latest."""
    try:
        return ask(host, port).result(PATIENCE)
    except TimeoutError:
        raise OSError(f"no name server answered for {host} within {PATIENCE:g} s") from None


def _answer(key: tuple[str, int], asked: Future[Found]) -> None:
    try:
        found = _getaddrinfo(*key)
    except (OSError, ValueError) as wrong:  # UnicodeError for what is no name
        _forget(key, asked)
        asked.set_exception(OSError(f"{key[0]}: {wrong}"))
    else:
        _forget(key, asked)
        asked.set_result(found)


def _forget(key: tuple[str, int], asked: Future[Found]) -> None:
    with _lock:
        if _under_way.get(key, (None, 0.0))[0] is asked:
            del _under_way[key]


def _getaddrinfo(host: str, port: int, flags: int = 0) -> Found:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=flags)


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Nothing can: the answer is not waited for."""


@implementer(IHostnameResolver)
class _Resolver:
    """Twisted's own resolver asks in the few threads of the reactor, which hung names would fill."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> _Resolution:
        """Tell the receiver the addresses, none when the name has none."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        asked = ask(hostName, portNumber)
        if asked.done():
            _tell(resolutionReceiver, asked)
            return resolution
        late = self._reactor.callLater(PATIENCE, resolutionReceiver.resolutionComplete)

        def told() -> None:
            if late.active():
                late.cancel()
                _tell(resolutionReceiver, asked)

        asked.add_done_callback(lambda _: self._reactor.callFromThread(told))
        return resolution


def _tell(receiver: Any, asked: Future[Found]) -> None:
    for family, *_, where in asked.result() if asked.exception() is None else ():
        kind: Callable[..., Any] = IPv6Address if family == socket.AF_INET6 else IPv4Address
        receiver.addressResolved(kind("TCP", *where))
    receiver.resolutionComplete()


class Resolving:
    """A reactor whose endpoints take addresses from here."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.nameResolver = _Resolver(reactor)
        directlyProvides(self, providedBy(reactor), IReactorPluggableNameResolver)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
