"""`submitward quota` for what many share, and for grants, of every kind of target, as operators run it."""

from __future__ import annotations

import json
import sqlite3
import time
from datetime import datetime

import pytest

from directory.settings import find_principal
from ledger.bookfile import open_book
from ledger.charges import Amounts, ChargeId, Submission
from ledger.grants import Grants
from policyd.inquiry import networks
from policyd.scopes import held_of, scopes_of
from policyd.settings import load_settings
from submitward.__main__ import main
from submitward.granting import moment_of
from tests.submitward.command import submitward

FINGERPRINT = "ab" * 32
SETTINGS = """\
version: 1
directory:
  file: {{path: {home}/directory.yaml}}
  domains: {{example.org: {{aliases: [example.net]}}}}
  plans: {{groups: {{staff: staff}}, domains: {{example.com: tenant}}}}
ledger: {{sqlite: {{path: {home}/ledger.sqlite}}}}
plans:
  default: [10 recipients per hour, 8 recipients per message]
  staff: [20 recipients per hour]
  tenant: [40 recipients per hour]
  host: [30 messages per hour]
  all: [100 recipients per day]
limits:
  domains: {{default: tenant}}
  networks: {{default: host, 192.0.2.0/24: host}}
  relay: all
"""
DIRECTORY = f"""\
logins:
  alice: {{mailboxes: [alice@example.org]}}
  bob: {{mailboxes: [bob@example.net], groups: [staff]}}
  carol: {{mailboxes: [carol@example.com]}}
certificates:
  printer: {{fingerprint: '{FINGERPRINT}', addresses: [printer@example.org]}}
networks:
  office: {{network: 192.0.2.0/24, addresses: [office@example.org], plan: staff}}
"""


class Command:
    """Runs a subcommand; gives its exit code, standard output and standard error."""

    def __init__(self, home, capsys):
        self.home, self.capsys, self.sent = home, capsys, 0
        (home / "directory.yaml").write_text(DIRECTORY)
        (home / "config.yaml").write_text(SETTINGS.format(home=home))

    @property
    def settings(self):
        return load_settings(self.home / "config.yaml")

    def __call__(self, *words):
        try:
            status = main(["--settings", str(self.home / "config.yaml"), *words])
        except SystemExit as usage:
            status = usage.code
        return status, *self.capsys.readouterr()

    def told(self, *words):
        status, out, error = self(*words, "--json")
        assert status == 0, error
        return json.loads(out)

    def send(self, subject, recipients, client="203.0.113.9"):
        """A message as policyd charges it."""
        self.sent += 1
        settings = self.settings
        principal = find_principal(settings.directory, subject)
        with open_book(self.home / "ledger.sqlite") as book:
            basis = settings.rules.basis(Grants(book.register.current()))
            scopes = scopes_of(principal, networks(client), basis, time.time())
            charge = ChargeId("mx", f"i{self.sent}", f"Q{self.sent}")
            held = held_of(scopes, enforce=True)
            return book.reserve(charge, Submission(subject, "x@example.org"), Amounts(1, recipients, 9), held)

    def audit(self):
        with sqlite3.connect(self.home / "ledger.sqlite") as connection:
            return connection.execute("SELECT author, action, subject, reason FROM audit").fetchall()


@pytest.fixture
def command(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "ops")
    return Command(tmp_path, capsys)


def test_show_has_a_standing_in_every_window_of_a_login_and_of_all_that_it_shares(command):
    command.send("login:bob", 8)
    status, out, error = command("quota", "show", "bob")
    assert (status, error) == (0, "")
    assert out.splitlines() == [
        "login:bob: plan staff, from directory.plans.groups: staff",
        "  20 recipients per hour: 8 recipients used, 12 recipients left",
        "domain:example.org: plan tenant, from limits.domains: default",
        "  40 recipients per hour: 8 recipients used, 32 recipients left",
        "relay: plan all, from limits.relay",
        "  100 recipients per day: 8 recipients used, 92 recipients left",
    ]
    shown = command.told("quota", "show", "bob")
    assert [one["subject"] for one in (shown, *shown["shares"])] == [
        "login:bob",
        "domain:example.org",
        "relay",
    ]


#: a target, the subject it is, and how its first line goes on
SHOWN = [
    ("carol", "login:carol", "plan tenant, from directory.plans.domains: example.com"),
    (f"certificate:{FINGERPRINT}", f"certificate:sha256:{FINGERPRINT}", "plan default, from the default"),
    ("network:192.0.2.0/24", "network:192.0.2.0/24", "plan staff, from its entry"),
    ("network:203.0.113.9", "network:203.0.113.9/32", "plan host, from limits.networks: default"),
    ("domain:example.org", "domain:example.org", "plan tenant, from limits.domains: default"),
    ("domain:example.net", "domain:example.org", "plan tenant, from limits.domains: default"),
    ("relay", "relay", "plan all, from limits.relay"),
]


