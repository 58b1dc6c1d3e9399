"""`submitward explain --message`: what a real Postfix and the milter say of a message, said of a file."""

from __future__ import annotations

import io
import json
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor

from directory.address import Rules as AddressRules
from directory.drafts import Reading
from directory.file import read_file
from directory.identity import Principal
from milter.questions import KeysUnknown, Rules
from milter.tables import parse_tables
from submitward.message_explanation import MessageExplanation, as_json, as_text, explain_message
from submitward.message_file import CHUNK, FIELD_MAX, MessageFile
from tests.milter.fields import HOSTILE, ORDINARY
from tests.milter.mail_host import MailHost, mail_host, threaded
from tests.milter.stage import FIXTURES
from tests.milter.test_authors import FINE, HEADERS, OWN, field, own_more
from tests.policyd.house import private_directory
from tests.submitward.command import submitward

END = b"Subject: test\r\n\r\nHello.\r\n"
#: Messages whose way into the header is Postfix's doing.
ODD = [
    b"From MAILER-DAEMON Mon Nov 23 10:00:00 2026\r\n" + OWN + END,
    b">From the start\r\n" + OWN + END,
    OWN + b"From here on\r\n" + END,
    OWN + b"X-Odd: a\rb\r\n" + END,
    OWN + b"X-Odd: a\r\r\n" + END,
    OWN + b"X-Odd: a\n" + END,
    OWN + b" \r\n" + END,
    b"X: y\r\n \r\n" + OWN + END,
    b"\r\n" + OWN + END,
    OWN
    + field(b"a@b.example", b"Bcc") * 2
    + field(b"x", b"Resent-Bcc")
    + field(b"\x07", b"Content-Length")
    + END,
    OWN + field(b"x\r\n y", b"RETURN-PATH") * 2 + b"bcc :\x07\r\n" + END,
    OWN + END + b"x" * 999 + b"\r\n",
    OWN + END + b"x" * 998 + b"\r\n",
    OWN + END + b"x" * 3000 + b"\ry\r\n",
    OWN + b"X-Long: " + b"y" * 2100 + b"\r\n" + END,
    OWN + b"X-Folded: y" + b"\r\n y" * 20_000 + b"\r\n" + END,
    OWN + b"X-Folded: y" + b"\r\n y" * 40_000 + b"\x07\r\n" + END,
    OWN + (b"X-Many: " + b"y" * 900 + b"\r\n") * 300 + END,
    OWN[:-2],
    OWN,
    OWN + b"Subject: x\r\n\r\n",
    OWN + b"X : y\r\n: z\r\n" + END,
    OWN + b"X\xc3\xa4: y\r\n" + END,
    OWN + field(b"\xff\xfe", b"X-Latin") + END,
    field(b"Alice\x00 <alice@example.org>") + END,
    OWN + END + b"a\x00b\r\n",
]
_INCIDENT = re.compile(r"\(incident \w+\)")


def read(data: bytes, principal: Principal | str | None, rules: Rules = Rules(), keys: Any = None):  # noqa: B008
    return explain_message(MessageFile(io.BytesIO(data)), principal, rules, keys)


def answers(host: MailHost, said: list[bytes]) -> list[tuple[int, str]]:
    client, found = host.connect(), []
    for data in said:
        client.mail("alice@example.org")
        client.rcpt("someone@elsewhere.example")
        code, text = client.data(data)
        found.append((code, _INCIDENT.sub("", text.decode())))
    client.quit()
    return found


def agree(code: int, text: str, explanation: MessageExplanation) -> bool:
    if explanation.before:
        return code == 550 and explanation.exit_status == 1
    if code == 250:
        return explanation.answer == "continue"
    return f"{code} {text}" == _INCIDENT.sub("", explanation.answer)


