"""`submitward explain`, and that it says what the daemon says."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_twisted
from twisted.internet import reactor

from ledger.blocks import Block
from ledger.bookfile import open_book
from ledger.grants import Grant, parse_terms
from policyd.settings import load_settings
from policyd.wire import Request, encode_request, parse
from submitward.explain import explain, request_of
from submitward.explanation import Explanation, as_json, as_text
from tests.policyd.house import Client, Process, attributes, private_directory
from tests.submitward.command import submitward

OWN = {name: f"{name}@example.org" for name in ("alice", "bob", "carol", "dave", "erin", "frank", "heidi")}
PRINTER = "sha256:0001020304050607080900010203040506070809000102030405060708090001"


@pytest.fixture
def directory() -> Iterator[Path]:
    with private_directory() as made:
        yield made


@pytest.fixture
def running(directory: Path) -> Iterator[Path]:
    """A directory whose policyd runs, so that there is a ledger."""
    process = Process(directory)
    process.wait_for("state=ok")
    yield directory
    assert process.end() == 0


def request_from(**changes: object) -> Request:
    return parse(encode_request(attributes(**changes)).decode().removesuffix("\n\n"))


async def explained(directory: Path, request: Request) -> Explanation:
    return await explain(load_settings(directory / "config.yaml"), request, reactor=reactor)


def code_of(answer: str | None) -> str:
    """An answer without its words, which hold the minute and the incident."""
    return " ".join((answer or "").split(" ")[:2])


def random_request(chance: random.Random, number: int) -> dict[str, str]:
    logins = [
        "alice",
        "ALICE",
        "bob",
        "carol",
        "dave",
        "erin",
        "frank",
        "heidi",
        "ivan",
        "jürgen",
        "mallory",
        "",
    ]
    login = chance.choice(logins)
    local = chance.choice([login or "app", "alice", "alice_lastname", "alice+x", "printer", "a b", ""])
    domain = chance.choice(
        ["example.org", "example.net", "any.example", "bücher.example", "gmail.example", ""]
    )
    request = attributes(
        protocol_state=chance.choice(["RCPT", "RCPT", "DATA", "DATA", "BDAT", "MAIL", "EHLO", "odd"]),
        sasl_username=login,
        sender=OWN[login.lower()]
        if login.lower() in OWN and chance.random() < 0.6
        else chance.choice([f"{local}@{domain}", local, "", f"{local}@{domain}@example.org"]),
        client_address=chance.choice(["198.51.100.7", "192.0.2.3", "192.0.2.200", "::1", "junk", ""]),
        ccert_fingerprint=chance.choice(["", "", PRINTER[7:].upper(), "FF" * 32, "junk"]),
        encryption_protocol=chance.choice(["TLSv1.3"] * 5 + ["TLSv1.2", ""]),
        recipient_count=chance.choice([0, 1, 1, 2, 3, 5, 101, 501]),
        size=chance.choice([0, 100, 1_000_000, 1_000_001, 3_000_000]),
        policy_context=chance.choice(["", "", "submission", "mx", "odd"]),
        instance=f"{number:x}.1.1.0",
    )
    if request["protocol_state"] in ("DATA", "BDAT"):
        request["queue_id"] = f"Q{number}"
    else:
        request["recipient_count"] = "0"  # as Postfix says before DATA
    return request


@pytest_twisted.ensureDeferred
async def test_explain_and_the_daemon_give_the_same_verdict_on_200_random_requests(running: Path) -> None:
    chance, verdicts = random.Random(2), set()
    client = Client(running / "policy")
    for number in range(200):
        request = random_request(chance, number)
        explanation = await explained(running, request_from(**request))
        client.send(encode_request(request))
        answer = client.read()
        assert code_of(answer) == code_of(explanation.answer), (request, answer, explanation.answer)
        if "reopens" not in str(answer):
            assert _nameless(answer) == _nameless(explanation.answer), request
        verdicts.add(code_of(answer))
        if answer == "DUNNO" and "queue_id" in request:  # what is not settled would be given back
            assert client.ask(**{**request, "protocol_state": "END-OF-MESSAGE"}) == "DUNNO"
    client.close()
    expected = {"DUNNO", "553 5.7.1", "553 5.1.7", "554 5.7.1", "530 5.7.0", "450 4.7.1", "552 5.3.4"}
    assert verdicts >= expected | {"DEFER_IF_PERMIT 4.3.0"}


SHARED = """\
limits:
  domains: {default: tenant, any.example: small}
  networks: {default: host}
  relay: all
