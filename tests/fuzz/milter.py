"""Any bytes on the milter's socket: never an accept, no author who is not owned, nobody is disturbed."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from twisted.internet.defer import ensureDeferred

from directory.address import Rules
from directory.drafts import Reading
from directory.file import read_file
from directory.identity import Principal, Unavailable
from ledger.charges import Amounts, ChargeId, Submission
from ledger.charges import Unavailable as LedgerUnavailable
from ledger.limits import parse_limit
from ledger.model import ModelLedger
from milter import wire
from milter.service import MilterService
from milter.settings import AuthorSettings, Settings
from milter.wire import Options, Packet, encode
from sidecar.listen import Listener
from sidecar.metrics import Metrics
from tests.fuzz.ground import Target
from tests.fuzz.peers import LEDGER_VERBS, How, Stores, Transport, connect, promise

DIRECTORY = Path(__file__).parents[1] / "transcripts" / "milter" / "directory.yaml"
MTA = "mx1.example.org"
LIMIT = parse_limit("1000000 messages per hour")
OFFER = encode(Packet(b"O", wire.encode_options(Options(6, 0x1FF, 0x1FFFFF), {})[5:]))
#: What the transcripts, and so the seeds, have been charged for.
RECORDS = (("ABC", "login:alice", "alice@example.org"), ("DEF", "login:bob", "bob@example.org"))
OWNED = frozenset(
    f"{local}@{domain}"
    for local in ("alice", "alice_lastname", "bob")
    for domain in ("example.org", "example.net")
)
_SIGNATURE = re.compile(rb"(?=.*\bv\s*=\s*1)(?=.*\bd\s*=)(?=.*\bb\s*=)(?=.*\bbh\s*=)(?=.*\bh\s*=)", re.S)
_REPLY = re.compile(rb"(?:4\d\d 4|5\d\d 5)\.\d{1,3}\.\d{1,3} [ -~]+\0")


class Listed:
    """A directory whose roll never changes; sometimes nobody is on it."""

    def __init__(self, path: Path, rules: Rules | None = None) -> None:
        aliases = {"example.org": ("example.net",)}
        self.roll = read_file(path, Reading(aliases, rules or Rules()))
        self.knows = True

    def start(self) -> None:
        """Nothing to begin."""

    def stop(self) -> None:
        """Nothing to end."""

    def state(self) -> str:
        return "ok"

    def look_up(self, question: Any) -> Principal | None:
        return self.roll.look_up(question) if self.knows else None


def answers(heard: bytes) -> Iterator[Packet]:
    """The packets that an MTA hears."""
    while heard:
        promise(len(heard) > 4, "half a packet was sent")
        end = 4 + int.from_bytes(heard[:4], "big")
        promise(4 < end <= len(heard), "half a packet was sent")
        yield Packet(heard[4:5], heard[5:end])
        heard = heard[end:]


def macros(stage: str, **values: str) -> bytes:
    """What Postfix sends before a step."""
    named = "".join(f"{{{name}}}\0{value}\0" for name, value in values.items())
    return encode(Packet(b"D", (stage + named).encode()))


def message(queue_id: str, author: bytes) -> bytes:
    """One of alice's messages, up to the end of its header."""
    who = {"auth_authen": "alice", "client_addr": "203.0.113.9"}
    begun = macros("M", **who) + encode(Packet(b"M", b"<alice@example.org>\0"))
    fields = encode(Packet(b"L", b"From\0" + author + b"\0")) + macros("N", i=queue_id, **who)
    return begun + fields + encode(Packet(b"N"))