@pytest_twisted.ensureDeferred
async def test_it_says_what_postfix_and_the_milter_say() -> None:
    said = [field(row.value) + END for row in (*HOSTILE, *ORDINARY) if len(row.value) < 20_000]
    said += [header + END for header, _ in HEADERS] + [header + END for header in FINE] + ODD
    async with mail_host(reactor) as host:
        own_more(host)
        while "rené@example.org" not in (await host.stage.principal("alice")).addresses:
            await host.stage.pause(0.1)
        principal, rules = await host.stage.principal("alice"), host.stage.service.judge.rules
        heard = await threaded(answers, host, said)
        for data, (code, text) in zip(said, heard, strict=True):
            explanation = read(data, principal, rules)
            assert agree(code, text, explanation), (data[:300], code, text, explanation.answer)
            if data.count(b"\n") == data.count(b"\r\n") == data.count(b"\r"):
                unix = read(data.replace(b"\r\n", b"\n"), principal, rules)
                assert (unix.answer, unix.fields) == (explanation.answer, explanation.fields), data[:300]


@pytest.fixture(scope="module")
def alice() -> Principal:
    roll = read_file(FIXTURES / "directory.yaml", Reading({"example.org": ("example.net",)}, AddressRules()))
    return roll.logins["alice"]


def says(explanation: MessageExplanation, name: str) -> list[tuple[str, str]]:
    return [(seen.outcome, seen.says) for seen in explanation.fields if seen.name == name]


def test_each_field_is_told(alice: Principal) -> None:
    data = (
        b"From: Alice <alice@example.org>, bob@example.org\nTo: a\nSender: alice@example.net\nTo: b\n"
        b"Resent-From: x\nX-Bell: \x07\nX-Long: " + b"y" * 1000 + b"\nX-Fine: z\n\nHello\n"
    )
    explanation = read(data, alice)
    assert says(explanation, "From")[0][1].startswith("names more than one mailbox")
    assert says(explanation, "Sender") == [("pass", "one mailbox, <alice@example.net>")]
    assert says(explanation, "To") == [("pass", ""), ("refuse", "stands more than once")]
    assert [says(explanation, name)[0][0] for name in ("Resent-From", "X-Bell", "X-Long", "X-Fine")] == [
        *("refuse", "refuse", "refuse", "pass")
    ]
    refused = [finding.question for finding in explanation.review if finding.outcome == "refuse"]
    assert refused == ["fields once", "controls", "line length", "Resent", "author"]
    assert explanation.answer.startswith("550 5.6.0 the field to stands more than once")


def test_what_is_taken_out_is_told(alice: Principal) -> None:
    data = OWN + b"DKIM-Signature: x\r\nAuthentication-Results: a.b; c\r\nDKIM-Signature: y\r\n\r\n"
    explanation = read(data, alice)
    assert [said for _, said in says(explanation, "DKIM-Signature")] == [
        "taken out: it is not the client's to say"
    ] * 2
    assert says(explanation, "Authentication-Results") == [("pass", "")]
    assert [claim.number for claim in explanation.verdict.removed] == [2, 1]


def test_nothing_of_a_message_can_steer_a_terminal(alice: Principal) -> None:
    text = as_text(read(b"From: \x1b[2J\xe2\x80\xae\xff <alice@example.org>\nX: \x9b\x07\n\n", alice))
    assert all(letter.isprintable() or letter == "\n" for letter in text)


