"""Any bytes on policyd's socket: never a permit, nothing for nobody, nobody else is disturbed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from directory.address import Rules as AddressRules
from directory.identity import Unavailable
from directory.settings import DirectorySettings
from ledger.charges import Unavailable as LedgerUnavailable
from ledger.limits import parse_limit
from ledger.model import ModelLedger
from policyd.facts import Verdict
from policyd.inquiry import TOO_EARLY
from policyd.service import PolicyService
from policyd.settings import Settings
from policyd.wire import DUNNO, Request, encode_request
from sidecar.listen import Listener
from sidecar.metrics import Metrics
from tests.fuzz.ground import Target
from tests.fuzz.milter import Listed
from tests.fuzz.peers import LEDGER_VERBS, How, Stores, Transport, connect, promise

DIRECTORY = Path(__file__).parents[1] / "transcripts" / "policy" / "fixtures" / "standard" / "directory.yaml"
RULES = AddressRules(recipient_delimiter="+")
PLANS = {
    "default": (parse_limit("500 recipients per day"), parse_limit("100 recipients per message")),
    "small": (parse_limit("3 recipients per hour"), parse_limit("2 messages per day")),
    "sized": (parse_limit("1 MB per message"), parse_limit("2 MB per hour")),
}
PRINTER = "0001020304050607080900010203040506070809000102030405060708090001"
#: Whom each principal may be, seen with other eyes than those of the ownership.
OWNED = {
    "login:alice": r"alice(_lastname)?@example\.(org|net)",
    "login:bob": r"bob@example\.(org|net)",
    "login:carol": r"carol@example\.(org|net)",
    "login:heidi": r"(heidi@example\.(org|net))?",
    "login:ivan": r".+@any\.example",
    "login:jürgen": r"jürgen@(bücher|xn--bcher-kva)\.example",
    f"certificate:sha256:{PRINTER}": r"printer@example\.(org|net)",
    "network:192.0.2.0/28": r"app@example\.(org|net)",
}
_ANSWER = re.compile(
    rb"action=(?:DUNNO|DEFER_IF_PERMIT 4\.3\.0 [!-~][ -~]*|4\d\d 4\.\d+\.\d+ [!-~][ -~]*"
    rb"|5\d\d 5\.\d+\.\d+ [!-~][ -~]*)"
)


class Policy(Target):
    """policyd, on submission and, with one octet, on MX."""

    name = "policy"

    def __init__(self) -> None:
        super().__init__()
        self.directory = Listed(DIRECTORY, RULES)
        directory = Stores(self.directory, frozenset(("look_up",)), Unavailable)
        ledger = Stores(ModelLedger(self.clock.seconds), LEDGER_VERBS, LedgerUnavailable)
        self.stores = [directory, ledger]
        settings = Settings(version=1, plans=PLANS, directory=DirectorySettings(addresses=RULES))
        self.service = PolicyService(
            settings,
            reactor=self.clock,
            log=self.witness.log,
            metrics=Metrics(),
            load=lambda: settings,
            open_directory=lambda *_, **__: directory,
            open_ledger=lambda *_, **__: ledger,
        )
        self.service._judge._clock = self.clock.seconds
        self._factory: Any = self.service.factory(Listener("unix:/run/fuzz"))
        self.service.start()
        self.judged: list[tuple[Request, Verdict]] = []
        self._witness_verdicts()
        self.neighbour: Transport = connect(self._factory)

    def _witness_verdicts(self) -> None:
        judge = self.service._judge
        real = judge.judge

        def judged(request: Request, *others: Any) -> Any:
            found = real(request, *others)
            return note(request, found) if isinstance(found, Verdict) else later(request, found)

        async def later(request: Request, coming: Any) -> Verdict:
            return note(request, await coming)

        def note(request: Request, verdict: Verdict) -> Verdict:
            self.judged.append((request, verdict))
            return verdict

        judge.judge = judged

    def set_up(self, *, nobody: bool) -> None:
        self.directory.knows = not nobody
        self.judged.clear()

    def factory(self, how: How) -> Any:
        return self._factory

    def connections(self) -> int:
        return len(self._factory.connections)

    def neighbour_begins(self) -> None:
        self.neighbour.heard.clear()
        self._ask(protocol_state="RCPT", sender="heidi@example.org")

    def neighbour_ends(self) -> None:
        self._ask(protocol_state="RCPT", sender="bob@example.org")
        self._ask(protocol_state="DATA", sender="heidi@example.org", queue_id="N1F6C")
        self._ask(protocol_state="END-OF-MESSAGE", sender="heidi@example.org", queue_id="N1F6C", size="9")
        heard = [answer[:16] for answer in bytes(self.neighbour.heard).split(b"\n\n")]
        dunno = b"action=DUNNO"
        promise(heard == [dunno, b"action=553 5.7.1", dunno, dunno, b""], f"the neighbour heard {heard}")

    def _ask(self, **changes: str) -> None:
        attributes = {
            "request": "smtpd_access_policy",
            "recipient": "someone@elsewhere.example",
            "client_address": "198.51.100.8",
            "sasl_username": "heidi",
            "encryption_protocol": "TLSv1.3",
            "instance": f"neighbour.{self.inputs}",
        }
        self.neighbour.arrive(encode_request({**attributes, **changes}))

    def check(self, how: How, said: bytes, heard: bytes) -> None:
        *answers, end = heard.split(b"\n\n")
        promise(end == b"", "half an answer was sent")
        for answer in answers:
            promise(_ANSWER.fullmatch(answer), f"an answer that is none of ours: {answer!r}")
        promise(len(answers) <= len(self.judged), "more answers than requests")
        for request, verdict in self.judged:
            if verdict.action == DUNNO:
                self._passed(how, request, verdict)

    def _passed(self, how: How, request: Request, verdict: Verdict) -> None:
        """Not on MX, where everybody passes; nor where no sender is known, or everything was asked before."""
        if request.policy_context == "mx" or request.protocol_state in TOO_EARLY | {"END-OF-MESSAGE"}:
            return
        promise(not how.other, f"nobody passed: {request}")
        promise(verdict.principal is not None, f"no principal passed: {request}")
        assert verdict.principal is not None
        sender = re.sub(r"\+[^@]*@", "@", request.sender.lower()).removesuffix(".")
        pattern = OWNED.get(verdict.principal.subject, "")
        promise(re.fullmatch(pattern, sender), f"{verdict.principal.subject} passed with {request.sender!r}")
