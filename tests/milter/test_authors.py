"""The tables of From fields through a real Postfix: what is refused is refused by the check and by nothing
else, since it passes when the check is off; what ordinary programs write passes."""

from __future__ import annotations

from dataclasses import replace
from smtplib import SMTP
from typing import Any

import pytest_twisted
from twisted.internet import reactor

from tests.milter.fields import HOSTILE, ORDINARY, Row
from tests.milter.mail_host import MailHost, mail_host, threaded

ALICE = "alice@example.org"


def carried(row: Row) -> bool:
    """Whether SMTP brings the field as it stands: Postfix refuses NUL, and mends a bare CR or LF itself."""
    return not (set(row.value) & {0x00, 0x0D})


def say(client: SMTP, data: bytes, sender: str = ALICE) -> tuple[int, str]:
    """One message, `data` being what stands before its Subject; what was answered at its end."""
    for code, text in (client.mail(sender), client.rcpt("someone@elsewhere.example")):
        assert code == 250, text
    code, text = client.data(data + b"Subject: test\r\n\r\nHello.\r\n")
    return code, text.decode("ascii")


def field(value: bytes, name: bytes = b"From") -> bytes:
    blank = b"" if value[:1] in (b" ", b"\n", b"\t") else b" "
    return name + b":" + blank + value.replace(b"\n", b"\r\n") + b"\r\n"


def answers(host: MailHost, said: list[bytes]) -> list[tuple[int, str]]:
    """Each in its own transaction, all on one connection."""
    client = host.connect()
    found = [say(client, data) for data in said]
    client.quit()
    return found


def set_mode(host: MailHost, mode: Any) -> None:
    judge = host.stage.service.judge
    judge.rules = replace(judge.rules, mode=mode)


def own_more(host: MailHost) -> None:
    """What the table of ordinary fields says that alice owns."""
    file = host.stage.home / "directory.yaml"
    text = file.read_text("utf-8").replace(
        "[alice_lastname]", "[alice_lastname, rené@example.org, alice@bücher.example]"
    )
    file.write_text(text, "utf-8")


@pytest_twisted.ensureDeferred
async def test_hostile_authors_are_refused_by_the_check_and_by_nothing_else() -> None:
    rows = [row for row in HOSTILE if carried(row)]
    assert len(rows) >= 60
    async with mail_host(reactor) as host:
        said = [field(row.value) for row in rows]
        judged = await threaded(answers, host, said)
        wrong = [(row, got) for row, got in zip(rows, judged, strict=True) if got[0] != 550]
        assert not wrong
        assert await host.stage.used() == 0
        set_mode(host, "off")
        unjudged = await threaded(answers, host, said)
        wrong = [(row, got) for row, got in zip(rows, unjudged, strict=True) if got[0] != 250]
        assert not wrong


@pytest_twisted.ensureDeferred
async def test_what_ordinary_programs_write_is_delivered() -> None:
    assert len(ORDINARY) >= 30
    async with mail_host(reactor) as host:
        own_more(host)
        while "rené@example.org" not in (await host.stage.principal("alice")).addresses:
            await host.stage.pause(0.1)
        judged = await threaded(answers, host, [field(row.value) for row in ORDINARY])
        assert not [(row, got) for row, got in zip(ORDINARY, judged, strict=True) if got[0] != 250]


OWN = field(b"alice@example.org")
FOREIGN = field(b"bob@example.org")
#: Whole headers, and where the case is from; a blank line before Subject ends the header.
HEADERS = [
    (b"", "RFC 5322 3.6: From is required"),
    (b" From: alice@example.org\r\n", "RFC 5322 2.2: a first line that starts with a blank ends the header"),
    (b"From\r\n : alice@example.org\r\n", "RFC 5322 2.2: a line without a colon ends the header"),
    (b"X: y\r\n\r\n" + OWN, "RFC 5322 2.1: From below the blank line is body"),
    (b"\xc3\xa4: x\r\n" + OWN, "RFC 5322 2.2: a name that is not ASCII ends the header"),
    (OWN + FOREIGN, "RFC 5322 3.6: From once; VU#244112; OpenDKIM#157"),
    (FOREIGN + OWN, "RFC 5322 3.6: From once, the own one last"),
    (OWN + OWN, "RFC 5322 3.6: From once, also when it is the same"),
    (OWN + field(b"bob@example.org", b"FROM"), "RFC 5322 1.2.2: names have no case"),
    (OWN + b"From : bob@example.org\r\n", "RFC 5322 4.5: a blank before the colon; USENIX Security 2020"),
    (b"From : alice@example.org\r\n" + FOREIGN, "RFC 5322 4.5"),
    (OWN + b"From\t: bob@example.org\r\n", "RFC 5322 4.5: a tab before the colon"),
    (OWN + field(b"bob@example.org", b"Sender"), "RFC 5322 3.6.2: some readers show Sender; VU#244112"),
    (FOREIGN + field(b"alice@example.org", b"Sender"), "RFC 5322 3.6.2: an own Sender excuses no From"),
    (OWN + field(b"alice@example.org", b"Sender") * 2, "RFC 5322 3.6: Sender once"),
    (OWN + field(b"a@example.org, b@example.org", b"Sender"), "RFC 5322 3.6.2: one mailbox"),
    (OWN + field(b"bob@example.org", b"Resent-From"), "RFC 5322 3.6.6"),
    (OWN + field(b"bob@example.org", b"Resent-Sender"), "RFC 5322 3.6.6"),
    (OWN + field(b"x@y.example", b"Resent-To"), "RFC 5322 3.6.6"),
    (OWN + field(b"one", b"Subject"), "RFC 5322 3.6: Subject once (another follows)"),
    (OWN + field(b"a@b.example", b"To") * 2, "RFC 5322 3.6: To once"),
    (OWN + field(b"a@b.example", b"Cc") * 2, "RFC 5322 3.6: Cc once"),
    (OWN + field(b"a@b.example", b"Reply-To") * 2, "RFC 5322 3.6: Reply-To once"),
    (OWN + field(b"Sat, 21 Nov 2026 02:02:38 +0000", b"Date") * 2, "RFC 5322 3.6: Date once"),
    (OWN + field(b"<a@b.example>", b"Message-ID") * 2, "RFC 5322 3.6: Message-ID once"),
    (OWN + field(b"a\x1b[2Jb", b"Comments"), "RFC 5322 2.2: control characters"),
    (OWN + field(b"a\x07b", b"X-Bell"), "RFC 5322 2.2: control characters"),
    (OWN + field(b"x" * 1000, b"X-Long"), "RFC 5322 2.1.1: lines of 998 octets"),
    (OWN + field(b"x; y", b"Authentication-Results") * 101, "RFC 8601 1.6: no relay adds a hundred"),
    (b"X-Much: " + b"y" * 900 + b"\r\n" + (b" " + b"z" * 900 + b"\r\n") * 90 + FOREIGN, "RFC 5322 2.1.1"),
]
#: Headers that pass.
FINE = [
    OWN + field(b"bob@example.org", b"Reply-To"),
    OWN + field(b"alice@example.net", b"Sender"),
    OWN + field(b"list <list.example.org>", b"List-Id"),
    OWN + field(b"bob@example.org", b"X-From") + field(b"bob@example.org", b"Disposition-Notification-To"),
    OWN + b"Received: from a by b; x\r\n" * 3,
    OWN + b"References: <1@a>\r\n" + b"\t<2@a>\r\n" * 90,
    OWN + b"Content-Type: multipart/mixed; boundary=x\r\nMIME-Version: 1.0\r\n",
    OWN + field(b"x; y", b"Authentication-Results") * 50 + field(b"x", b"DKIM-Signature") * 50,
    OWN + field(b"spf=pass", b"Received-SPF") + field(b"i=1; a=b", b"ARC-Seal"),
]


