"""A milter on a UNIX socket with the real YAML directory and SQLite ledger, and an MTA that says anything.

Principals are those of tests/transcripts/milter/directory.yaml.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater

from directory.identity import Login, Principal
from ledger.charges import Amounts, ChargeId, Ledger, Submission, Unavailable
from ledger.limits import parse_limit
from milter import wire
from milter.judge import DEADLINE
from milter.service import MilterService
from milter.settings import Settings, load_settings
from milter.wire import Options, Packet, Reader, encode
from sidecar.listen import Listener
from sidecar.log import Log
from sidecar.metrics import Metrics

FIXTURES = Path(__file__).parents[1] / "transcripts" / "milter"
LIMIT = parse_limit("10 messages per hour")
MTA = "mx1.example.org"
OFFER = encode(Packet(b"O", wire.encode_options(Options(6, 0x1FF, 0x1FFFFF), {})[5:]))
PATIENCE = DEADLINE + 5

SETTINGS = """version: 1
mta: mx1.example.org
environment: test
listen: {{milter: ["unix:{home}/milter"]}}
directory:
  file: {{path: "{home}/directory.yaml"}}
  domains: {{example.org: {{aliases: [example.net]}}}}
ledger: {{sqlite: {{path: "{home}/ledger.sqlite"}}}}
plans: {{default: [10 messages per hour]}}
policy: {{contact: postmaster@example.org, charge: {charge}, restrictions: {{limits: observe}}}}
author: {author}
sign: {sign}
log: {{level: debug}}
"""


class Broken:
    """A ledger that is away (`fail`) or never answers (`hang`), for some verbs."""

    def __init__(self, real: Ledger, how: str, *verbs: str) -> None:
        self.real = real
        self.how = how
        self.verbs = set(verbs)
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name not in self.verbs:
            return getattr(self.real, name)

        def verb(*arguments: object) -> Deferred[Any]:
            self.asked.append(name)
            return fail(Unavailable("away")) if self.how == "fail" else Deferred()

        return verb


class Mta(Protocol):
    """One connection of an MTA."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.heard = b""
        self.closed = False
        self._waiting: Deferred[None] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self._wake()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)

    def say(self, *packets: Packet) -> None:
        self.transport.write(b"".join(map(encode, packets)))

    def macros(self, stage: str, **values: str) -> None:
        pairs = "".join(f"{{{name}}}\0{value}\0" for name, value in values.items())
        self.say(Packet(b"D", stage.encode() + pairs.encode()))

    async def change(self, reactor: Any) -> None:
        self._waiting = Deferred()
        self._waiting.addTimeout(PATIENCE, reactor)
        await self._waiting

    async def hear(self, reactor: Any) -> Packet | None:
        """The next answer, None when the connection has ended."""
        while True:
            if len(self.heard) >= 4:
                size = 4 + int.from_bytes(self.heard[:4], "big")
                if len(self.heard) >= size:
                    data, self.heard = self.heard[:size], self.heard[size:]
                    return Packet(data[4:5], data[5:])
            if self.closed:
                return None
            await self.change(reactor)

    async def greet(self, reactor: Any) -> Packet | None:
        self.transport.write(OFFER)
        return await self.hear(reactor)

    async def send(
        self,
        reactor: Any,
        *fields: tuple[str, str],
        queue_id: str = "ABC",
        login: str = "alice",
        client: str = "203.0.113.9",
        sender: str = "alice@example.org",
    ) -> Packet | None:
        """One message up to the end of its header; the verdict."""
        named = {"auth_authen": login} if login else {}
        self.macros("M", **named, client_addr=client, mail_addr=sender)
        self.say(Packet(b"M", f"<{sender}>\0".encode()))
        answer = await self.hear(reactor)
        assert answer is None or answer == Packet(b"c"), answer
        for name, value in fields:
            self.say(Packet(b"L", f"{name}\0{value}\0".encode("utf-8", "surrogateescape")))
        self.macros("N", i=queue_id, **named, client_addr=client)
        self.say(Packet(b"N"))
        return await self.hear(reactor)


class Stage:
    """What a test plays on."""

    def __init__(self, reactor: Any, home: Path) -> None:
        self.reactor = reactor
        self.home = home
        self.out = io.StringIO()
        self.path = home / "milter"
        self.config = home / "config.yaml"
        self.service: MilterService
        self.port: Any = None
        self._mtas: list[Mta] = []

    def write(
        self, author: str = "{}", sign: str = "{}", charge: str = "data", directory: str = "directory.yaml"
    ) -> None:
        text = SETTINGS.format(home=self.home, author=author, sign=sign, charge=charge)
        self.config.write_text(text.replace("directory.yaml", directory), encoding="utf-8")

    def load(self) -> Settings:
        return load_settings(self.config)

    def begin(self) -> None:
        log = Log(self.out, program="milter", level="debug")
        self.service = MilterService(
            self.load(), reactor=self.reactor, log=log, metrics=Metrics(), load=self.load
        )
        self.service.start()
        listener = Listener(f"unix:{self.path}")
        self.port = self.reactor.listenUNIX(str(self.path), self.service.factory(listener))

    @property
    def log(self) -> list[str]:
        return self.out.getvalue().splitlines()

    def line(self, event: str = "author") -> str:
        """The one line of an event."""
        found = [line for line in self.log if f"event={event} " in line]
        assert len(found) == 1, self.log
        return found[0]

    async def mta(self) -> Mta:
        made: Mta = await connectProtocol(UNIXClientEndpoint(self.reactor, str(self.path)), Mta())
        self._mtas.append(made)
        return made

    async def greeted(self) -> Mta:
        made = await self.mta()
        await made.greet(self.reactor)
        return made

    async def record(
        self, queue_id: str = "ABC", principal: str = "login:alice", sender: str = "alice@example.org"
    ) -> None:
        """What policyd does at DATA and END-OF-MESSAGE."""
        charge, amounts = ChargeId(MTA, f"i.{queue_id}", queue_id), Amounts(1, 1, 100)
        ledger = self.service.judge.ledger
        await ledger.reserve(charge, Submission(principal, sender), amounts, ((principal, LIMIT, True),))
        await ledger.settle(charge, amounts)

    async def used(self, principal: str = "login:alice") -> int:
        """Messages that are charged."""
        (standing,) = await self.service.judge.ledger.standing(((principal, LIMIT),))
        return standing.used

    async def principal(self, login: str) -> Any:
        """What the directory knows now."""
        found = self.service.judge.directory.look_up(Login(login))
        return found if isinstance(found, Principal) or found is None else await found

    async def pause(self, seconds: float) -> None:
        await deferLater(self.reactor, seconds, lambda: None)

    async def end(self) -> None:
        for mta in self._mtas:
            if not mta.closed:
                mta.transport.loseConnection()
        await self.port.stopListening()
        if isinstance(self.service.judge.ledger, Broken):
            self.service.judge.ledger = self.service.judge.ledger.real
        await self.service.drain()


@asynccontextmanager
async def stage(reactor: Any, **sections: str) -> AsyncIterator[Stage]:
    """A running milter; `sections` are author, sign, charge and the directory's file."""
    home = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    shutil.copy(FIXTURES / "directory.yaml", home / "directory.yaml")
    made = Stage(reactor, home)
    made.write(**sections)
    made.begin()
    try:
        yield made
    finally:
        await made.end()
        shutil.rmtree(home)
