"""What leaves is signed, and the signature holds as delivered.

dkimpy and OpenDKIM verify it, d= is the domain of the visible author, and no second From, Subject or To can
be added. What comes in at port 25 is never signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import EmailMessage
from itertools import pairwise
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.lab.cast import Cast
from tests.lab.client import FRIEND, Session, compose, token
from tests.lab.evidence import Delivered, delivered, used
from tests.lab.story import ALICE
from tests.lab.verifier import Verifier
from tests.milter.fields import ORDINARY

BOB, BOB_NET = "bob@example.org", "bob@example.net"
DATE = b"Date: Sat, 21 Nov 2026 02:02:38 +0000\r\n"


@pytest.fixture(scope="module")
def verifier(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    return Verifier(lab, tmp_path_factory.mktemp("verifier"))


@pytest.fixture
def bob(cast: Cast) -> Iterator[Session]:
    with cast.login("bob") as session:
        yield session


def plain(body: bytes, *fields: bytes, author: str = BOB, subject: bytes = b"{token}") -> bytes:
    lines = [f"From: {author}".encode(), b"To: " + FRIEND.encode(), b"Subject: " + subject, *fields]
    return b"\r\n".join(lines) + b"\r\n" + DATE + b"\r\n" + body


def nested() -> bytes:
    """A message in a message in a message, with attachments."""
    inner = EmailMessage()
    inner["From"], inner["To"], inner["Subject"] = "admin@example.com", FRIEND, "inner"
    inner.set_content("inner text, ümläut")
    middle = EmailMessage()
    middle["From"], middle["Subject"] = "somebody@example.com", "middle"
    middle.set_content("middle")
    middle.add_attachment(inner)
    outer = EmailMessage()
    outer["From"], outer["To"], outer["Subject"] = BOB, FRIEND, "{token}"
    outer.set_content("plain")
    outer.add_alternative("<p>rich</p>", subtype="html")
    outer.add_attachment(middle)
    outer.add_attachment(
        bytes(range(256)) * 40, maintype="application", subtype="octet-stream", filename="ä.bin"
    )
    return outer.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


TEXT = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nMIME-Version: 1.0"
#: A signature of somebody else, that of a list for instance: it stays.
OTHERS = (
    b"DKIM-Signature: v=1; a=rsa-sha256; d=elsewhere.example; s=k; h=from; b=QUJDRA==;"
    b" bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
)
#: A line here is a test. {token} names the message in the sink.
MESSAGES: dict[str, bytes] = {
    "plain": plain(b"Hello.\r\n"),
    "the alias of the domain": plain(b"Hello.\r\n", author=f"Bob <{BOB_NET}>"),
    "8-bit": plain("Grüße, 王小明\r\n".encode(), TEXT),
    "Latin 1 that says nothing of itself": plain(b"Gr\xfc\xdfe\r\n"),
    "8-bit subject": plain(b"x\r\n", subject="{token} Grüße".encode()),
    "UTF-8 name": plain(b"x\r\n", author=f"Bøb <{BOB}>"),
    "encoded name": plain(b"x\r\n", author=f"=?utf-8?q?B=C3=B8b?= <{BOB}>"),
    "folded fields": plain(
        b"x\r\n",
        b"References: <1@a.example>\r\n\t<2@a.example>\r\n   <3@a.example>",
        b"X-Fold:\r\n a  b \t c  ",
        author=f"Bob\r\n\t<{BOB}>",
        subject=b"{token} and\r\n then\r\n\tmore  ",
    ),
    "cron's author": plain(b"x\r\n", author=f"{BOB} (Cron Daemon)"),
    "every oversigned field": plain(
        b"x\r\n",
        b"Sender: bob@example.net\r\nReply-To: somebody@example.com\r\nCc: a@example.com",
        b"Message-ID: <x@y.example>",
        TEXT,
    ),
    "no field that may be left out": b"From: bob@example.org\r\nX-Token: {token}\r\n\r\nHello.\r\n",
    "names in odd case": b"fROM: bob@example.org\r\nSUBJECT: {token}\r\nmime-version: 1.0\r\n\r\nHello.\r\n",
    "blanks before a colon": b"Subject\t: {token}\r\nFrom : bob@example.org\r\n\r\nHello.\r\n",
    "empty body": plain(b""),
    "empty body without the blank line": plain(b"")[:-2],
    "body of blank lines": plain(b"\r\n" * 30),
    "blank lines at the end": plain(b"x\r\n" + b"\r\n" * 30),
    "blanks at line ends": plain(b"x  \t\r\n  y\t\r\n \r\n"),
    "dots": plain(b".\r\n..\r\n.x\r\n"),
    "no line end at the end": plain(b"Hello."),
    "bare LF": plain(b"one\ntwo\n\nthree\r\n"),
    "bare CR": plain(b"one\rtwo\r\r\nthree\r\n"),
    "bare CR in a field": plain(b"x\r\n", b"X-Odd: a\rb"),
    "From in the body": plain(b"From: admin@example.com\r\nFrom the start\r\n>From here\r\n"),
    "998 octets in a line": plain(b"x" * 998 + b"\r\n", b"X-Long: " + b"y" * 990),
    "a list's fields": plain(
        b"x\r\n",
        b"List-Id: <l.example.org>\r\nList-Unsubscribe: <https://example.org/u>\r\n"
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click",
    ),
    "results of a relay before us": plain(
        b"x\r\n", b"Authentication-Results: other.example; spf=pass", b"Received: from a by b; " + DATE[6:-2]
    ),
    "results in our name": plain(
        b"x\r\n",
        b"Authentication-Results: relay.example.org; spf=pass\r\nAuthentication-Results: lab; dkim=pass",
        b"Authentication-Results: example.org; dmarc=pass",
    ),
    "a signature that does not parse": plain(b"x\r\n", b"DKIM-Signature: v=1; nonsense"),
    "an empty signature": plain(b"x\r\n", b"DKIM-Signature:"),
    "a signature with a blank before its colon": plain(b"x\r\n", b"dkim-signature : x"),
    "a signature that says too little": plain(b"x\r\n", b"DKIM-Signature: v=1; d=evil.example; s=x"),
    "two broken signatures in our name": plain(
        b"x\r\n",
        *[b"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=s2026a; h=from; b=AAAA; bh=AAAA"] * 2,
    ),
    "70 kB of header": plain(b"x\r\n", *[b"X-Much: " + b"y" * 982] * 70),
    "250 kB of header": plain(b"x\r\n", *[b"X-Much: " + b"y" * 982] * 250),
    "20000 fields": plain(b"x\r\n", *[b"X-Many: y"] * 20_000),
    "3000 readers to see": plain(b"x\r\n", b"Cc: " + b",\r\n ".join([b"somebody.else@example.com"] * 3000)),
    "nested": nested(),
    "100 kB": plain(b"0123456789abcdef" * 4 + b"\r\n") + (b"0123456789abcdef" * 4 + b"\r\n") * 1500,
    "25 MB": plain((b"A" * 76 + b"\r\n") * (25_000_000 // 78)),
}


def check(mail: Delivered, verifier: Verifier) -> str:
    """What is wrong with a delivered message, ``""`` for nothing."""
    said = verifier.says(mail.message)
    if not said.endswith("succeeded"):
        return f"OpenDKIM: {said}"
    if not mail.is_aligned:
        return f"dkimpy: d={mail.signing_domain!r}, From {mail.author}"
    header = re.sub(rb"\r\n[ \t]+", b" ", mail.message.partition(b"\r\n\r\n")[0])
    signatures = re.findall(rb"(?mi)^dkim-signature:(.*)$", header)
    if len(signatures) != 1 or re.search(rb"\bl=", signatures[0]):
        return f"{len(signatures)} signatures, or one with l="
    times = {name: int(value) for name, value in re.findall(rb"\b([tx])=([0-9]+)", signatures[0])}
    if times[b"x"] - times[b"t"] <= 5 * 86400:
        return "x= is not above the queue lifetime of five days"
    return ""


def gains(mail: Delivered, verifier: Verifier) -> str:
    """The field that can be added to a delivered message, above or below its header, ``""`` for none."""
    header, _, body = mail.message.partition(b"\r\n\r\n")
    header = header.removesuffix(b"\r\n")
    for added in (b"From: admin@example.com", b"Subject: other", b"To: other@example.com"):
        for fields in (added + b"\r\n" + header, header + b"\r\n" + added):
            changed = fields + b"\r\n\r\n" + body
            if Delivered(b"\r\n\r\n" + changed, mail.names).signing_domain or verifier.verifies(changed):
                return added.decode()
    return ""


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_taken_is_signed_as_it_is_delivered(
    lab: Lab, bob: Session, verifier: Verifier, name: str
) -> None:
    word = token()
    reply = bob.send(BOB, [FRIEND], MESSAGES[name].replace(b"{token}", word.encode()))
    assert reply.code == 250, str(reply)
    (mail,) = delivered(lab, word, seconds=60)
    assert check(mail, verifier) == ""
    if len(mail.message) < 100_000:
        assert gains(mail, verifier) == ""
    if name == "results in our name":
        assert b"pass" not in mail.message


def as_bobs(value: bytes) -> bytes:
    """An ordinary From of alice's, written by bob, at the domains that have keys here."""
    value = re.sub(rb"(?i)alice(?:_lastname)?@(example\.(?:org|net))", rb"bob@\1", value)
    return value if value[:1] in (b" ", b"\n") else b" " + value