@pytest_twisted.ensureDeferred
async def test_hostile_headers_are_refused_by_the_check_and_by_nothing_else() -> None:
    async with mail_host(reactor) as host:
        said = [header for header, _ in HEADERS]
        judged = await threaded(answers, host, said)
        wrong = [(row, got) for row, got in zip(HEADERS, judged, strict=True) if got[0] != 550]
        assert not wrong
        assert not [got for got in await threaded(answers, host, FINE) if got[0] != 250]
        set_mode(host, "off")
        unjudged = await threaded(answers, host, said)
        assert not [(row, got) for row, got in zip(HEADERS, unjudged, strict=True) if got[0] != 250]


def chunked(client: SMTP, data: bytes) -> tuple[int, bytes]:
    """One message by BDAT (RFC 3030), in three chunks."""
    client.mail(ALICE)
    client.rcpt("someone@elsewhere.example")
    for number, chunk in enumerate((data[:5], data[5:], b"")):
        client.send(f"BDAT {len(chunk)}{' LAST' if number == 2 else ''}\r\n".encode() + chunk)
        code, text = client.getreply()
        if code != 250:
            break
    return code, text


def each_alone(host: MailHost) -> list[int]:
    """Own and foreign messages on one connection, with everything in between that an MTA may hear."""
    own, foreign = (field(author) + b"Subject: x\r\n\r\nHello.\r\n" for author in (ALICE.encode(), b"b@c.d"))
    client, codes = host.connect(), []
    codes += [say(client, OWN)[0], say(client, FOREIGN)[0]]
    client.mail(ALICE)
    client.rset()
    codes += [say(client, FOREIGN)[0]]
    client.mail(ALICE)
    client.rcpt("someone@elsewhere.example")
    client.rset()
    codes += [say(client, OWN)[0], chunked(client, foreign)[0], chunked(client, own)[0]]
    client.mail(ALICE)
    client.rcpt("someone@elsewhere.example")
    client.send(b"BDAT 5\r\nFrom:")
    client.getreply()
    client.rset()
    codes += [chunked(client, foreign)[0], say(client, FOREIGN)[0], say(client, OWN)[0]]
    pipelined = f"MAIL FROM:<{ALICE}>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\n".encode()
    client.send(pipelined)
    client.getreply(), client.getreply(), client.getreply()
    client.send(own + b".\r\n" + pipelined)
    codes += [client.getreply()[0]]
    client.getreply(), client.getreply(), client.getreply()
    client.send(foreign + b".\r\n")
    codes += [client.getreply()[0]]
    client.quit()
    return codes


@pytest_twisted.ensureDeferred
async def test_each_message_of_a_connection_is_judged_alone() -> None:
    async with mail_host(reactor) as host:
        own, foreign = 250, 550
        assert await threaded(each_alone, host) == [
            *(own, foreign),
            *(foreign, own, foreign, own),
            *(foreign, foreign, own, own, foreign),
        ]
        assert await host.stage.used() == 5


@pytest_twisted.ensureDeferred
async def test_a_long_line_is_refused_through_postfix_and_costs_nothing() -> None:
    async with mail_host(reactor) as host:
        client = await threaded(host.connect)
        body = OWN + b"Subject: x\r\n\r\n" + b"y" * 70_000 + b"\r\n"
        code, text = await threaded(chunked, client, body)
        assert (code, text[:5]) == (550, b"5.6.0")
        assert await host.stage.used() == 0
        code, text = await threaded(chunked, client, OWN + b"\r\n" + (b"y" * 998 + b"\r\n") * 200)
        assert code == 250, text
        await threaded(client.quit)