class Milter(Target):
    """The milter, with bodies looked at."""

    name = "milter"
    mode: Literal["enforce", "observe"] = "enforce"
    forgery = (b"y", b"550 5.6.0")  # what the neighbour hears when it forges

    def __init__(self) -> None:
        super().__init__()
        directory = Stores(Listed(DIRECTORY), frozenset(("look_up",)), Unavailable)
        self.ledger = ModelLedger(self.clock.seconds)
        ledger = Stores(self.ledger, LEDGER_VERBS, LedgerUnavailable)
        self.stores = [directory, ledger]
        settings = Settings(version=1, mta=MTA, author=AuthorSettings(mode=self.mode))
        self.service = MilterService(
            settings,
            reactor=self.clock,
            log=self.witness.log,
            metrics=Metrics(),
            load=lambda: settings,
            open_directory=lambda *_, **__: directory,
            open_ledger=lambda *_, **__: ledger,
        )
        self._factory: Any = self.service.factory(Listener("unix:/run/fuzz"))
        self.service.start()
        self.judged: list[tuple[Any, Any]] = []
        self._witness_verdicts()
        self.neighbour: Transport = connect(self._factory)
        self.neighbour.arrive(OFFER)

    def _witness_verdicts(self) -> None:
        judge = self.service.judge
        real = judge.judge

        def judged(*arguments: Any) -> Any:
            return real(*arguments).addCallback(note)

        def note(result: tuple[Any, Any]) -> tuple[Any, Any]:
            self.judged.append(result)
            return result

        judge.judge = judged

    def prepare(self, how: How) -> None:
        self.judged.clear()
        for queue_id, principal, sender in () if how.other else RECORDS:
            self._record(queue_id, principal, sender)

    def _record(self, queue_id: str, principal: str, sender: str) -> None:
        charge = ChargeId(MTA, f"i.{self.inputs}", queue_id)
        asked = self.ledger.reserve(
            charge, Submission(principal, sender), Amounts(1, 1, 100), ((principal, LIMIT, True),)
        )
        ensureDeferred(asked).addErrback(lambda failure: failure.raiseException())

    def factory(self, how: How) -> Any:
        return self._factory

    def connections(self) -> int:
        return len(self._factory.connections)

    def neighbour_begins(self) -> None:
        self._record("NEIGHBOUR1f6c", "login:alice", "alice@example.org")
        self.neighbour.heard.clear()
        said = message("NEIGHBOUR1f6c", b" alice@example.org")
        self.neighbour.arrive(said[: said.index(b"DN") - 4])

    def neighbour_ends(self) -> None:
        """Every second time it forges, and is refused."""
        forges = self.inputs % 2
        self.neighbour.arrive(encode(Packet(b"L", b"%s\0 bob@example.org\0" % (b"To", b"From")[forges])))
        said = message("NEIGHBOUR1f6c", b"")
        self.neighbour.arrive(said[said.index(b"DN") - 4 :])
        heard = [(packet.command, packet.data[:9]) for packet in answers(bytes(self.neighbour.heard))]
        verdict = self.forgery if forges else (b"c", b"")
        promise(heard == [(b"c", b""), verdict], f"the neighbour heard {heard}")
        self.neighbour.arrive(encode(Packet(b"A")))

    def check(self, how: How, said: bytes, heard: bytes) -> None:
        for packet in answers(heard):
            promise(packet.command in (b"O", b"c", b"y", b"m"), f"answer {packet.command!r}")
            promise(packet.command != b"y" or _REPLY.fullmatch(packet.data), f"a reply {packet.data!r}")
            promise(
                packet.command != b"m" or struct.unpack("!I", packet.data[:4])[0] > 0, "no field's number"
            )
        passed = [result for result in self.judged if result[1].outcome == "pass"]
        promise(not (passed and (how.other or how.away)), "a message passed that nobody submits")
        for case, verdict in passed:
            _owned(case.message.header.author, verdict.author)
            known = {queue_id for queue_id, *_ in RECORDS}
            promise(case.claimed.queue_id in known, "a message passed that was never charged")


class Observe(Milter):
    """The milter while it only observes: nobody is refused, and no signature stays that stops the signer."""

    name = "observe"
    mode = "observe"
    forgery = (b"c", b"")

    def check(self, how: How, said: bytes, heard: bytes) -> None:
        for packet in answers(heard):
            promise(packet.command in (b"O", b"c", b"m"), f"answer {packet.command!r}")
        for case, verdict in self.judged:
            header = case.message.header
            if not case.message.may_edit or header.is_too_large:
                continue
            gone = {(claim.name, claim.number) for claim in verdict.removed}
            for claim in header.claims:
                stays = (claim.name, claim.number) not in gone
                if claim.name == b"dkim-signature" and stays:
                    promise(_SIGNATURE.match(claim.value), f"a broken signature stays: {claim.value!r}")


def _owned(field: bytes, author: str) -> None:
    """A second look at a From that has passed, by other means than the grammar's."""
    promise(author.lower() in OWNED, f"{author} passed")
    bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", field)
    for _ in range(20):
        bare = re.sub(rb"\((?:[^()\\]|\\.)*\)", b"", bare)
    promise(bare.count(b"@") == 1, f"From with {bare.count(b'@')} addresses passed: {field!r}")
    promise(author.encode().lower() in bare.lower(), f"another address than {author} stands in {field!r}")
    promise(not re.search(rb"[\0\r]|,|;|:", bare), f"a list, a group or a route passed: {field!r}")
