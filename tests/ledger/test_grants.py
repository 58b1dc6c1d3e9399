"""Grants: how they are written, what they come to, and that every store keeps them as it keeps blocks."""

import sqlite3

import pytest
import pytest_twisted

from ledger.blocks import Blocklist
from ledger.bookfile import open_book
from ledger.grants import Grant, Grants, Terms, format_terms, grant_of, granted, parse_terms
from ledger.limits import AMOUNT_MAX, Limit, parse_limit
from ledger.schema import STEPS, TABLES
from tests.ledger.stores import START
from tests.ledger.test_contract import clock, ledger  # noqa: F401

PLAN = tuple(
    map(parse_limit, ("100 recipients per hour", "500 recipients per day", "8 recipients per message"))
)


def grant(*texts, subject="login:alice", start=START, end=None, id=""):
    return Grant(id, subject, parse_terms(texts), "root", "a mailing", start, end)


#: what is written, what it means, how it is told
WRITTEN = [
    (["exempt"], Terms("exempt"), ["exempt"]),
    (["+200 recipients"], Terms("more", (Limit(200, "recipients", 0),)), ["+200 recipients"]),
    (["+ 2 GB per day"], Terms("more", (Limit(2 * 10**9, "bytes", 86400),)), ["+2 GB per day"]),
    (
        ["1000 recipients per day", "50 MB per message"],
        Terms("limits", (Limit(1000, "recipients", 86400), Limit(5 * 10**7, "bytes", 0))),
        ["1000 recipients per day", "50 MB per message"],
    ),
    (["0 messages per day"], Terms("limits", (Limit(0, "messages", 86400),)), ["0 messages per day"]),
]

NO_TERMS = [
    [],
    [""],
    ["200"],
    ["200 recipients"],
    ["+200"],
    ["+0 recipients"],
    ["+10 MB per message"],
    ["+200 recipients", "100 messages per hour"],
    ["exempt", "100 messages per hour"],
    ["100 messages per hour", "50 messages per hour"],
    ["+1 recipients"] * 2,
    [f"{n} messages per {n} minutes" for n in range(1, 14)],
]


@pytest.mark.parametrize(("texts", "terms", "told"), WRITTEN)
def test_terms_are_read_and_told_the_same_way(texts, terms, told):
    assert parse_terms(texts) == terms
    assert list(format_terms(terms)) == told
    assert parse_terms(told) == terms


@pytest.mark.parametrize("texts", NO_TERMS)
def test_terms_that_mean_nothing_are_refused(texts):
    with pytest.raises(ValueError, match=r"."):
        parse_terms(texts)


def limits(*texts):
    return tuple(map(parse_limit, texts))


def test_a_granted_limit_takes_the_place_of_the_plans_with_the_same_window_alone():
    assert granted(PLAN, [grant("1000 recipients per day")]) == limits(
        "100 recipients per hour", "1000 recipients per day", "8 recipients per message"
    )
    assert granted((), [grant("1000 recipients per day")]) == limits("1000 recipients per day")


def test_more_is_added_to_every_window_of_its_unit_and_to_no_limit_per_message():
    assert granted(PLAN, [grant("+200 recipients")]) == limits(
        "300 recipients per hour", "700 recipients per day", "8 recipients per message"
    )
    assert granted(PLAN, [grant("+200 recipients per day")]) == limits(
        "100 recipients per hour", "700 recipients per day", "8 recipients per message"
    )
    assert granted(PLAN, [grant("+5 messages")]) == PLAN
    assert granted(limits("500 messages per day"), [grant(f"+{AMOUNT_MAX} messages")]) == (
        Limit(AMOUNT_MAX, "messages", 86400),
    )


def test_of_several_granted_limits_the_latest_counts_and_more_is_added_to_it():
    several = [grant("+5 recipients"), grant("1000 recipients per day"), grant("50 recipients per day")]
    assert granted(limits("500 recipients per day"), several) == limits("55 recipients per day")


def test_grants_hold_from_their_start_to_their_end_for_their_subject_alone():
    kept = [grant("exempt", id="a", end=START + 60).block, grant("exempt", subject="relay", id="b").block]
    grants = Grants(kept)
    assert len(grants) == 2
    for now, held in ((START - 1, False), (START, True), (START + 59.9, True), (START + 60, False)):
        assert bool(grants.of("login:alice", now)) == held
    assert grants.of("login:bob", START) == ()
    assert grants.of("relay", START + 1e9)


def test_a_grant_stops_nobody_and_a_block_grants_nothing():
    kept = grant("exempt", id="a").block
    assert Blocklist([kept]).find(["login:alice"], START) is None
    assert len(Blocklist([kept])) == 0
    assert len(Grants([kept])) == 1


def test_terms_of_a_newer_version_grant_nothing():
    from dataclasses import replace

    assert grant_of(replace(grant("exempt").block, terms="twice as much")) is None


@pytest_twisted.ensureDeferred
async def test_every_store_keeps_a_grant_and_revokes_it(ledger):  # noqa: F811
    before = (await ledger.blocks())[0]
    kept = grant_of(await ledger.block(grant("+200 recipients", "+1 GB per day", end=START + 3600).block))
    generation, blocks = await ledger.blocks()
    assert kept.id
    assert generation > before
    assert Grants(blocks).of("login:alice", START) == (kept,)
    assert (kept.terms, kept.end) == (parse_terms(["+200 recipients", "+1 GB per day"]), START + 3600)
    assert await ledger.lift(kept.id, "root", "enough")
    assert len(Grants((await ledger.blocks())[1])) == 0


def test_a_file_of_the_schema_before_keeps_its_blocks_and_takes_grants(tmp_path):
    path = tmp_path / "ledger.sqlite"
    old = sqlite3.connect(path)
    for statement in (*TABLES, *STEPS[2]):
        old.execute(statement)
    old.execute(
        "INSERT INTO blocks VALUES ('b1', 'relay', 'sending', 'x', 'y', 'z', 1, NULL, 3, NULL, NULL, NULL)"
    )
    old.execute("PRAGMA user_version = 2")
    old.commit()
    old.close()
    with open_book(path) as book:
        book.block(grant("exempt").block)
        found = book.register.current()
    assert [(one.id, one.version, one.terms) for one in found if not one.is_grant] == [("b1", 3, "")]
    assert Grants(found).of("login:alice", START + 1e6)[0].terms == Terms("exempt")
    with open_book(path) as book:
        assert [row[0] for row in book._execute("SELECT action FROM audit")] == ["grant"]