"""


@pytest_twisted.ensureDeferred
async def test_explain_and_the_daemon_agree_on_limits_that_many_share(directory: Path) -> None:
    settings = directory / "config.yaml"
    plans = "plans:\n  tenant: [40 recipients per hour]\n  host: [6 messages per hour]\n"
    plans += "  all: [45 recipients per day]\n"
    settings.write_text(settings.read_text().replace("plans:\n", plans) + SHARED)
    with open_book(directory / "ledger.sqlite") as book:
        for subject, *terms in (("login:bob", "+9 recipients"), ("login:carol", "exempt")):
            grant = Grant("", subject, parse_terms(terms), "tests", "a test", time.time(), None)
            book.block(grant.block)
    process = Process(directory)
    process.wait_for("state=ok")
    client, chance, told = Client(directory / "policy"), random.Random(4), ""
    for number in range(60):
        login = chance.choice(["alice", "bob", "carol", "ivan"])
        request = attributes(
            protocol_state="DATA",
            sasl_username=login,
            sender=f"{login}@{'any.example' if login == 'ivan' else 'example.org'}",
            client_address=chance.choice(["198.51.100.7", "192.0.2.3", "2001:db8::1"]),
            recipient_count=chance.choice([1, 1, 2, 2, 3, 10]),
            size=chance.choice([0, 1_000_001]),
            instance=f"{number:x}.1.1.0",
            queue_id=f"Q{number}",
            recipient="",
        )
        explanation = await explained(directory, request_from(**request))
        client.send(encode_request(request))
        answer = client.read()
        assert code_of(answer) == code_of(explanation.answer), (request, answer, explanation.answer)
        told += f"{answer}\n"
        if answer == "DUNNO":
            assert client.ask(**{**request, "protocol_state": "END-OF-MESSAGE"}) == "DUNNO"
    client.close()
    assert process.end() == 0
    for words in ("your domain example.org, all", "your network ", "this relay, all", "login bob: used"):
        assert words in told, told


def _nameless(answer: str | None) -> str:
    return re.sub(r"incident [0-9A-F]{8}", "incident", answer or "")


@pytest_twisted.ensureDeferred
async def test_explaining_charges_nothing(running: Path) -> None:
    for _ in range(5):
        explanation = await explained(
            running, request_of(_options("bob", "bob@example.org", recipients=2, state="DATA"))
        )
        assert explanation.answer == "DUNNO"
        assert [standing.used for standing in explanation.standings or ()] == [0, 0]


def _options(principal: str, sender: str, **changes: object) -> SimpleNamespace:
    options = {"recipient": "", "state": "RCPT", "recipients": 1, "size": 0, "client_address": ""}
    options |= {"context": "submission", "no_tls": False}
    return SimpleNamespace(principal=principal, sender=sender, **(options | changes))


@pytest_twisted.ensureDeferred
async def test_a_person_reads_which_entry_grants_the_sender_and_what_every_restriction_says(
    running: Path,
) -> None:
    granted = await explained(running, request_of(_options("alice", "Alice_Lastname@example.net")))
    text = as_text(granted)
    assert "login alice (plan default, domain example.org)" in text
    assert "alias alice_lastname of login alice at example.net, alias of example.org" in text
    assert re.search(r"restriction +sender +enforce +passes", text)
    assert "500 recipients per day: 0 used, 500 left" in text
    assert text.endswith("RCPT: DUNNO")
    refused = await explained(running, request_of(_options("alice", "bob@example.org")))
    text = as_text(refused)
    assert "no entry of login alice gives it" in text
    assert re.search(r"restriction +sender +enforce +553 5.7.1 .* \[not owned\]", text)
    assert re.search(r"restriction +limits +enforce +passes", text)
    assert refused.exit_status == 1
    assert as_json(refused)["restriction"] == "sender"


@pytest_twisted.ensureDeferred
async def test_without_a_ledger_it_says_so_and_makes_none(directory: Path) -> None:
    explanation = await explained(directory, request_of(_options("alice", "alice@example.org")))
    assert explanation.exit_status == 75
    assert "ledger        unavailable" in as_text(explanation)
    assert not (directory / "ledger.sqlite").exists()


@pytest_twisted.ensureDeferred
async def test_without_a_directory_it_says_so(running: Path) -> None:
    (running / "directory.yaml").unlink()
    explanation = await explained(running, request_of(_options("alice", "alice@example.org")))
    assert explanation.exit_status == 75
    assert "the directory cannot answer now" in as_text(explanation)


def test_the_command_says_it_with_its_exit_status(running: Path) -> None:
    settings = running / "config.yaml"
    assert submitward(settings, "explain", "alice", "alice@example.org").returncode == 0
    refused = submitward(settings, "explain", "login:alice", "bob@example.org", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["answer"].startswith("553 5.7.1")
    assert submitward(settings, "explain", f"certificate:{PRINTER}", "printer@example.org").returncode == 0
    assert submitward(settings, "explain", "network:192.0.2.0/28", "app@example.org").returncode == 0
    assert submitward(settings, "explain", "alice", "alice@example.org", "--no-tls").returncode == 1
    assert submitward(settings, "explain", "nobody", "x@y.example", "--context", "mx").returncode == 0
    assert submitward(settings, "explain", "frank", "frank@example.org").returncode == 75
    far = submitward(
        settings, "explain", "alice", "alice@example.org", "--state", "DATA", "--recipients", "101"
    )
    assert far.returncode == 1
    assert "101 recipients" in far.stdout
    for wrong in (["printer:x", "a@b"], ["certificate:zz", "a@b"], ["network:zz", "a@b"], ["", "a@b"]):
        said = submitward(settings, "explain", *wrong)
        assert said.returncode == 2, wrong
        assert "Traceback" not in said.stderr
    (running / "config.yaml").write_text("version: 2\n")
    assert submitward(settings, "explain", "alice", "alice@example.org").returncode == 2


@pytest_twisted.ensureDeferred
async def test_a_block_shows(running: Path) -> None:
    from ledger.settings import open_ledger

    ledger = open_ledger(load_settings(running / "config.yaml").ledger, reactor=reactor, log=_Silent())
    ledger.start()
    await ledger.block(Block("", "login:alice", "sending", "ops", "spam", "call us", time.time(), None))
    await ledger.stop()
    explanation = await explained(running, request_of(_options("alice", "alice@example.org")))
    assert explanation.exit_status == 1
    assert "login alice is blocked from sending: call us" in as_text(explanation)


class _Silent:
    def __getattr__(self, _: str) -> object:
        return lambda *_, **__: None