@pytest.mark.parametrize(("target", "subject", "plan"), SHOWN)
def test_every_kind_of_target_can_be_shown_reset_granted_to_and_revoked(command, target, subject, plan):
    status, out, error = command("quota", "show", target)
    assert (status, out.splitlines()[0]) == (0, f"{subject}: {plan}")
    assert ("is an alias of example.org" in error) == (target == "domain:example.net")
    command.send("login:carol" if "carol" in target else "login:alice", 1)
    assert command("quota", "reset", target, "--reason", "agreed")[0] == 0
    status, out, _ = command("quota", "grant", target, "7 bytes per day", "--reason", "a test")
    assert status == 0
    assert out.startswith(f"{subject}: granted 7 bytes per day for good, id ")
    assert "7 bytes per day: 0 bytes used, 7 bytes left" in command("quota", "show", target)[1]
    status, out, _ = command("quota", "revoke", target, "--reason", "over")
    assert (status, out.partition(":")[2].split()[-2]) == (0, "revoked")
    assert "7 bytes per day" not in command("quota", "show", target)[1]
    assert [row[:3] for row in command.audit()] == [
        ("ops", action, subject) for action in ("reset", "grant", "revoke")
    ]
    assert [row[3] for row in command.audit()] == ["agreed", "7 bytes per day: a test", "over"]


def test_list_shows_who_is_near_and_who_is_over_the_fullest_first(command):
    assert command("quota", "list")[1] == "nobody has used 80 % of a limit\n"
    command.send("login:alice", 8)
    command.send("login:alice", 2)
    command.send("login:bob", 17)
    command.send("login:carol", 9)
    listed = command.told("quota", "list")
    assert [(one["subject"], one["percent"], one["over"]) for one in listed] == [
        ("login:alice", 100, True),
        ("login:bob", 85, False),
    ]
    everything = command.told("quota", "list", "--all")
    assert {one["subject"] for one in everything} == {
        "login:alice",
        "login:bob",
        "login:carol",
        "network:203.0.113.9/32",
        "domain:example.org",
        "domain:example.com",
        "relay",
    }
    assert [one["subject"] for one in command.told("quota", "list", "--over")] == ["login:alice"]
    assert [one["subject"] for one in command.told("quota", "list", "--kind", "domain", "--near", "50")] == [
        "domain:example.org"
    ]
    status, out, _ = command("quota", "list")
    assert status == 0
    assert out.splitlines()[0].startswith(
        "OVER  100 %  login:alice  10 recipients used of 10 recipients per hour, reopens 2"
    )
    command("quota", "grant", "alice", "exempt", "--reason", "the boss")
    assert command("quota", "list")[1].splitlines()[0].endswith(", exempt")


def test_list_leaves_out_who_has_left_and_shows_a_host_under_both_its_plans(command):
    command.send("network:192.0.2.0/24", 18, "192.0.2.7")
    listed = command.told("quota", "list", "--all", "--kind", "network")
    assert [(one["subject"], one["limit"]) for one in listed] == [
        ("network:192.0.2.0/24", "20 recipients per hour"),
        ("network:192.0.2.0/24", "30 messages per hour"),
    ]
    command.send("login:alice", 8)
    (command.home / "directory.yaml").write_text("logins: {}\n")
    assert command.told("quota", "list", "--kind", "login", "--all") == []


def test_a_grant_lifts_the_limits_and_says_what_they_are_now(command):
    command.send("login:alice", 8)
    assert command.send("login:alice", 8).standing.used == 8  # refused
    status, out, error = command(
        "quota", "grant", "alice", "+200 recipients", "--until", "tomorrow", "--reason", "a mailing"
    )
    assert (status, error) == (0, "")
    assert "login:alice: granted +200 recipients until 2" in out
    assert out.splitlines()[1] == "  now: 210 recipients per hour, 8 recipients per message"
    assert len(command.send("login:alice", 8).standings) == 4
    shown = command.told("quota", "show", "alice")
    assert shown["limits"][0]["amount"] == 210
    (grant,) = shown["grants"]
    assert (grant["kind"], grant["terms"], grant["author"], grant["reason"]) == (
        "more",
        ["+200 recipients"],
        "ops",
        "a mailing",
    )
    assert grant["end"] == moment_of("tomorrow")
    assert f"granted: {grant['id']}  +200 recipients" in command("quota", "show", "alice")[1]
    assert command.told("quota", "grants")[0]["id"] == grant["id"]
    assert command("quota", "revoke", "--id", grant["id"], "--reason", "done")[0] == 0
    assert command("quota", "grants")[1] == "no grants\n"
    assert "revoked 2" in command("quota", "grants", "--all")[1]
    assert command("blocks", "--all")[1] == "no blocks\n"


def test_an_exempt_sender_is_counted_over_its_limit_and_nothing_is_refused(command):
    command("quota", "grant", "alice", "exempt", "--reason", "the boss")
    for recipients in (8, 8):
        assert len(command.send("login:alice", recipients).standings) == 4
    shown = command.told("quota", "show", "alice")
    assert (shown["exempt"], shown["limits"][0]["used"], shown["shares"][0]["limits"][0]["used"]) == (
        True,
        16,
        16,
    )
    (listed,) = command.told("quota", "list", "--over")
    assert (listed["subject"], listed["percent"], listed["exempt"]) == ("login:alice", 160, True)
    command("quota", "grant", "domain:example.org", "20 recipients per hour", "--reason", "x")
    assert command.send("login:alice", 5).standing.subject == "domain:example.org"  # refused by the others