@pytest.mark.parametrize(
    ("principal", "rules", "keys", "answer", "status"),
    [
        ("away", Rules(), None, "451 4.3.0", 75),
        (None, Rules(), None, "refused by policyd", 1),
        (None, Rules(by_record=False), None, "550 5.7.1 neither a login", 1),
        ("alice", Rules(), KeysUnknown("no table"), "451 4.3.0", 75),
        ("alice", Rules(), parse_tables("", ""), "451 4.7.5", 1),
        ("alice", Rules(missing_key_is_temporary=False), parse_tables("", ""), "550 5.7.5", 1),
        ("alice", Rules(mode="observe"), parse_tables("", ""), "continue", 0),
        ("alice", Rules(mode="off"), parse_tables("", ""), "continue", 0),
        ("alice", Rules(), parse_tables("k example.org:s:/k", "*@example.org k"), "continue", 0),
    ],
)
def test_the_exit_status_tells_passes_refused_and_unknown(
    alice: Principal, principal: str | None, rules: Rules, keys: Any, answer: str, status: int
) -> None:
    explanation = read(OWN + END, alice if principal == "alice" else principal, rules, keys)
    assert explanation.answer.startswith(answer)
    assert explanation.exit_status == status
    assert ("enforcing would answer 451 4.7.5" in as_text(explanation)) is (rules.mode != "enforce")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_file_is_read_alike_in_whatever_pieces_it_comes(size: int) -> None:
    class Dripping(io.BytesIO):
        def readline(self, most: int | None = -1) -> bytes:
            return super().readline(size)

        def read(self, most: int | None = -1) -> bytes:
            return super().read(size)

    data = b"A: b\r\n\tc\r\nD:e\n\r\none\r\ntwo\nthree\r\r\n\rfour"
    whole, dripping = MessageFile(io.BytesIO(data)), MessageFile(Dripping(data))
    assert list(dripping.fields()) == list(whole.fields()) == [(b"A", b" b\n\tc"), (b"D", b"e")]
    body = b"".join(whole.body())
    assert b"".join(dripping.body()) == body == b"one\r\ntwo\r\nthree \r\n four"
    assert dripping.size == whole.size == len(data)


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n", b"x", b"\0", b"\r", bytes(range(256)), b":\n", b"a:"])
def test_whatever_is_no_message_has_no_author(alice: Principal, data: bytes) -> None:
    explanation = read(data, alice)
    assert explanation.exit_status == 1
    assert "From" not in [seen.name for seen in explanation.fields]


PIECES = st.sampled_from(
    [
        *(b"From", b"Sender", b"Resent-To", b"DKIM-Signature", b":", b" ", b"\t", b"\r", b"\n", b"\r\n"),
        *(b"\0", b"<", b"@", b"alice@example.org", b"From x", b"\xff", b"x" * 1000, b"=?utf-8?q?a?=", b"("),
    ]
)


