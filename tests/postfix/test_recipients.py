"""How recipients are counted: by what a client that repeats them can have delivered."""

from __future__ import annotations

from tests.lab import Lab
from tests.lab.cast import Cast
from tests.lab.client import FRIEND, Reply, Session, compose, token
from tests.lab.evidence import delivered, used
from tests.lab.story import BOB


def recipients(session: Session, *arguments: str) -> list[Reply]:
    """Begin a message of bob's and name each recipient; the replies to RCPT."""
    assert session.command("MAIL", f"FROM:<{BOB}>").code == 250
    return [session.command("RCPT", f"TO:<{FRIEND}>{more}") for more in arguments]


def finish(session: Session, word: str) -> Reply:
    """DATA and the message; what is answered at its end, or to DATA."""
    reply = session.command("DATA")
    if reply.code == 354:
        session.smtp.send(compose(BOB, word) + b"\r\n.\r\n")
        code, text = session.smtp.getreply()
        reply = Reply(code, text.decode(), "end of message")
    return reply


def test_a_recipient_that_is_delivered_again_for_its_parameters_is_charged_again(
    lab: Lab, cast: Cast
) -> None:
    before, word = used(lab, "bob"), token()
    with cast.login("bob") as bob:
        answers = recipients(bob, *(f" ORCPT=rfc822;x{number}@y.example" for number in range(4)))
        assert [reply.code for reply in answers] == [250] * 4
        assert finish(bob, word).code == 250
    assert len(delivered(lab, word, 4)) == 4
    assert (used(lab, "bob") - before)["recipients"] == 4


def test_one_recipient_too_often_is_told_at_rcpt_and_the_message_still_goes(lab: Lab, cast: Cast) -> None:
    word = token()
    with cast.login("bob") as bob:
        answers = recipients(bob, *[""] * 110)
        assert [reply.code for reply in answers] == [250] * 100 + [452] * 10
        assert answers[-1].enhanced == "4.5.3"
        assert finish(bob, word).code == 250
    assert len(delivered(lab, word)) == 1
