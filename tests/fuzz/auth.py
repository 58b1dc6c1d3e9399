"""Any bytes on saslauthd's socket: never an OK that the directory did not say, nobody else is disturbed."""

from __future__ import annotations

import base64
import re
from typing import Any

from twisted.internet.defer import Deferred, succeed

from directory.identity import Credentials, Denied, Login, Principal, Unavailable, Verified
from ledger.charges import Unavailable as LedgerUnavailable
from ledger.model import ModelLedger
from saslauthd.service import AuthService
from saslauthd.settings import AuthSettings, GuardSettings, Settings
from saslauthd.wire import SENT_MAX
from sidecar.listen import Listener
from sidecar.metrics import Metrics
from tests.fuzz.ground import Target
from tests.fuzz.peers import LEDGER_VERBS, How, Stores, Transport, connect, promise

#: What the transcripts, and so the seeds, know as right.
PASSWORDS = {"alice": b"pass", "bob": b"secret", "zoë": b"p\xc3\xa4ss"}
NEIGHBOUR, SECRET = "neighbour-1f6c", b"ad9e2a60-1f0b"
GUARD = GuardSettings(pair=10000, network=10000, login=10000, binds=10000, floor=0.0, delay=0.0)
_LINE = re.compile(
    rb"CONT\t[1-9]\d{0,9}\t[A-Za-z0-9+/]*=*|CANCELLED\t[1-9]\d{0,9}|OK\t[1-9]\d{0,9}\tuser=[^\t\r\0\x01]+"
    rb"|FAIL\t[1-9]\d{0,9}(?:\tuser=[^\t\r\0\x01]+)?(?:\tcode=[a-z0-9_]+)?\treason=[^\t\r\0\x01]+(?:\ttemp)?"
)


class Directory:
    """Knows PASSWORDS, unless the harness says that nothing is right; remembers whom it said yes to."""

    def __init__(self) -> None:
        self.knows = True
        self.yes: list[str] = []
        self.domains: dict[str, Any] = {}

    def start(self) -> None:
        """Nothing to begin."""

    def stop(self) -> None:
        """Nothing to end."""

    def state(self) -> str:
        return "ok"

    def look_up(self, question: Login) -> Principal | None:
        known = question.name in PASSWORDS or question.name == NEIGHBOUR
        return Principal("login", question.name, domain="example.org") if known else None

    def verify(self, credentials: Credentials) -> Deferred[Any]:
        login = credentials.login
        right = PASSWORDS.get(login) if self.knows else None
        if login == NEIGHBOUR:
            right = SECRET
        if right is None or credentials.password != right:
            return succeed(Denied("wrong_password"))
        self.yes.append(login)
        return succeed(Verified(login))


class Auth(Target):
    """saslauthd."""

    name = "auth"

    def __init__(self) -> None:
        super().__init__()
        self.directory = Directory()
        directory = Stores(self.directory, frozenset(("verify", "look_up")), Unavailable)
        ledger = Stores(ModelLedger(self.clock.seconds), LEDGER_VERBS, LedgerUnavailable)
        self.stores = [directory, ledger]
        settings = Settings(version=1, auth=AuthSettings(guard=GUARD))
        self.service = AuthService(
            settings,
            reactor=self.clock,
            load=lambda: settings,
            log=self.witness.log,
            metrics=Metrics(),
            open_directory=lambda *_, **__: directory,
            open_ledger=lambda *_, **__: ledger,
            clock=self.clock.seconds,
        )
        self._factory = self.service.factory(Listener("unix:/run/fuzz"))
        self.service.start()
        self.neighbour: Transport = connect(self._factory)
        self.neighbour.arrive(b"VERSION\t1\t0\nCPID\t1\n")

    def prepare(self, how: How) -> None:
        self.directory.knows = not how.other
        self.directory.yes.clear()
        self.service._judge.recollection.clear()

    def factory(self, how: How) -> Any:
        return self._factory

    def connections(self) -> int:
        return len(self._factory.connections)

    def neighbour_begins(self) -> None:
        self.neighbour.heard.clear()
        self.neighbour.arrive(b"AUTH\t%d\tLOGIN\tservice=smtp\tsecured\n" % self.inputs)
        promise(self.neighbour.heard == b"CONT\t%d\tVXNlcm5hbWU6\n" % self.inputs, "the neighbour is asked")

    def neighbour_ends(self) -> None:
        for word in (NEIGHBOUR.encode(), SECRET):
            self.neighbour.arrive(b"CONT\t%d\t%s\n" % (self.inputs, base64.b64encode(word)))
        lines = bytes(self.neighbour.heard).split(b"\n")
        said = b"OK\t%d\tuser=%s" % (self.inputs, NEIGHBOUR.encode())
        promise(lines[1:] == [b"CONT\t%d\tUGFzc3dvcmQ6" % self.inputs, said, b""], f"the neighbour: {lines}")

    def check(self, how: How, said: bytes, heard: bytes) -> None:
        greeting, done, rest = heard.partition(b"DONE\n")
        promise(done and greeting.index(b"MECH") < greeting.index(b"SPID"), "the greeting is not whole")
        *lines, end = rest.split(b"\n")
        promise(end == b"", "half a line was sent")
        for line in lines:
            promise(_LINE.fullmatch(line) and len(line) < SENT_MAX, f"a line that no client reads: {line!r}")
        accepted = sorted(line.split(b"\tuser=")[1].decode() for line in lines if line.startswith(b"OK"))
        promise(not (accepted and (how.other or how.away)), "an OK where nothing is right")
        promise(set(accepted) <= set(self.directory.yes), "an OK that the directory did not say")
        for login in accepted:
            promise(_is_in(said, login, PASSWORDS[login]), "an OK without the password")
        asked = said.count(b"AUTH\t") + said.count(b"CONT\t")
        for word in (b"CONT", b"OK", b"FAIL"):
            promise(sum(line.startswith(word) for line in lines) <= asked, "more answers than requests")

    def judge_log(self, how: How, lines: list[str]) -> None:
        for line in lines:
            promise(SECRET.decode() not in line, "the log holds a password")


def _is_in(said: bytes, login: str, password: bytes) -> bool:
    """Whether the right password stands among the bytes, in base64 or within PLAIN, however it is padded."""
    words = re.findall(rb"[A-Za-z0-9+/]+={0,2}", said)
    return any(_plain(word).endswith(password) for word in words)


def _plain(word: bytes) -> bytes:
    try:
        return base64.b64decode(word)
    except ValueError:
        return b""
