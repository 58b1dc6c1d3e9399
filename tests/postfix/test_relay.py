"""What the story does not tell: hostile envelopes and headers, kept connections, and what stays charged."""

from __future__ import annotations

import json
import socket
import time
from email.utils import make_msgid

import pytest

from tests.lab import Lab
from tests.lab.cast import Cast
from tests.lab.client import FRIEND, Client, Reply, Session, compose, token
from tests.lab.evidence import delivered, used
from tests.lab.story import ALICE, APPLICATION, BOB, PRINTER, many

# What alice says as MAIL FROM → the code she gets. Add a line for each new trick.
SENDERS = [
    ("alice@EXAMPLE.ORG", 250),
    ('"alice"@example.org', 250),
    ("", 553),
    ("alice", 553),
    ("bob%example.org", 553),
    ("example.org!bob", 553),
    ("bob%example.org@example.org", 553),
    ('"bob@example.org"@example.org', 553),
    ('"bob@example.org"', 553),
    ("alice@sub.example.org", 553),
    ("alice@org", 553),
    ("alice@[127.0.0.1]", 553),
    ("@example.org", 501),
    ("alice@example.com", 553),
    ("xalice@example.org", 553),
    ("alice_lastname@example.com", 553),
    ("postmaster", 553),
    ("(x@y", 501),
]
# What she writes as her visible author.
AUTHORS = [
    ("Alice <alice@example.org>", 250),
    ('"bob@example.org" <alice@example.org>', 250),
    (BOB, 550),
    ("alice@example.org, bob@example.org", 550),
    ("bob@example.org <alice@example.org>", 550),
    ("<bob@example.org> <alice@example.org>", 550),
    ("Team: alice@example.org;", 550),
    ("alice@example.org (Cron)", 250),
    ("alice@example.org\r\nFrom: bob@example.org", 550),
    ("", 550),
    ("<>", 550),
    ("undisclosed:;", 550),
]


@pytest.fixture
def alice(cast: Cast):  # type: ignore[no-untyped-def]
    with cast.login("alice") as session:
        yield session


@pytest.mark.parametrize(("sender", "code"), SENDERS)
def test_an_envelope_sender_is_judged_as_postfix_will_send_it(
    lab: Lab, cast: Cast, sender: str, code: int
) -> None:
    with cast.login("alice") as session:
        word = token()
        reply = session.send(sender, [FRIEND], compose(ALICE, word))
        assert reply.code == code, str(reply)
        assert len(delivered(lab, word, seconds=20 if code == 250 else 0.5)) == (code == 250)


def test_every_author_is_judged_on_one_connection(lab: Lab, alice: Session) -> None:
    wrong = []
    for author, code in AUTHORS:
        word = token()
        reply = alice.send(ALICE, [FRIEND], compose(author, word))
        arrived = delivered(lab, word, seconds=20 if code == 250 else 0.3)
        if reply.code != code or len(arrived) != (code == 250):
            wrong.append((author, str(reply), len(arrived)))
        if len(arrived) == 1 and not arrived[0].is_aligned:
            wrong.append((author, "unsigned", 1))
    assert not wrong


def test_a_message_without_from_is_refused(lab: Lab, alice: Session) -> None:
    reply = alice.send(ALICE, [FRIEND], b"Subject: x\r\n\r\nno author\r\n")
    assert reply.code == 550


def test_nothing_stays_charged_for_a_refused_author(lab: Lab, alice: Session) -> None:
    before = used(lab, "alice")
    for _ in range(3):
        assert alice.send(ALICE, [FRIEND, "other@elsewhere.example"], compose(BOB, token())).code == 550
    assert not any((used(lab, "alice") - before).by_unit.values())


def test_a_refused_sender_disturbs_no_later_message_of_the_connection(lab: Lab, alice: Session) -> None:
    for _ in range(3):
        assert alice.send(BOB, [FRIEND], compose(ALICE, token())).code == 553
        word = token()
        assert alice.send(ALICE, [FRIEND], compose(ALICE, word)).code == 250
        assert [mail.sender for mail in delivered(lab, word)] == [ALICE]


def test_a_refusal_at_data_without_rset_leaves_the_next_message_alone(lab: Lab, cast: Cast) -> None:
    with cast.login("alice") as session:
        assert many(session, 19).code == 250
        assert many(session, 5).code == 450
        word = token()
        assert many(session, 1, word).code == 250
        assert [mail.recipient for mail in delivered(lab, word)] == [FRIEND]
    spent = used(lab, "alice")
    assert (spent["recipients"], spent["messages"]) == (20, 2)


def test_a_message_is_charged_once_with_its_recipients(lab: Lab, alice: Session) -> None:
    before = used(lab, "alice")
    assert many(alice, 3).code == 250
    spent = used(lab, "alice") - before
    assert (spent["messages"], spent["recipients"]) == (1, 3)


