"""A saslauthd on a UNIX socket, a directory and a ledger that do what a test says, and a client."""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater

from directory.identity import Credentials, Denied, Login, Principal, Unavailable, Verified
from ledger.blocks import Block
from ledger.charges import Unavailable as LedgerUnavailable
from ledger.model_auth import AuthModel
from saslauthd.server import AuthFactory
from saslauthd.service import AuthService
from saslauthd.settings import AuthSettings, GuardSettings, Settings
from sidecar.listen import Listener
from sidecar.log import Log
from sidecar.metrics import Metrics

PASSWORDS = {"alice": b"pass", "bob": b"secret", "zo\u00eb": b"p\xc3\xa4ss"}
#: Refusals are told at once.
QUICK = GuardSettings(pair=10000, network=10000, login=10000, binds=10000, floor=0.0, delay=0.0)
HELLO = b"VERSION\t1\t0\nCPID\t1\n"


class Directory:
    """Knows PASSWORDS; `away` is never known, `stuck` never answered, `faulty` a bug that quotes passwords.

    The names are listed in tests/transcripts/auth/README.md.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.domains: dict[str, Any] = {}
        self.stopped = False
        self.is_away = False
        self.held: list[tuple[str, Deferred[Any]]] = []

    def start(self) -> None:
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True

    def state(self) -> str:
        return "unavailable" if self.is_away else "ok"

    def look_up(self, question: Login) -> Any:
        """Everybody is of example.org, except that a test may say otherwise in `domains`."""
        return self.domains.get(question.name, Principal("login", question.name, domain="example.org"))

    def verify(self, credentials: Credentials) -> Deferred[Any]:
        login = credentials.login
        self.asked.append(login)
        if self.is_away or login == "away":
            return fail(Unavailable("the directory is away"))
        if login == "faulty":
            raise KeyError(credentials.password)
        if login == "tabbed":
            return succeed(Verified("tab\tbed"))
        if login == "yes":
            return succeed(True)
        if login.startswith("stuck"):
            waiting: Deferred[Any] = Deferred(lambda _: self.cancelled.append(login))
            self.held.append((login, waiting))
            return waiting
        if login not in PASSWORDS:
            return succeed(Denied("unknown_login"))
        right = PASSWORDS[login] == credentials.password
        return succeed(Verified(login) if right else Denied("wrong_password"))


class Ledger(AuthModel):
    """Tells its blocks when a test does, and keeps marks; `is_away` keeps none."""

    def __init__(self, blocks: tuple[Block, ...] | None = ()) -> None:
        super().__init__()
        self.now = time.time
        self.is_away = False
        self._blocks = blocks
        self._changed: list[Callable[..., None]] = []
        self.stopped = False

    def start(self) -> None:
        pass

    def stop(self) -> Deferred[None]:
        self.stopped = True
        return succeed(None)

    def state(self) -> str:
        return "unavailable" if self.is_away else "ok"

    def watch(self, changed: Callable[..., None]) -> None:
        self._changed.append(changed)
        if self._blocks is not None:
            changed(1, self._blocks)

    def _begin(self) -> float:
        if self.is_away:
            raise LedgerUnavailable("the ledger is away")
        return self.now()

    def _moved(self) -> None:
        self.tell(*(self._blocks or ()))

    def tell(self, *blocks: Block) -> None:
        for changed in self._changed:
            changed(2, blocks)


def block(subject: str, extent: str, start: float = 0.0, end: float | None = None) -> Block:
    return Block("b1", subject, extent, "test", "spam", "call us", start, end)  # type: ignore[arg-type]


class Stage:
    """The service, what it wrote, and where it listens."""

    def __init__(
        self,
        reactor: Any,
        ledger: Any,
        clock: Any = None,
        directory: Any = None,
        auth: AuthSettings | None = None,
    ) -> None:
        self.reactor = reactor
        self.directory = directory or Directory()
        self.ledger = ledger
        self.stream = io.StringIO()
        self.metrics = Metrics()
        self.settings = Settings(version=1, auth=auth or AuthSettings(guard=QUICK))
        self.service = AuthService(
            self.settings,
            reactor=clock or reactor,
            load=lambda: self.settings,
            log=Log(self.stream, program="saslauthd", level="debug"),
            metrics=self.metrics,
            open_directory=lambda *_, **__: self.directory,
            open_ledger=lambda *_, **__: self.ledger,
        )
        self.path = ""
        self.factory: AuthFactory = self.service.factory(Listener("unix:/run/stage"))

    @property
    def log(self) -> str:
        return self.stream.getvalue()

    @property
    def outcomes(self) -> list[str]:
        return [line for line in self.log.splitlines() if "event=auth" in line]

    async def connect(self) -> Client:
        client: Client = await connectProtocol(
            UNIXClientEndpoint(self.reactor, self.path), Client(self.reactor)
        )
        return client

    async def greeted(self, hello: bytes = HELLO) -> Client:
        """A client after the handshake, whose `received` starts empty."""
        client = await self.connect()
        await client.until(lambda: client.received.endswith(b"DONE\n"))
        client.received = b""
        client.send(hello)
        return client


@asynccontextmanager
async def stage(
    reactor: Any,
    ledger: Any = None,
    clock: Any = None,
    *,
    directory: Any = None,
    auth: AuthSettings | None = None,
) -> AsyncIterator[Stage]:
    set_up = Stage(reactor, ledger or Ledger(), clock, directory, auth)
    home = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    set_up.path = str(home / "auth")
    set_up.service.start()
    port = reactor.listenUNIX(set_up.path, set_up.factory, backlog=4096)
    try:
        yield set_up
    finally:
        await port.stopListening()
        for connection in tuple(set_up.factory.connections):
            connection.transport.abortConnection()
        while set_up.factory.connections:
            await deferLater(reactor, 0.001)
        shutil.rmtree(home)


class Client(Protocol):
    """Collects what comes in."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.received = b""
        self.is_closed = False
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.is_closed = True
        self._look()

    def _look(self) -> None:
        ready = [waiting for waiting in self._waiting if waiting[0]()]
        for waiting in ready:
            self._waiting.remove(waiting)
            waiting[1].callback(None)

    async def until(self, holds: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait for a condition; what came instead is in the error."""
        if not holds():
            waiting: Deferred[None] = Deferred()
            self._waiting.append((holds, waiting))
            waiting.addTimeout(seconds, self.reactor, lambda *_: self._give_up())
            await waiting

    def _give_up(self) -> None:
        raise AssertionError(f"only received {self.received!r}, closed: {self.is_closed}")

    async def line(self) -> bytes:
        """The next line, without its end."""
        await self.until(lambda: b"\n" in self.received or self.is_closed)
        line, _, self.received = self.received.partition(b"\n")
        return line

    async def closed(self) -> None:
        await self.until(lambda: self.is_closed)

    async def leave(self) -> None:
        self.transport.loseConnection()
        await self.closed()
