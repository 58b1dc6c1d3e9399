"""The story: what the relay does for its principals and against everybody else, told over real SMTP.

Knows who may do what in the lab and what the relay must answer. Each step is a generator of lines, can be
told by itself and in any order, and leaves the lab as it found it. Step 8 stands in `recovery`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.lab.cast import Cast, Line, refused, signed, taken
from tests.lab.client import FRIEND, Client, Reply, Session, compose, token
from tests.lab.evidence import delivered, names_limit, used
from tests.lab.files import CONTACT
from tests.lab.lab import Lab

ALICE = "alice@example.org"
BOB = "bob@example.org"
PRINTER = "printer@example.org"
APPLICATION = "app@example.org"
HERS = (ALICE, "alice@example.net", "alice_lastname@example.org", "alice_lastname@example.net")
LIMIT = "20 recipients per hour"
#: Blocks, lifts and resets reach every sidecar within 250 ms.
NOTICED = 0.75


def own_addresses(lab: Lab) -> Iterator[Line]:
    """1. alice sends as each of her addresses, with PLAIN and with LOGIN: delivered, signed, aligned."""
    cast = Cast(lab)
    reset(lab, "alice")
    for mechanism in ("PLAIN", "LOGIN"):
        with cast.login("alice", mechanism) as session:
            for sender in HERS:
                word = token()
                reply = session.send(sender, [FRIEND], compose(sender, word))
                yield signed(lab, f"alice ({mechanism}) as {sender}", sender, reply, word)


def others_addresses(lab: Lab) -> Iterator[Line]:
    """2. alice as anybody else, in the envelope or in From: refused, and nothing stays charged."""
    cast = Cast(lab)
    reset(lab, "alice")
    with cast.login("alice") as session:
        for sender in (BOB, "alice_lastname@gmail.example"):
            reply = session.send(sender, [FRIEND], compose(sender, token()))
            yield refused(f"alice as {sender}", reply, 553, "5.7.1")
        before = used(lab, "alice")
        reply = session.send(ALICE, [FRIEND], compose(BOB, token()))
        yield refused(f"alice as {ALICE}, with From: {BOB}", reply, 550, "5.7.1")
    spent = used(lab, "alice") - before
    yield Line("what that message cost", str(spent), not any(spent.by_unit.values()))


def strangers(lab: Lab) -> Iterator[Line]:
    """3. Wrong password, no login, bare postmaster, no TLS."""
    cast = Cast(lab)
    with cast.anybody.open() as session:
        yield refused("alice with a wrong password", session.auth("alice", "wrong"), 535, "5.7.8")
    with cast.anybody.open() as session:
        reply = session.send(ALICE, [FRIEND], compose(ALICE, token()))
        yield refused(f"nobody as {ALICE} to {FRIEND}", reply, 554, "5.7.1")
        reply = session.send(ALICE, ["postmaster"], compose(ALICE, token()))
        yield refused(f"nobody as {ALICE} to postmaster", reply, 554, "5.7.1")
    with cast.login("alice") as session:
        reply = session.send(BOB, ["postmaster"], compose(BOB, token()))
        yield refused(f"alice as {BOB} to postmaster", reply, 553, "5.7.1")
    with Client(lab.submission, cast.ca, tls=False).open() as session:
        yield Line("EHLO without TLS", f"offers {', '.join(session.offers)}", "auth" not in session.offers)
        yield refused(
            f"MAIL FROM:<{ALICE}> without TLS", session.command("MAIL", f"FROM:<{ALICE}>"), 530, "5.7.0"
        )


def limits(lab: Lab) -> Iterator[Line]:
    """4. alice's recipients run out: told how and until when, nobody else is affected."""
    cast = Cast(lab)
    reset(lab, "alice")
    try:
        with cast.login("alice") as session:
            yield taken("alice to 15 recipients", many(session, 15))
            reply = many(session, 10)
            yield Line(
                "alice to 10 more", str(reply), reply.code == 450 and names_limit(reply.text, 15, LIMIT)
            )
            word = token()
            yield signed(lab, "alice to 1, same connection", ALICE, many(session, 1, word), word)
            yield taken("alice to 4, same connection", many(session, 4))
            reply = many(session, 1)
            yield Line(
                "alice to 1 more", str(reply), reply.code == 450 and names_limit(reply.text, 20, LIMIT)
            )
            with cast.login("bob") as other:
                word = token()
                reply = other.send(BOB, [FRIEND], compose(BOB, word))
                yield signed(lab, "bob, meanwhile", BOB, reply, word)
            reset(lab, "alice")
            word = token()
            yield signed(lab, "alice after a reset, same connection", ALICE, many(session, 1, word), word)
    finally:
        reset(lab, "alice")