def test_an_abandoned_message_costs_nothing_once_the_next_one_has_come(lab: Lab, alice: Session) -> None:
    before = used(lab, "alice")
    assert alice.command("MAIL", f"FROM:<{ALICE}>").code == 250
    assert alice.command("RCPT", f"TO:<{FRIEND}>").code == 250
    assert alice.command("RSET").code == 250
    assert many(alice, 1).code == 250
    spent = used(lab, "alice") - before
    assert (spent["messages"], spent["recipients"]) == (1, 1)


def test_two_logins_are_told_apart_on_connections_of_their_own(lab: Lab, cast: Cast) -> None:
    with cast.login("alice") as one, cast.login("bob") as other:
        assert one.send(BOB, [FRIEND], compose(BOB, token())).code == 553
        assert other.send(ALICE, [FRIEND], compose(ALICE, token())).code == 553
        assert one.send(ALICE, [FRIEND], compose(ALICE, token())).code == 250
        assert other.send(BOB, [FRIEND], compose(BOB, token())).code == 250


def test_a_login_is_one_whatever_case_it_is_typed_in(lab: Lab, cast: Cast) -> None:
    with cast.anybody.open() as session:
        assert session.auth("ALICE", lab.logins["alice"]).code == 235
        before = used(lab, "alice")
        assert many(session, 1).code == 250
    assert (used(lab, "alice") - before)["messages"] == 1


def test_implicit_tls_works_as_starttls_does(lab: Lab, cast: Cast) -> None:
    word = token()
    with cast.login("bob", client=Client(lab.submissions, cast.ca, wrapped=True)) as session:
        assert session.send(BOB, [FRIEND], compose(BOB, word)).code == 250
    assert [mail.is_aligned for mail in delivered(lab, word)] == [True]


def test_the_printer_submits_on_the_tls_port_too(lab: Lab, cast: Cast) -> None:
    client = Client(lab.submissions, cast.ca, certificate=cast.printer.certificate, wrapped=True)
    word = token()
    with client.open() as session:
        assert session.send(PRINTER, [FRIEND], compose(PRINTER, word)).code == 250
    assert [mail.is_aligned for mail in delivered(lab, word)] == [True]


def test_the_printer_shares_an_address_with_nobody(lab: Lab, cast: Cast) -> None:
    with cast.login("alice") as session:
        assert session.send(PRINTER, [FRIEND], compose(PRINTER, token())).code == 553


def test_a_login_counts_more_than_a_listed_certificate(lab: Lab, cast: Cast) -> None:
    with cast.login("alice", client=cast.printer) as session:
        assert session.send(PRINTER, [FRIEND], compose(PRINTER, token())).code == 553
        assert session.send(ALICE, [FRIEND], compose(ALICE, token())).code == 250


def test_the_application_host_is_known_by_its_address_alone(lab: Lab, cast: Cast) -> None:
    with cast.anybody.open() as session:
        assert session.send(APPLICATION, [FRIEND], compose(APPLICATION, token())).code == 554


