"""`submitward quota`, run as an operator runs it."""

from __future__ import annotations

import json
import sqlite3

import pytest

from ledger.bookfile import open_book
from ledger.charges import Amounts, ChargeId, Submission
from ledger.limits import parse_limit
from submitward.__main__ import main
from submitward.targets import parse_target, plain

FINGERPRINT, SECOND = "ab" * 32, "cd" * 32
TARGETS = [
    ("alice", "login:alice"),
    ("Alice", "login:alice"),
    ("alice@example.org", "login:alice@example.org"),
    ("login:alice", "login:alice"),
    ("login:relay", "login:relay"),
    ("relay", "relay"),
    (f"certificate:SHA256:{FINGERPRINT.upper()}", f"certificate:sha256:{FINGERPRINT}"),
    (f"certificate:{':'.join(['AB'] * 32)}", f"certificate:sha256:{FINGERPRINT}"),
    ("network:192.0.2.0/24", "network:192.0.2.0/24"),
    ("network:127.0.0.2", "network:127.0.0.2/32"),
    ("network:2001:db8::/32", "network:2001:db8::/32"),
    ("domain:Example.ORG", "domain:example.org"),
    ("domain:bücher.example", "domain:xn--bcher-kva.example"),
]
NO_TARGETS = [
    "",
    "login:",
    "a b",
    "alice\n",
    "user:alice",
    "certificate:abc",
    "network:192.0.2.1/24",
    "domain:",
    ":x",
]


@pytest.mark.parametrize(("text", "subject"), TARGETS)
def test_a_target_has_one_normal_form(text, subject):
    assert parse_target(text) == subject