def blocked(lab: Lab) -> Iterator[Line]:
    """5. alice is blocked while her connection is open, and unblocked."""
    cast = Cast(lab)
    reset(lab, "alice")
    with cast.login("alice") as session:
        yield taken("alice", many(session, 1))
        block(lab, "alice")
        try:
            yield refused("alice, blocked, same connection", many(session, 1), 554, "5.7.1", [CONTACT])
        finally:
            unblock(lab, "alice")
        word = token()
        yield signed(lab, "alice, unblocked, same connection", ALICE, many(session, 1, word), word)


def hosts(lab: Lab) -> Iterator[Line]:
    """6. The printer by its certificate, the application host by its address, a stranger by neither."""
    cast = Cast(lab)
    for name, client, own in (
        ("the printer", cast.printer, PRINTER),
        ("the application host", cast.application, APPLICATION),
    ):
        with client.open() as session:
            word = token()
            reply = session.send(own, [FRIEND], compose(own, word))
            yield signed(lab, f"{name} as {own}", own, reply, word)
            reply = session.send(ALICE, [FRIEND], compose(ALICE, token()))
            yield refused(f"{name} as {ALICE}", reply, 553, "5.7.1")
            reply = session.send(own, [FRIEND], compose(ALICE, token()))
            yield refused(f"{name} as {own}, with From: {ALICE}", reply, 550, "5.7.1")
    with cast.stranger.open() as session:
        reply = session.send(PRINTER, [FRIEND], compose(PRINTER, token()))
        yield refused(f"an unlisted certificate as {PRINTER}", reply, 554, "5.7.1")
    reset(lab, "alice")
    with cast.login("alice", client=cast.stranger) as session:
        word = token()
        reply = session.send(ALICE, [FRIEND], compose(ALICE, word))
        yield signed(lab, f"alice with an unlisted certificate as {ALICE}", ALICE, reply, word)
        reply = session.send(PRINTER, [FRIEND], compose(PRINTER, token()))
        yield refused(f"alice with an unlisted certificate as {PRINTER}", reply, 553, "5.7.1")


def incoming(lab: Lab) -> Iterator[Line]:
    """7. The MX port: for example.org from anybody, for nobody else, and without the sidecars too."""
    cast = Cast(lab)
    with cast.outsider.open() as session:
        yield Line("EHLO on the MX port", f"offers {', '.join(session.offers)}", "auth" not in session.offers)
        for sender in ("outsider@elsewhere.example", ALICE):
            reply = session.send(sender, [FRIEND], compose(sender, token()))
            yield refused(f"an outsider as {sender} to {FRIEND}", reply, 554, "5.7.1")
    yield arrival(cast, "an outsider to alice")
    lab.stop_sidecars()
    try:
        yield arrival(cast, "an outsider to alice, all three sidecars stopped")
    finally:
        lab.start_sidecars()
    with cast.login("bob") as session:
        word = token()
        reply = session.send(BOB, [FRIEND], compose(BOB, word))
        yield signed(lab, "bob, the sidecars being back", BOB, reply, word)


def arrival(cast: Cast, what: str) -> Line:
    """A line for mail from outside: it arrives once, as it was sent but for Received, and unsigned."""
    word, sender = token(), "outsider@elsewhere.example"
    message = compose(sender, word, to=ALICE)
    with cast.outsider.open() as session:
        reply = session.send(sender, [ALICE], message)
    mail = delivered(cast.lab, word) if reply.code == 250 else []
    good = len(mail) == 1 and not mail[0].is_signed and mail[0].message.endswith(message)
    return Line(what, f"{reply}; delivered {len(mail)}×{', unsigned' if good else ''}", good)


def many(session: Session, count: int, word: str = "") -> Reply:
    """alice to `count` recipients."""
    recipients = [FRIEND, *(f"friend{number}@elsewhere.example" for number in range(1, count))]
    return session.send(ALICE, recipients, compose(ALICE, word or token()))


def reset(lab: Lab, login: str) -> None:
    """Forget what a login has used, and wait until everybody knows."""
    lab.submitward("quota", "reset", login, "--reason", "the story goes on")
    time.sleep(NOTICED)


def block(lab: Lab, login: str) -> None:
    lab.submitward("block", login, "--reason", "part of the story", "--contact", f"write to {CONTACT}")
    time.sleep(NOTICED)


def unblock(lab: Lab, login: str) -> None:
    lab.submitward("unblock", login, "--reason", "part of the story")
    time.sleep(NOTICED)