def test_eight_bits_and_utf8_arrive_signed(lab: Lab, alice: Session) -> None:
    word = token()
    message = compose(f"Älice Müller <{ALICE}>", word, body="Grüße — ✓\r\n.\r\n..dots\r\n")
    assert alice.command("MAIL", f"FROM:<{ALICE}> BODY=8BITMIME SMTPUTF8").code == 250
    assert alice.command("RCPT", f"TO:<{FRIEND}>").code == 250
    assert alice.command("DATA").code == 354
    alice.smtp.send(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    code, _ = alice.smtp.getreply()
    mail = delivered(lab, word) if code == 250 else []
    assert code == 250
    assert [m.is_aligned for m in mail] == [True]
    assert mail[0].message.endswith("Grüße — ✓\r\n.\r\n..dots\r\n".encode())


def test_a_large_message_is_signed_and_unharmed(lab: Lab, alice: Session) -> None:
    word = token()
    body = "".join(f"{number:08d} {'x' * 60}\r\n" for number in range(40_000))
    assert alice.send(ALICE, [FRIEND], compose(ALICE, word, body=body)).code == 250
    mail = delivered(lab, word)
    assert [m.is_aligned for m in mail] == [True]
    assert mail[0].message.endswith(body[-2000:].encode())


def test_a_message_without_date_and_message_id_is_signed_as_it_is(lab: Lab, alice: Session) -> None:
    word = token()
    message = f"From: {ALICE}\r\nSubject: {word}\r\n\r\nhi\r\n".encode()
    assert alice.send(ALICE, [FRIEND], message).code == 250
    mail = delivered(lab, word)
    assert [m.is_aligned for m in mail] == [True]
    assert mail[0].message.endswith(message)


def test_a_signature_breaks_when_a_second_author_is_added(lab: Lab, alice: Session) -> None:
    word = token()
    assert alice.send(ALICE, [FRIEND], compose(ALICE, word)).code == 250
    mail = delivered(lab, word)[0]
    forged = type(mail)(mail.raw.replace(b"\r\nFrom:", b"\r\nFrom: bob@example.org\r\nFrom:", 1), mail.names)
    assert mail.signing_domain
    assert not forged.signing_domain


def test_bdat_is_charged_and_judged_as_data_is(lab: Lab, alice: Session) -> None:
    before = used(lab, "alice")
    word = token()
    for author, code in ((ALICE, 250), (BOB, 550)):
        message = compose(author, word)
        assert alice.command("MAIL", f"FROM:<{ALICE}>").code == 250
        assert alice.command("RCPT", f"TO:<{FRIEND}>").code == 250
        alice.smtp.send(f"BDAT {len(message)} LAST\r\n".encode() + message)
        assert alice.smtp.getreply()[0] == code
    assert len(delivered(lab, word)) == 1
    assert (used(lab, "alice") - before)["messages"] == 1


def test_a_smuggled_second_message_is_part_of_the_first(lab: Lab, alice: Session) -> None:
    word = token()
    smuggled = f"MAIL FROM:<{BOB}>\r\nRCPT TO:<{FRIEND}>\r\nDATA\r\nFrom: {BOB}\r\n\r\n{word}\r\n"
    for end in ("\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r\n", "\n.\r", "\r\n.\r\r\n"):
        assert alice.command("MAIL", f"FROM:<{ALICE}>").code == 250
        assert alice.command("RCPT", f"TO:<{FRIEND}>").code == 250
        assert alice.command("DATA").code == 354
        alice.smtp.send(compose(ALICE, token()).removesuffix(b"\r\n") + end.encode() + smuggled.encode())
        alice.smtp.send(b"\r\n.\r\n")
        assert alice.smtp.getreply()[0] in (250, 550)
    time.sleep(1)
    assert all(mail.sender == ALICE for mail in delivered(lab, word, 0))


def test_a_null_sender_is_nobodys_from_the_outside_neither(lab: Lab, cast: Cast) -> None:
    with cast.outsider.open() as session:
        word = token()
        reply = session.send("", [ALICE], compose("mailer-daemon@elsewhere.example", word, to=ALICE))
        assert reply.code == 250
    assert len(delivered(lab, word)) == 1


def test_bare_postmaster_is_reached_by_who_may_send(lab: Lab, alice: Session) -> None:
    word = token()
    assert alice.send(ALICE, ["postmaster"], compose(ALICE, word)).code == 250
    assert [mail.recipient for mail in delivered(lab, word)] == ["postmaster@example.org"]


def test_a_blocked_login_extent_sending_can_still_log_in(lab: Lab, cast: Cast) -> None:
    lab.submitward("block", "bob", "--reason", "a test", "--contact", "call 555-0100")
    time.sleep(0.75)
    try:
        with cast.login("bob") as session:
            reply = session.send(BOB, [FRIEND], compose(BOB, token()))
        assert (reply.code, "555-0100" in reply.text) == (554, True)
        with cast.login("alice") as session:
            assert many(session, 1).code == 250
    finally:
        lab.submitward("unblock", "bob", "--reason", "a test")
    time.sleep(0.75)


def test_no_password_is_in_any_log(lab: Lab, cast: Cast) -> None:
    secret = make_msgid().strip("<>").replace("@", "")
    with cast.anybody.open() as session:
        assert session.auth("alice", secret).code == 535
    written = lab.log("supervisor") + lab.log("postfix")
    assert secret not in written
    assert not [password for password in lab.logins.values() if password in written]


def test_postfix_has_no_trouble_with_us(lab: Lab, alice: Session) -> None:
    assert many(alice, 1).code == 250
    text = lab.log("postfix")
    assert "fatal:" not in text
    assert "panic:" not in text
    assert "throttling" not in text


def test_the_sockets_are_closed_to_other_local_users(lab: Lab) -> None:
    for name in ("policy", "auth", "milter", "opendkim"):
        path = lab.places.socket(name)
        assert path.stat().st_mode & 0o007 == 0 or path.parent.stat().st_mode & 0o007 == 0


def test_check_finds_the_lab_in_order(lab: Lab) -> None:
    done = lab.submitward("check", "--postfix", str(lab.places.postfix), "--json", check=False)
    told = json.loads(done.stdout)
    assert [finding for finding in told["findings"] if finding["level"] != "ok"] == []
    assert done.returncode == 0


def test_a_source_that_only_connects_is_no_trouble(lab: Lab) -> None:
    host, _, port = lab.submission.rpartition(":")
    for _ in range(20):
        socket.create_connection((host, int(port))).close()
    assert isinstance(Reply(250, "", ""), Reply)