@pytest.mark.parametrize("text", NO_TARGETS)
def test_what_is_no_target_is_refused_with_a_reason(text):
    with pytest.raises(ValueError, match="is no target"):
        parse_target(text)


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\x1b[2J", "\u2028", "x" * 201])
def test_a_text_that_could_break_a_line_is_refused(text):
    with pytest.raises(ValueError, match="on one line"):
        plain(text)


@pytest.fixture
def command(tmp_path, capsys):
    """Runs a subcommand; gives its exit code, standard output and standard error."""
    (tmp_path / "directory.yaml").write_text(
        "logins:\n  alice: {mailboxes: [alice@example.org]}\n  eve: {plan: gone}\n  vip: {plan: free}\n"
        f"certificates:\n  printer: {{fingerprints: ['{FINGERPRINT}', '{SECOND}'], "
        "addresses: [printer@example.org]}\n"
    )
    settings = tmp_path / "config.yaml"
    settings.write_text(
        f"version: 1\ndirectory: {{kind: file, file: {{path: {tmp_path}/directory.yaml}}}}\n"
        f"ledger: {{kind: sqlite, sqlite: {{path: {tmp_path}/ledger.sqlite}}}}\n"
        "plans: {default: [10 recipients per hour, 1 MB per day, 8 recipients per message], free: []}\n"
    )

    def command(*words):
        try:
            status = main(["--settings", str(settings), *words])
        except SystemExit as usage:
            status = usage.code
        return status, *capsys.readouterr()

    command.ledger = tmp_path / "ledger.sqlite"
    command.directory = tmp_path / "directory.yaml"
    command.settings = settings
    return command


@pytest.fixture
def spent(command):
    with open_book(command.ledger) as book:
        limits = (("login:alice", parse_limit("10 recipients per hour"), True),)
        charge, who = ChargeId("mx", "i", "q"), Submission("login:alice", "alice@example.org")
        book.reserve(charge, who, Amounts(1, 10, 500_000), limits)


def test_it_shows_every_limit_of_the_plan(command, spent):
    status, out, _ = command("quota", "show", "Alice")
    assert status == 0
    assert out.startswith("login:alice: plan default, from the default\n")
    assert "10 recipients per hour: 10 recipients used, 0 recipients left, reopens 2" in out
    assert "1 MB per day: 0 bytes used, 1 MB left\n" in out
    assert "  8 recipients per message\n" in out


def test_it_shows_the_same_to_programs(command, spent):
    status, out, _ = command("quota", "show", "alice", "--json")
    shown = json.loads(out)
    assert (status, shown["subject"], shown["plan"]) == (0, "login:alice", "default")
    assert (shown["plan_from"], shown["exempt"], shown["grants"]) == ("the default", False, [])
    assert shown["shares"] == []
    first, second, third = shown["limits"]
    assert (first["used"], first["remaining"], second["used"], third["window"]) == (10, 0, 0, None)
    assert first["reopens_at"] > 1e9
    assert second["reopens_at"] is None


def test_every_kind_of_principal_has_a_quota(command):
    assert command("quota", "show", f"certificate:{FINGERPRINT}")[0] == 0


def test_a_certificate_is_found_by_any_of_its_fingerprints(command):
    with open_book(command.ledger) as book:
        subject = f"certificate:sha256:{FINGERPRINT}"
        limits = ((subject, parse_limit("10 recipients per hour"), True),)
        book.reserve(ChargeId("mx", "i", "q"), None, Amounts(1, 3, 0), limits)
    status, out, _ = command("quota", "show", f"certificate:{SECOND}")
    assert (status, out.splitlines()[0]) == (0, f"{subject}: plan default, from the default")
    assert "3 recipients used" in out
    status, out, _ = command("quota", "reset", f"certificate:{SECOND}", "--reason", "agreed")
    assert (status, out) == (0, f"{subject}: reset, 1 counter held something\n")


@pytest.mark.parametrize("target", ["mallory", "network:192.0.2.1", "relay", "domain:example.org"])
def test_who_is_not_listed_has_none(command, target):
    status, out, error = command("quota", "show", target)
    assert (status, out) == (1, "")
    assert "is no principal" in error or "has no limits: limits." in error


def test_a_plan_may_limit_nothing_and_must_exist(command):
    assert "limits nothing" in command("quota", "show", "vip")[1]
    status, _, error = command("quota", "show", "eve")
    assert status == 2
    assert "plan gone" in error


def test_a_reset_forgets_and_is_audited(command, spent, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "carol")
    status, out, _ = command("quota", "reset", "alice", "--reason", "called us")
    assert (status, out) == (0, "login:alice: reset, 1 counter held something\n")
    assert "0 recipients used" in command("quota", "show", "alice")[1]
    connection = sqlite3.connect(command.ledger)
    audit = connection.execute("SELECT author, action, subject, reason FROM audit").fetchall()
    connection.close()
    assert audit == [("carol", "reset", "login:alice", "called us")]


def test_a_reset_of_nobody_is_no_success(command):
    status, out, error = command("quota", "reset", "alise", "--reason", "x")
    assert (status, out) == (1, "login:alise: reset, 0 counters held something\n")
    assert "the directory lists no login alise (did you mean alice?)" in error
    assert command("quota", "reset", "relay", "--reason", "x")[0] == 1
    assert command("quota", "reset", "alice", "--reason", "x")[::2] == (0, "")


def test_what_somebody_used_who_has_left_can_be_reset(command, spent):
    command.directory.write_text("logins:\n  bob: {}\n")
    status, out, error = command("quota", "reset", "alice", "--reason", "left")
    assert (status, out) == (0, "login:alice: reset, 1 counter held something\n")
    assert "the directory lists no login alice" in error


def test_a_broken_directory_is_in_the_way_of_no_reset(command, spent):
    command.directory.write_text("logins: [")
    status, out, error = command("quota", "reset", "alice", "--reason", "urgent")
    assert (status, out) == (0, "login:alice: reset, 1 counter held something\n")
    assert "directory.yaml:" in error


def test_a_reset_needs_a_reason(command):
    status, _, error = command("quota", "reset", "alice")
    assert status == 2
    assert "--reason" in error


def test_wrong_words_are_usage(command):
    for words in (["quota"], ["quota", "show"], ["quota", "show", "a b"], ["quota", "raise", "alice"]):
        assert command(*words)[0] == 2


def test_a_ledger_that_is_away_is_told_with_what_to_do(command):
    command.ledger.mkdir()
    status, _, error = command("quota", "reset", "alice", "--reason", "x")
    assert status == 75
    assert "the ledger is unavailable" in error
    assert "must be writable" in error


def test_wrong_settings_and_a_broken_directory_are_told_by_line(command):
    command.directory.write_text("logins: [")
    status, _, error = command("quota", "show", "alice")
    assert status == 2
    assert "directory.yaml:" in error
    command.settings.write_text("version: 1\nplans: {default: [ten mails a day]}\n")
    status, _, error = command("quota", "show", "alice")
    assert status == 2
    assert "500 recipients per day" in error
