"""App passwords and the kill switch through a real Postfix: what narrows, and what ends at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.lab import Lab
from tests.lab.cast import Cast
from tests.lab.client import FRIEND, Session, compose, token
from tests.lab.evidence import delivered, used
from tests.lab.story import ALICE

ALIAS = "alice_lastname@example.org"


@pytest.fixture
def give(lab: Lab) -> Iterator[Callable[..., tuple[str, str]]]:
    """Make app passwords of alice: (id, the whole); all of them are revoked in the end."""
    made: list[str] = []

    def add(*words: str) -> tuple[str, str]:
        told = json.loads(lab.submitward("app-password", "add", "alice", "--json", *words).stdout)
        made.append(told["id"])
        return told["id"], told["app_password"]

    yield add
    for id in made:
        lab.submitward("app-password", "revoke", "alice", id, check=False)


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """What one process writes into the ledger reaches the others within a second."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def try_as(session: Session, sender: str, author: str) -> int:
    return session.send(sender, [FRIEND], compose(author, token())).code


def test_a_narrowed_app_password_sends_as_its_addresses_only_in_the_envelope_and_in_from(
    lab: Lab, cast: Cast, give: Callable[..., tuple[str, str]]
) -> None:
    _, secret = give("--sender", ALIAS, "--label", "scanner")
    before = used(lab, "alice")
    with cast.anybody.open() as session:
        assert session.auth("alice", secret).code == 235
        word = token()
        assert session.send(ALIAS, [FRIEND], compose(ALIAS, word)).code == 250
        assert [mail.sender for mail in delivered(lab, word)] == [ALIAS]
        assert session.send(ALICE, [FRIEND], compose(ALIAS, token())).code == 553  # policyd
        assert session.send(ALIAS, [FRIEND], compose(ALICE, token())).code == 550  # the milter
    assert (used(lab, "alice") - before)["messages"] == 1  # it is the login that pays
    with cast.login("alice") as session:
        assert try_as(session, ALICE, ALICE) == 250


def test_a_revoked_app_password_owns_nothing_any_more_in_a_session_that_is_open(
    lab: Lab, cast: Cast, give: Callable[..., tuple[str, str]]
) -> None:
    id, secret = give("--sender", ALIAS)
    with cast.anybody.open() as session:
        assert session.auth("alice", secret).code == 235
        assert try_as(session, ALIAS, ALIAS) == 250
        lab.submitward("app-password", "revoke", "alice", id)
        until(lambda: try_as(session, ALIAS, ALIAS) >= 500)
    with cast.anybody.open() as session:
        assert session.auth("alice", secret).code == 535


def test_an_app_password_says_from_where_it_may_come_and_when_it_was_used_last(
    lab: Lab, cast: Cast, give: Callable[..., tuple[str, str]]
) -> None:
    id, secret = give("--network", "127.0.0.0/8")
    _, elsewhere = give("--network", "198.51.100.0/24")
    with cast.anybody.open() as session:
        assert session.auth("alice", elsewhere).code == 535
        assert session.auth("alice", secret).code == 235

    def last_use() -> dict[str, object]:
        told = json.loads(lab.submitward("app-password", "list", "alice", "--json").stdout)
        return next(one for one in told["app_passwords"] if one["id"] == id)

    until(lambda: last_use()["used"] is not None)
    assert str(last_use()["used_from"]).startswith("127.")


def test_the_kill_switch_ends_every_way_in_and_every_session_at_once(
    lab: Lab, cast: Cast, give: Callable[..., tuple[str, str]]
) -> None:
    _, secret = give()
    words = ("--extent", "login", "--reason", "stolen", "--contact", "call 555-0100")
    with cast.login("alice") as mine, cast.anybody.open() as theirs:
        assert theirs.auth("alice", secret).code == 235
        assert (try_as(mine, ALICE, ALICE), try_as(theirs, ALICE, ALICE)) == (250, 250)
        lab.submitward("block", "alice", *words)
        try:
            began = time.monotonic()
            until(lambda: try_as(mine, ALICE, ALICE) == 554)
            assert try_as(theirs, ALICE, ALICE) == 554
            for word in secret, lab.logins["alice"]:
                with cast.anybody.open() as session:
                    until(lambda word=word, session=session: session.auth("alice", word).code == 535)  # type: ignore[misc]
            assert time.monotonic() - began < 10
        finally:
            lab.submitward("unblock", "alice", "--reason", "a test")

    def gets_in() -> bool:
        with cast.anybody.open() as session:
            return session.auth("alice", secret).code == 235

    until(gets_in)