def test_every_from_that_ordinary_programs_write_is_signed_for_its_domain(
    lab: Lab, bob: Session, verifier: Verifier
) -> None:
    shapes = [as_bobs(row.value) for row in ORDINARY]
    shapes = [shape for shape in shapes if b"bob@" in shape]
    assert len(shapes) >= 30
    words = [token() for _ in shapes]
    for shape, word in zip(shapes, words, strict=True):
        field = b"From:" + shape.replace(b"\n", b"\r\n")
        lines = [field, b"To: " + FRIEND.encode(), b"Subject: " + word.encode(), b"", b"Hello.", b""]
        reply = bob.send(BOB, [FRIEND], b"\r\n".join(lines))
        assert reply.code == 250, (shape, str(reply))
    wrong = []
    for shape, word in zip(shapes, words, strict=True):
        (mail,) = delivered(lab, word)
        if not mail.is_aligned or not verifier.verifies(mail.message):
            wrong.append((shape, mail.signing_domain))
    assert not wrong


def test_a_signature_of_somebody_else_stays_between_broken_ones(lab: Lab, bob: Session) -> None:
    word = token()
    fields = (b"DKIM-Signature: v=1; a=b", OTHERS, b"DKIM-Signature: y", b"dkim-signature : z")
    reply = bob.send(BOB, [FRIEND], plain(b"x\r\n", *fields, subject=word.encode()))
    assert reply.code == 250, str(reply)
    (mail,) = delivered(lab, word)
    assert mail.is_aligned
    assert len(re.findall(rb"(?mi)^dkim-signature", mail.message)) == 2
    assert OTHERS in mail.message


