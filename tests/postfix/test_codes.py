"""The codes of policyd as the client reads them: what README.md's table says of the envelope sender."""

from __future__ import annotations

import pytest

from tests.lab import Lab
from tests.lab.cast import Cast
from tests.lab.client import FRIEND
from tests.lab.processes import wait_for
from tests.lab.story import BOB

# The envelope sender that alice gives → the code that policyd answers, and the client's at RCPT and at DATA.
CODES = [
    (BOB, "553 5.7.1", "553 5.7.1", "553 5.7.1"),
    ("", "553 5.7.1", "553 5.7.1", "553 5.7.1"),
    ("bob", "553 5.1.7", "553 5.1.3", "553 5.0.0"),
]


@pytest.mark.parametrize(("sender", "said", "at_rcpt", "at_data"), CODES)
def test_a_refused_sender_is_told_with_this_code(
    lab: Lab, cast: Cast, sender: str, said: str, at_rcpt: str, at_data: str
) -> None:
    heard, before = [], len(lab.log("supervisor"))
    with cast.login("alice") as alice:
        for recipient in FRIEND, "postmaster":  # bare postmaster is judged at DATA alone
            assert alice.command("MAIL", f"FROM:<{sender}>").code == 250
            reply = alice.command("RCPT", f"TO:<{recipient}>")
            reply = alice.command("DATA") if reply.code == 250 else reply
            heard.append((reply.stage, f"{reply.code} {reply.enhanced}"))
            alice.command("RSET")
    assert heard == [("RCPT", at_rcpt), ("DATA", at_data)]
    # The line is written when the answer is out.
    wait_for("two lines", lambda: lab.log("supervisor")[before:].count(f'action="{said}"') == 2, seconds=10)
