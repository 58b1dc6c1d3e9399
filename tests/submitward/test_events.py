"""`submitward events` and `audit`, run as an operator runs them, on a real ledger file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from ledger.blocks import Block
from ledger.bookfile import open_book
from ledger.events import ITSELF, Event
from submitward.__main__ import main
from tests.submitward.command import ROOT

PATIENCE = 20.0
TRIP = Event(
    "0A1B2C3D", "trip", "login:alice", mta="mx1", principal="login:alice", limit="100 recipients per hour",
    used=100, instance="i.1", queue_id="4XYZ", at=1_800_000_000.0,
)  # fmt: skip


@pytest.fixture
def command(tmp_path, capsys):
    """Runs a subcommand; gives its exit code, standard output and standard error."""
    settings = tmp_path / "config.yaml"
    settings.write_text(
        f"version: 1\nledger: {{sqlite: {{path: {tmp_path}/ledger.sqlite}}}}\n"
        f"directory: {{file: {{path: {tmp_path}/directory.yaml}}}}\n"
    )
    (tmp_path / "directory.yaml").write_text("logins:\n  alice: {mailboxes: [alice@example.org]}\n")

    def command(*words):
        try:
            status = main(["--settings", str(settings), *words])
        except SystemExit as usage:
            status = usage.code
        return status, *capsys.readouterr()

    command.settings, command.ledger = settings, tmp_path / "ledger.sqlite"
    note(command)
    return command


def note(command, *events):
    with open_book(command.ledger) as book:
        for event in events:
            assert book.events.note(event)


def listed(command, *words):
    status, out, error = command("events", "--json", *words)
    assert (status, error) == (0, "")
    return [one["id"] for one in json.loads(out)]


def test_there_are_no_events_at_first(command):
    assert command("events") == (0, "no events\n", "")
    assert listed(command) == []


def test_an_incident_is_found_in_whatever_letters_and_says_all_that_is_known(command):
    note(command, TRIP)
    status, out, _ = command("events", "0a1b2c3d")
    assert status == 0
    assert "0A1B2C3D  trip  login:alice  100 used of 100 recipients per hour" in out
    for words in ("sent by: login:alice", "first at: mx1", "queue id: 4XYZ", "instance: i.1"):
        assert words in out
    found = json.loads(command("events", "0A1B2C3D", "--json")[1])
    assert (found["event"]["used"], found["event"]["at"], found["block"]) == (100, 1_800_000_000.0, None)


def test_the_incident_of_a_blocked_sender_finds_the_block(command):
    block = Block(
        "abcde", "login:alice", "sending", ITSELF, "3 windows tripped", "call 123", time.time(), None
    )
    with open_book(command.ledger) as book:
        assert book.block_once(block)
        book.events.note(Event("abcde", "permanent", "login:alice", text="3 windows tripped"))
    status, out, _ = command("events", "ABCDE")
    assert status == 0
    assert "abcde  permanent  login:alice  3 windows tripped" in out
    assert "block abcde  login:alice  sending  in force  for good  since" in out
    assert f"by {ITSELF}" in out


def test_a_block_of_an_operator_is_found_too(command):
    command("block", "alice", "--reason", "spam run")
    (one,) = json.loads(command("blocks", "--json")[1])
    status, out, _ = command("events", one["id"])
    assert status == 0
    assert "reason: spam run" in out


def test_what_is_no_event_is_1_and_says_where_to_look(command):
    status, out, error = command("events", "FFFFFFFF")
    assert (status, out) == (1, "no event and no block FFFFFFFF\n")
    assert "incident=FFFFFFFF in the hosts' logs" in error
    assert command("events", "FFFFFFFF", "--json")[:2] == (1, "null\n")


def test_the_newest_events_are_listed_oldest_first_and_those_of_a_target_alone(command):
    note(command, *(replace(TRIP, id=f"A{n}") for n in range(60)))
    note(command, replace(TRIP, id="B", subject="login:bob", principal="login:bob"))
    note(command, replace(TRIP, id="D", subject="domain:example.org"))
    assert listed(command)[-3:] == ["A59", "B", "D"]
    assert len(listed(command)) == 50
    assert listed(command, "--most", "2") == ["B", "D"]
    assert listed(command, "--of", "bob") == ["B"]
    assert listed(command, "--of", "alice", "--most", "2") == ["A59", "D"], "sent by alice"


def test_many_pages_are_read(command):
    note(command, replace(TRIP, id="B", subject="login:bob", principal="login:bob"))
    note(command, *(replace(TRIP, id=f"A{n}") for n in range(1200)))
    assert listed(command, "--of", "bob") == ["B"]
    assert len(listed(command, "--most", "1000")) == 1000


def test_what_a_peer_has_said_is_no_terminals_command(command):
    note(command, replace(TRIP, instance="\x1b[2J\n\udcff", queue_id="Q\r\nX"))
    out = command("events", TRIP.id)[1]
    assert "instance: ?[2J??" in out
    assert "queue id: Q??X" in out
    json.loads(command("events", TRIP.id, "--json")[1])


WRONG = [["--most", "0"], ["--most", "x"], ["--of", "a b"], ["--of", "x:y"]]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_words_are_usage(command, words):
    assert command("events", *words)[0] == 2


@pytest.mark.parametrize(
    "words", [["events"], ["events", "X"], ["events", "--follow"], ["audit"]], ids=" ".join
)
def test_without_a_ledger_it_is_unavailable_and_none_is_made(command, words):
    command.ledger.unlink()
    status, out, error = command(*words)
    assert (status, out) == (75, "")
    assert "there is no ledger yet" in error
    assert not command.ledger.exists()


# ---- following


def hear_interrupts():
    """A shell has what it runs in the background ignore SIGINT, this suite and its children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Follower:
    """`submitward events --follow` as a process."""

    def __init__(self, settings, *words):
        self.out = settings.parent / f"follow{time.monotonic_ns()}"
        full = [sys.executable, "-m", "submitward", "--settings", str(settings)]
        with self.out.open("wb") as out:
            self.child = subprocess.Popen(
                [*full, "events", "--follow", *words],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                preexec_fn=hear_interrupts,
            )

    def wait(self, text, times=1):
        until = time.monotonic() + PATIENCE
        while self.out.read_text().count(text) < times:
            assert time.monotonic() < until, self.out.read_text()
            assert self.child.poll() is None, self.out.read_text()
            time.sleep(0.05)
        return self.out.read_text()

    def end(self, number=signal.SIGINT):
        self.child.send_signal(number)
        return self.child.wait(PATIENCE)


