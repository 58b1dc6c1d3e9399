"""`submitward block`, `unblock` and `blocks`, run as an operator runs them."""

from __future__ import annotations

import json
import sqlite3

import pytest

from submitward.__main__ import main


@pytest.fixture
def command(tmp_path, capsys):
    """Runs a subcommand; gives its exit code, standard output and standard error."""
    settings = tmp_path / "config.yaml"
    settings.write_text(
        f"version: 1\nledger: {{sqlite: {{path: {tmp_path}/ledger.sqlite}}}}\n"
        f"directory: {{file: {{path: {tmp_path}/directory.yaml}}}}\n"
    )
    (tmp_path / "directory.yaml").write_text(
        "logins:\n  alice: {mailboxes: [alice@example.org]}\n  bob: {}\n"
        f"certificates:\n  printer: {{fingerprints: [{'aa' * 32}, {'bb' * 32}], plan: default}}\n"
    )

    def command(*words):
        try:
            status = main(["--settings", str(settings), *words])
        except SystemExit as usage:
            status = usage.code
        return status, *capsys.readouterr()

    command.directory = tmp_path / "directory.yaml"
    command.ledger = tmp_path / "ledger.sqlite"
    return command


def block(command, *words):
    status, out, error = command("block", *words, "--json")
    assert (status, error) == (0, "")
    return json.loads(out)


def listed(command, *words):
    return json.loads(command("blocks", "--json", *words)[1])


def test_nobody_is_blocked_at_first(command):
    assert command("blocks") == (0, "no blocks\n", "")
    assert listed(command) == []


def test_a_block_is_listed_with_all_that_was_said(command, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "carol")
    status, out, _ = command("block", "Alice", "--reason", "spam run", "--contact", "call 123")
    assert status == 0
    assert out.startswith("login:alice: blocked (sending) for good, id ")
    (one,) = listed(command)
    assert (one["subject"], one["extent"], one["author"]) == ("login:alice", "sending", "carol")
    assert (one["reason"], one["contact"], one["end"], one["state"]) == (
        "spam run",
        "call 123",
        None,
        "in force",
    )
    line = command("blocks")[1]
    assert all(words in line for words in (one["id"], "login:alice", "spam run", "call 123", "by carol"))


LISTED = ["alice", f"certificate:{'bb' * 32}", "domain:example.org", "network:192.0.2.0/24", "relay"]
UNLISTED = [
    ("alise", "lists no login alise (did you mean alice?)"),
    ("zoe", "lists no login zoe;"),
    (f"certificate:{'cc' * 32}", "lists no certificate sha256:cccc"),
    ("domain:example.com", "lists no domain example.com (did you mean example.org?)"),
]


@pytest.mark.parametrize("target", LISTED)
def test_who_is_listed_is_blocked_without_a_remark(command, target):
    block(command, target)


@pytest.mark.parametrize(("target", "words"), UNLISTED)
def test_who_is_not_listed_is_blocked_all_the_same_and_that_is_told(command, target, words):
    status, out, error = command("block", target, "--json")
    assert status == 0
    assert listed(command) == [json.loads(out) | listed(command)[0]]
    assert words in error
    assert "the block holds all the same" in error


def test_a_broken_directory_is_in_the_way_of_no_block(command):
    command.directory.write_text("logins: [")
    status, _, error = command("block", "alice")
    assert (status, len(listed(command))) == (0, 1)
    assert "cannot be known" in error
    assert "the block holds all the same" in error


def test_an_id_is_short_and_typeable(command):
    for _ in range(20):
        one = block(command, "alice")
        assert len(one["id"]) == 5
        assert not set(one["id"]) - set("abcdefghjkmnpqrstuvwxyz23456789")


def test_a_block_may_end_by_itself(command):
    one = block(command, "alice", "--for", "2 h")
    assert one["end"] - one["start"] == 7200
    block(command, "bob", "--for", "1 ms")
    assert [b["subject"] for b in listed(command)] == ["login:alice"]
    assert [b["state"] for b in listed(command, "--all")] == ["in force", "ended"]


def test_unblocking_a_target_lifts_all_its_blocks(command):
    ids = {block(command, "alice")["id"], block(command, "alice", "--extent", "login")["id"]}
    other = block(command, "bob")["id"]
    status, out, _ = command("unblock", "alice", "--reason", "paid", "--json")
    assert status == 0
    assert set(json.loads(out)["lifted"]) == ids
    assert [b["id"] for b in listed(command)] == [other]


def test_unblocking_an_id_lifts_that_one(command):
    first, second = block(command, "alice")["id"], block(command, "alice")["id"]
    assert command("unblock", "--id", first)[0] == 0
    assert [b["id"] for b in listed(command)] == [second]
    status, out, _ = command("unblock", "--id", first)
    assert (status, out) == (1, f"block {first}: there is no block to lift\n")


def test_lifting_leaves_a_tombstone_and_an_audit_trail(command, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "carol")
    one = block(command, "alice", "--reason", "spam")
    command("unblock", "alice", "--reason", "paid")
    (tombstone,) = listed(command, "--all")
    assert (tombstone["state"], tombstone["lifted_by"], tombstone["lifted_why"]) == (
        "lifted",
        "carol",
        "paid",
    )
    assert "lifted" in command("blocks", "--all")[1]
    connection = sqlite3.connect(command.ledger)
    audit = connection.execute("SELECT author, action, subject, block, reason FROM audit").fetchall()
    connection.close()
    assert audit == [
        ("carol", "block", "login:alice", one["id"], "spam"),
        ("carol", "lift", "login:alice", one["id"], "paid"),
    ]


def test_who_is_not_blocked_cannot_be_unblocked(command):
    status, out, _ = command("unblock", "alice")
    assert (status, out) == (1, "login:alice: there is no block to lift\n")


WRONG = [
    ["block"],
    ["block", "a b"],
    ["block", "alice", "--extent", "all"],
    ["block", "alice", "--for", "2"],
    ["block", "alice", "--for", "0 s"],
    ["block", "alice", "--contact", "call\n250 OK"],
    ["block", "network:192.0.2.0/24", "--extent", "login"],
    ["unblock"],
    ["unblock", "alice", "--id", "abcde"],
]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_words_are_usage_and_block_nobody(command, words):
    status, out, error = command(*words)
    assert (status, out) == (2, "")
    assert error
    assert listed(command, "--all") == []


def test_a_ledger_without_a_directory_is_unavailable(tmp_path, capsys):
    settings = tmp_path / "config.yaml"
    settings.write_text(f"version: 1\nledger: {{sqlite: {{path: {tmp_path}/none/ledger.sqlite}}}}\n")
    assert main(["--settings", str(settings), "block", "alice"]) == 75
    assert f"install -d -m 2770 -g submitward {tmp_path}/none" in capsys.readouterr().err
