"""`submitward app-password`, from making one to the last line of its list, and what policyd makes of it."""

import dataclasses
import json

import pytest

from directory.address import Rules
from directory.identity import Address, BadLogin, Login, Principal, parse_login, split_credential
from directory.ownership import narrow, owns, owns_author
from ledger.app_passwords import digest_of, is_secret_of, parse_app_password
from ledger.bookfile import open_book
from submitward.__main__ import main


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        f"version: 1\nledger: {{sqlite: {{path: {tmp_path}/ledger.sqlite}}}}\n"
        f"directory: {{file: {{path: {tmp_path}/directory.yaml}}}}\n"
    )
    return path


def command(settings, capsys, *words):
    status = main(["--settings", str(settings), "app-password", *words])
    told = capsys.readouterr()
    return status, told.out.strip(), told.err


def test_it_is_shown_once_and_kept_as_a_digest(settings, capsys, tmp_path):
    status, text, _ = command(settings, capsys, "add", "Alice", "--label", "phone")
    assert status == 0
    id, secret = parse_app_password(text.encode())
    assert text.partition(".")[2].encode() not in (tmp_path / "ledger.sqlite").read_bytes()
    with open_book(tmp_path / "ledger.sqlite") as book:
        (kept,) = book.app_passwords.of("alice")
        key = book.marks.secret("app-passwords", bytes)
    assert kept.id == id
    assert kept.digest == digest_of(secret, key)
    assert is_secret_of(kept, secret, key)
    status, out, _ = command(settings, capsys, "list", "alice")
    assert status == 0
    assert "phone" in out and "never used" in out and text not in out


def test_it_can_be_narrowed_and_revoked_once(settings, capsys):
    words = ["--network", "192.0.2.0/24", "--sender", "Alice@Example.org", "--for", "90 days", "--json"]
    _, out, _ = command(settings, capsys, "add", "alice", *words)
    id = json.loads(out)["id"]
    _, out, _ = command(settings, capsys, "list", "alice", "--json")
    (one,) = json.loads(out)["app_passwords"]
    assert (one["networks"], one["senders"], one["holds"]) == (["192.0.2.0/24"], ["alice@example.org"], True)
    assert command(settings, capsys, "revoke", "bob", id)[0] == 1
    assert command(settings, capsys, "revoke", "alice", id)[0] == 0
    assert command(settings, capsys, "revoke", "alice", id)[0] == 1
    assert "revoked" in command(settings, capsys, "list", "alice")[1]


@pytest.mark.parametrize(
    "words",
    [
        ["add", "a b"],
        ["add", "alice#x"],
        ["add", "alice", "--network", "everywhere"],
        ["add", "alice", "--sender", "nobody"],
        ["add", "alice", "--sender", "@example.org"],
        ["add", "alice", "--for", "0 s"],
        ["add", "alice", "--label", "a\nb"],
    ],
)
def test_what_makes_no_sense_is_usage(settings, capsys, words):
    try:
        assert command(settings, capsys, *words)[0] == 2
    except SystemExit as ended:
        assert ended.code == 2


def test_a_name_is_split_in_one_place():
    assert parse_login("Alice#abcdefgh") == Login("alice", "abcdefgh")
    assert parse_login("alice") == Login("alice")
    assert split_credential("alice#x") == ("alice", "x")
    for bad in "alice#", "alice#A", "alice#a#b", "#a", "alice#a b", "alice#\n":
        with pytest.raises(BadLogin):
            parse_login(bad)


def test_narrowing_never_gives_and_takes_the_rest_away():
    rules = Rules()
    mine = {Address("a@example.org"): "mailbox a", Address("b@example.org"): "mailbox b"}
    alice = Principal("login", "alice", mine, {"example.net": "domain"}, null_sender=True)
    narrowed = narrow(
        alice, [Address("a@example.org"), Address("x@example.net"), Address("c@example.com")], rules
    )
    assert narrowed.subject == "login:alice"
    owned = [
        text
        for text in ("a@example.org", "b@example.org", "x@example.net", "y@example.net", "c@example.com", "")
        if owns(narrowed, Address(text), rules)
    ]
    assert owned == ["a@example.org", "x@example.net"]


def test_narrowing_takes_authors_away_too():
    rules = Rules()
    mine = {Address("a@example.org"): "mailbox a", Address("b@example.org"): "mailbox b"}
    news = {Address("news@example.org"): "author news"}
    alice = Principal("login", "alice", mine, authors=news, author_domains={"example.net": "domain"})
    given = [Address("a@example.org"), Address("news@example.org"), Address("x@example.net")]
    for only in False, True:
        whole = dataclasses.replace(alice, only_authors=only)
        for count in range(4):
            narrowed = narrow(whole, given[:count], rules)
            for text in (*given, "b@example.org", "y@example.net", "c@example.com"):
                may = text in given[:count] and owns_author(whole, Address(text), rules) is not None
                assert (owns_author(narrowed, Address(text), rules) is not None) == may, (only, count, text)