def test_several_follow_and_each_hears_of_what_comes_once(command):
    note(command, TRIP)
    followers = [
        Follower(command.settings),
        Follower(command.settings, "--json"),
        Follower(command.settings, "--of", "bob"),
    ]
    try:
        for one in followers[:2]:
            one.wait("0A1B2C3D")
        for number in range(30):
            note(command, replace(TRIP, id=f"N{number:03}"))
        note(command, replace(TRIP, id="BOB", subject="login:bob", principal="login:bob"))
        for one in followers:
            one.wait("BOB")
        text = followers[0].out.read_text()
        assert [text.count(f"N{number:03}") for number in range(30)] == [1] * 30
        lines = [json.loads(line) for line in followers[1].out.read_text().splitlines()]
        assert [one["id"] for one in lines][-2:] == ["N029", "BOB"]
        assert followers[2].out.read_text().count("\n") == 1
    finally:
        assert [one.end() for one in followers] == [0, 0, 0]


def test_who_follows_goes_on_when_the_ledger_was_replaced(command):
    note(command, *(replace(TRIP, id=f"A{n}") for n in range(20)))
    follower = Follower(command.settings)
    try:
        follower.wait("A19")
        command.ledger.unlink()
        follower.wait("there is no ledger yet")
        # As many as there were, and more, before anybody looks: the serials alone would tell nothing.
        note(command, *(replace(TRIP, id=f"NEW{n}") for n in range(30)))
        follower.wait("NEW29")
        assert [follower.out.read_text().count(f"NEW{n} ") for n in range(30)] == [1] * 30
    finally:
        assert follower.end() == 0


def test_a_reader_that_leaves_ends_who_follows_for_it(command):
    reader, writer = os.pipe()
    words = [sys.executable, "-m", "submitward", "--settings", str(command.settings), "events", "--follow"]
    child = subprocess.Popen(words, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(writer)
    note(command, TRIP)
    assert b"0A1B2C3D" in os.read(reader, 4096)
    os.close(reader)
    with contextlib.closing(child.stderr):
        assert child.wait(PATIENCE) in (0, 141)
        assert child.stderr.read() == b""


# ---- the audit trail


def test_everything_that_changes_state_is_in_the_audit_trail(command, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "carol")
    command("block", "alice", "--reason", "spam")
    (block,) = json.loads(command("blocks", "--json")[1])
    command("unblock", "alice", "--reason", "paid")
    command("quota", "reset", "alice", "--reason", "asked")
    with open_book(command.ledger) as book:
        book.block_once(Block("abcde", "login:bob", "sending", ITSELF, "3 windows tripped", "", 1.0, 2.0))
    deeds = json.loads(command("audit", "--json")[1])
    assert [(d["author"], d["action"], d["subject"], d["id"], d["reason"]) for d in deeds] == [
        ("carol", "block", "login:alice", block["id"], "spam"),
        ("carol", "lift", "login:alice", block["id"], "paid"),
        ("carol", "reset", "login:alice", "", "asked"),
        (ITSELF, "block", "login:bob", "abcde", "3 windows tripped"),
    ]
    assert all(abs(d["at"] - time.time()) < 60 for d in deeds)
    assert len(json.loads(command("audit", "bob", "--json")[1])) == 1
    assert [d["action"] for d in json.loads(command("audit", "--most", "2", "--json")[1])] == [
        "reset",
        "block",
    ]
    line = command("audit", "alice", "--most", "1")[1]
    assert all(words in line for words in ("carol", "reset", "login:alice", "reason: asked"))


def test_app_passwords_and_flushes_are_in_the_audit_trail(command, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "carol")
    made = json.loads(command("app-password", "add", "alice", "--label", "phone", "--json")[1])
    assert command("app-password", "revoke", "alice", made["id"])[0] == 0
    assert command("auth", "flush", "alice", "--failures")[0] == 0
    deeds = json.loads(command("audit", "alice", "--json")[1])
    assert [(d["author"], d["action"], d["id"], d["reason"]) for d in deeds] == [
        ("carol", "app-password add", made["id"], "phone"),
        ("carol", "app-password revoke", made["id"], ""),
        ("carol", "auth flush", "", "failures too"),
    ]
    assert made["app_password"].partition(".")[2] not in command("audit")[1]


def test_nothing_was_changed_at_first(command):
    assert command("audit") == (0, "nothing was changed\n", "")