def test_a_header_over_256_kb_is_refused_for_good_and_costs_nothing(lab: Lab, bob: Session) -> None:
    before = used(lab, "bob")
    reply = bob.send(BOB, [FRIEND], plain(b"x\r\n", *[b"X-Much: " + b"y" * 982] * 300))
    assert (reply.code, reply.enhanced) == (550, "5.6.0"), str(reply)
    assert (used(lab, "bob") - before)["messages"] == 0


def test_an_internationalized_message_is_signed(lab: Lab, bob: Session, verifier: Verifier) -> None:
    word = token()
    bob.smtp.command_encoding = "utf-8"
    message = plain("Grüße\r\n".encode(), author=f"Bøb <{BOB}>", subject=f"{word} Grüße".encode())
    reply = bob.send(BOB, ["jøran@elsewhere.example"], message, options="SMTPUTF8 BODY=8BITMIME")
    assert reply.code == 250, str(reply)
    (mail,) = delivered(lab, word)
    assert check(mail, verifier) == ""
    assert gains(mail, verifier) == ""


def test_a_message_in_chunks_is_signed_between_one_that_is_refused_and_one_that_is_reset(
    lab: Lab, bob: Session, verifier: Verifier
) -> None:
    """BDAT (RFC 3030), cut inside a line end, on a connection that goes on."""

    def begin(author: str, word: str, cuts: list[int]) -> list[tuple[int, bytes]]:
        message = plain("Grüße\r\n".encode() * 9000, TEXT, author=author, subject=word.encode())
        bob.command("MAIL", f"FROM:<{BOB}> BODY=8BITMIME")
        bob.command("RCPT", f"TO:<{FRIEND}>")
        replies = []
        for start, end in pairwise([0, *cuts, len(message)]):
            last = " LAST" if end == len(message) else ""
            bob.smtp.send(f"BDAT {end - start}{last}\r\n".encode() + message[start:end])
            replies.append(bob.smtp.getreply())
        return replies

    words = [token() for _ in range(3)]
    assert begin(ALICE, words[0], [70])[-1][0] == 550
    assert begin(BOB, words[1], [22, 60_000])[-1][0] == 250
    bob.command("MAIL", f"FROM:<{BOB}>")
    bob.command("RCPT", f"TO:<{FRIEND}>")
    bob.smtp.send(b"BDAT 5\r\nFrom:")
    assert bob.smtp.getreply()[0] == 250
    assert bob.command("RSET").code == 250
    assert begin(BOB, words[2], [25, 50_001])[-1][0] == 250
    for word in words[1:]:
        (mail,) = delivered(lab, word)
        assert check(mail, verifier) == ""
        assert gains(mail, verifier) == ""
    assert lab.received(words[0]) == []