def test_a_block_of_an_alias_stops_who_is_at_home_at_its_domain(command):
    status, out, error = command("block", "domain:example.net", "--reason", "spam")
    assert status == 0
    assert out.startswith("domain:example.org: blocked")
    assert "example.net is an alias of example.org" in error
    assert command("unblock", "domain:example.net")[0] == 0


def test_a_block_is_not_revoked_and_a_grant_is_not_unblocked(command):
    block = command.told("block", "alice", "--reason", "spam")
    grant = command.told("quota", "grant", "alice", "exempt", "--reason", "x")
    assert command("quota", "revoke", "--id", block["id"], "--reason", "x")[0] == 1
    assert command("unblock", "--id", grant["id"])[0] == 1
    assert command.told("unblock", "alice")["lifted"] == [block["id"]]
    assert command.told("quota", "revoke", "alice", "--reason", "x")["revoked"] == [grant["id"]]


#: what is asked for, the exit code, and what is said
REFUSED = [
    (["alise", "+5 recipients"], 1, "did you mean alice?"),
    (["domain:example.edu", "+5 recipients"], 1, "the directory lists no domain example.edu"),
    (["alice", "+5 messages"], 1, "login:alice has no such window (10 recipients per hour"),
    (["alice", "+5 recipients per day"], 1, "no such window"),
    (["network:198.51.100.0/24", "exempt"], 1, "has no limits: there is nothing to add to"),
    (["alice", "+5 recipients", "exempt"], 2, "give several grants"),
    (["alice", "5 recipients"], 2, "is no limit"),
    (["alice", "exempt", "--until", "2020-01-01"], 2, "it would have ended"),
    (["alice", "exempt", "--until", "soon"], 2, "is no moment"),
    (["alice", "exempt", "--for", "1 h", "--until", "tomorrow"], 2, "not allowed with"),
    (["alice"], 2, "TERMS"),
]


@pytest.mark.parametrize(("words", "status", "said"), REFUSED)
def test_a_grant_that_would_do_nothing_is_refused_with_the_reason(command, words, status, said):
    got, out, error = command("quota", "grant", *words, "--reason", "x")
    assert (got, out) == (status, "")
    assert said in error
    assert not (command.home / "ledger.sqlite").exists() or command("quota", "grants")[1] == "no grants\n"


def test_granting_revoking_and_resetting_need_a_reason(command):
    for words in (["grant", "alice", "exempt"], ["revoke", "alice"], ["reset", "alice"]):
        status, _, error = command("quota", *words)
        assert (status, "--reason" in error) == (2, True)


def test_a_broken_directory_is_in_the_way_of_no_grant(command):
    (command.home / "directory.yaml").write_text("logins: [")
    status, out, error = command("quota", "grant", "alice", "exempt", "--reason", "urgent")
    assert status == 0
    assert "granted exempt" in out
    assert "cannot be known" in error


def test_moments_are_local_and_a_day_is_its_beginning():
    now = datetime(2026, 11, 25, 13, 30).timestamp()
    assert moment_of("tomorrow", now) == datetime(2026, 11, 26).timestamp()
    assert moment_of("2026-12-24") == datetime(2026, 12, 24).timestamp()
    assert moment_of("2026-12-24 18:00") == datetime(2026, 12, 24, 18).timestamp()
    for text in ("", "24.12.2026", "2026-13-01", "2026-12-24 25:00", "0000-01-01"):
        with pytest.raises(ValueError, match="is no moment"):
            moment_of(text)


def test_explain_prints_the_precedence_and_where_each_limit_comes_from(command):
    command.send("login:bob", 8)
    granted = ("domain:example.org", "+5 recipients", "--for", "1 h", "--reason", "x")
    grant = command.told("quota", "grant", *granted)
    asked = ("bob", "bob@example.net", "--client-address", "192.0.2.7", "--recipients", "13")
    done = submitward(command.home / "config.yaml", "explain", *asked)
    assert done.returncode == 1
    assert "precedence    a principal's plan is what its entry names, else its group's, else" in done.stdout
    told = [line for line in done.stdout.splitlines() if line.startswith(("scope", "  grant", "  standing"))]
    assert [line.split("  until")[0] for line in told] == [
        "scope         login:bob: plan staff, from directory.plans.groups: staff",
        "  standing    20 recipients per hour: 8 used, 12 left",
        "scope         domain:example.org: plan tenant, from limits.domains: default",
        f"  grant       {grant['id']}  +5 recipients",
        "  standing    45 recipients per hour: 8 used, 37 left",
        "scope         network:192.0.2.0/24: plan host, from limits.networks: 192.0.2.0/24",
        "  standing    30 messages per hour: 0 used, 30 left",
        "scope         relay: plan all, from limits.relay",
        "  standing    100 recipients per day: 8 used, 92 left",
    ]
    assert "answer        DATA: 450 4.7.1 login bob: used 8 of 20 recipients per hour" in done.stdout