@given(st.one_of(st.binary(max_size=300), st.lists(PIECES, max_size=25).map(b"".join)), st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_explained(alice: Principal, data: bytes, strict: bool) -> None:
    explanation = read(data, alice, Rules(strict_names=strict))
    assert explanation.exit_status in (0, 1)
    text = as_text(explanation)
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert json.loads(json.dumps(as_json(explanation)))["answer"] == explanation.answer
    if explanation.exit_status == 0:
        assert explanation.verdict.author.lower() in ("alice@example.org", "alice@example.net")


class Endless(io.RawIOBase):
    """`start`, then `size` octets of `piece` without ever holding them."""

    def __init__(self, start: bytes, piece: bytes, size: int) -> None:
        self.rest, self.piece, self.left, self.largest = start, piece, size, 0

    def read(self, most: int = -1) -> bytes:
        if not self.rest and self.left > 0:
            self.rest = self.piece * (1 + 65536 // len(self.piece))
            self.left -= len(self.rest)
        data, self.rest = self.rest[:most], self.rest[most:]
        return data

    def readline(self, most: int | None = -1) -> bytes:
        data = self.read(most or -1)
        line, end, rest = data.partition(b"\n")
        self.rest = rest + self.rest
        return line + end


@pytest.mark.parametrize(
    ("start", "piece", "answer"),
    [
        (OWN + b"\r\n", b"x" * 70 + b"\n", "continue"),
        (OWN + b"\r\n", b"x", "550 5.6.0 a line of the body"),
        (OWN + b"X: ", b"y", "550 5.6.0 a line of the field x"),
        (OWN, b"X-Many: y\n", "550 5.6.0 the header is larger"),
        (b"", b"x", "550 5.6.0 the message has no From"),
        (OWN + b"X: y\n", b" z\n", "continue"),
    ],
)
def test_a_message_of_any_size_takes_no_memory(
    alice: Principal, start: bytes, piece: bytes, answer: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stream: Any = Endless(start, piece, 40_000_000 if len(piece) in (1, 71) else 600_000)
    explanation = explain_message(MessageFile(stream), alice, Rules(), None)
    assert explanation.answer.startswith(answer)
    assert explanation.size > 500_000
    assert len(explanation.fields) <= 400
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kB


def test_a_field_is_cut_where_postfix_cuts_it() -> None:
    (fields,) = [list(MessageFile(io.BytesIO(b"X: " + b"y" * 200_000 + b"\nA: b\n")).fields())]
    assert [(name, len(value)) for name, value in fields] == [(b"X", FIELD_MAX - 2), (b"A", 2)]
    assert all(len(chunk) <= CHUNK for chunk in MessageFile(io.BytesIO(b"\n" + b"z\r\n" * 99_999)).body())


# -- the command


@pytest.fixture
def house() -> Iterator[Path]:
    with private_directory() as made:
        (made / "own.eml").write_bytes(OWN.replace(b"\r\n", b"\n") + b"Subject: x\n\nHello.\n")
        yield made


def run(house: Path, *arguments: str, stdin: str = "") -> Any:
    return submitward(house / "config.yaml", "explain", *arguments, stdin=stdin)


def test_a_file_and_standard_input_are_explained(house: Path) -> None:
    own = str(house / "own.eml")
    done = run(house, "alice", "--message", own)
    assert (done.returncode, done.stderr) == (0, "")
    assert "one mailbox, <alice@example.org>" in done.stdout
    assert done.stdout.endswith("answer        continue\n")
    done = run(house, "bob", "--message", "-", "--json", stdin=(house / "own.eml").read_text())
    said = json.loads(done.stdout)
    assert done.returncode == 1
    assert said["answer"].startswith("550 5.7.1 login bob does not own the From address")
    assert (said["reason"], said["principal"], said["field_count"]) == ("from_not_owned", "login:bob", 2)
    assert not (house / "ledger.sqlite").exists()


def test_other_principals_are_explained_too(house: Path) -> None:
    own = str(house / "own.eml")
    done = run(house, "network:192.0.2.0/28", "--message", own)
    assert (done.returncode, "network 192.0.2.0/28 does not own the From" in done.stdout) == (1, True)
    done = run(house, "mallory", "--message", own)
    assert (done.returncode, "answer        refused by policyd" in done.stdout) == (1, True)


def test_what_cannot_be_read_is_said(house: Path) -> None:
    done = run(house, "alice", "--message", str(house / "none.eml"))
    assert done.returncode == 2
    assert done.stderr == f"{house}/none.eml: cannot be read: No such file or directory\n"
    done = run(house, "alice", "--message", str(house))
    assert (done.returncode, "cannot be read: Is a directory" in done.stderr) == (2, True)
    for arguments in (("alice",), ("alice", "alice@example.org", "--message", str(house / "own.eml"))):
        done = run(house, *arguments)
        assert done.returncode == 2
        assert done.stderr == "name either an envelope sender, or a message with --message FILE\n"
    (house / "directory.yaml").write_text("broken: [")
    done = run(house, "alice", "--message", str(house / "own.eml"))
    assert (done.returncode, "answer        451 4.3.0" in done.stdout) == (75, True)


def test_tables_that_cannot_be_read_are_told(house: Path) -> None:
    text = (house / "config.yaml").read_text()
    sign = f"sign: {{by: opendkim, key_table: {house}/KeyTable, signing_table: {house}/SigningTable}}\n"
    (house / "config.yaml").write_text(text + sign)
    done = run(house, "alice", "--message", str(house / "own.eml"))
    assert (done.returncode, "key          defer   451 4.3.0" in done.stdout) == (75, True)