def test_certificates_and_networks_are_signed_too(lab: Lab, cast: Cast, verifier: Verifier) -> None:
    for client, sender in ((cast.printer, "printer@example.org"), (cast.application, "app@example.net")):
        word = token()
        with client.open() as session:
            reply = session.send(sender, [FRIEND], compose(sender, word))
        assert reply.code == 250, str(reply)
        (mail,) = delivered(lab, word)
        assert check(mail, verifier) == ""


def test_the_same_author_at_port_25_from_this_host_is_not_signed(
    lab: Lab, cast: Cast, verifier: Verifier
) -> None:
    word = token()
    with cast.outsider.open() as session:
        reply = session.send(ALICE, ["somebody@example.org"], compose(ALICE, word))
    assert reply.code == 250, str(reply)
    (mail,) = delivered(lab, word)
    assert mail.author == ALICE
    assert not mail.is_signed
    assert verifier.says(mail.message) == "message not signed"


def test_a_message_in_a_file_is_explained_as_it_is_answered(lab: Lab, bob: Session, tmp_path: Path) -> None:
    for author, code, status in (
        (BOB, 250, 0),
        (BOB_NET, 250, 0),
        (ALICE, 550, 1),
        ("bob@example.com", 550, 1),
    ):
        message = plain(b"Hello.\r\n", b"DKIM-Signature: broken", author=author, subject=token().encode())
        (tmp_path / "mail.eml").write_bytes(message)
        done = lab.running.submitward("explain", "bob", "--message", str(tmp_path / "mail.eml"))
        assert (bob.send(BOB, [FRIEND], message).code, done.returncode) == (code, status), done.stdout
        if status == 0:
            assert f"a key signs for {author.partition('@')[2]}" in done.stdout
            assert "taken out: it is not the client's to say" in done.stdout
