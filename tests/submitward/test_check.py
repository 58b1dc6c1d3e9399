"""What `submitward check` says about settings, stores, sockets and Postfix's own configuration."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from submitward import postconf
from submitward.__main__ import main
from submitward.check import look_at_directory, look_at_postfix
from submitward.findings import Finding, exit_status
from submitward.postconf import Unreadable
from submitward.restrictions import Restriction, locate, parse, parse_policy, split
from submitward.settings import load_settings
from submitward.wiring import Ours, is_deferral
from tests.deploy.existing import EXISTING, TAKEN, wish
from tests.lab.place import SHIPPED

QUEUE = "/var/spool/postfix"
OURS = Ours(
    policy=frozenset({f"unix:{QUEUE}/submitward/policy"}),
    auth=frozenset({f"unix:{QUEUE}/submitward/auth"}),
    milter=frozenset({f"unix:{QUEUE}/submitward/milter"}),
)
POLICY = "check_policy_service { unix:submitward/policy, policy_context=submission }"
OBSERVED = dataclasses.replace(OURS, author="observe", enforces=False)


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """A copy of the shipped main.cf and master.cf."""
    for name in ("main.cf", "master.cf"):
        shutil.copy(SHIPPED / name, tmp_path)
    return tmp_path


def rest(directory: Path) -> None:
    """Postfix waits until a file was left alone for a second or two; let these look as if they had been."""
    for name in ("main.cf", "master.cf"):
        if (directory / name).exists():
            os.utime(directory / name, (1, 1))


def look(directory: Path, ours: Ours = OURS) -> list[Finding]:
    rest(directory)
    return list(look_at_postfix(postconf.read(str(directory)), ours))


def wrong(directory: Path, ours: Ours = OURS) -> list[str]:
    """Every finding that is not ok, as ``level service: text``."""
    return [f"{f.level} {f.where}: {f.text}" for f in look(directory, ours) if f.level != "ok"]


def say(directory: Path, *lines: str) -> None:
    """Append to main.cf: the last value counts."""
    with (directory / "main.cf").open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def test_the_shipped_files_are_in_order(configuration: Path) -> None:
    assert wrong(configuration) == []
    told = [str(finding) for finding in look(configuration)]
    assert any("policyd is asked at RCPT, DATA, END-OF-MESSAGE" in line for line in told)
    assert any("smtp/inet" in line and "not asked" in line for line in told)


# What is appended to the shipped main.cf → level and words of what is said of it.
MISTAKES = [
    ("allow_percent_hack = yes", "warning main.cf", "allow_percent_hack"),
    ("swap_bangpath = yes", "warning main.cf", "swap_bangpath"),
    ("strict_rfc821_envelopes = no", "error submission/inet", "null sender"),
    ("non_smtpd_milters = unix:submitward/milter", "error main.cf", "non_smtpd_milters"),
    ("smtpd_milters = unix:submitward/milter", "error smtp/inet", "no submission"),
    ("submission_recipient_restrictions = reject_non_fqdn_recipient", "warning", "not asked at RCPT"),
    (
        "submission_sender_restrictions = $submitward_policy",
        "warning",
        "asked 2 times at RCPT (smtpd_sender_restrictions, smtpd_recipient_restrictions)",
    ),
    ("submission_data_restrictions =", "error", "RCPT TO:<postmaster>"),
    ("submission_end_of_data_restrictions =", "error", "not asked at END-OF-MESSAGE"),
    ("submission_recipient_restrictions = permit_mynetworks, $submitward_policy", "error", "stands before"),
    (
        "submission_recipient_restrictions = permit_sasl_authenticated $submitward_policy",
        "error",
        "permit_sasl_authenticated stands before policyd",
    ),
    ("submission_data_restrictions = permit, $submitward_policy", "error", "permit stands before policyd"),
    (
        "submission_recipient_restrictions = check_sender_access texthash:/x, $submitward_policy",
        "warning",
        "passes policyd by",
    ),
    (
        "submission_recipient_restrictions = check_policy_service inet:127.0.0.1:9 $submitward_policy",
        "warning",
        "passes policyd by",
    ),
    (f"submission_data_restrictions = {POLICY}", "warning", "different texts"),
    (
        "submitward_policy = check_policy_service { unix:submitward/policy, default_action=DUNNO }",
        "error",
        "default_action is DUNNO",
    ),
    (
        "submitward_policy = check_policy_service { unix:submitward/policy, default_action=451 }",
        "error",
        "default_action is 451",
    ),
    (
        "submitward_policy = check_policy_service { unix:submitward/policy, policy_context=mx }",
        "error",
        "asked as mx",
    ),
    ("submission_relay_restrictions = permit_sasl_authenticated", "error", "ends without a refusal"),
    ("submission_relay_restrictions = permit, reject", "error", "permit lets anybody relay"),
    (
        "submission_relay_restrictions = permit_tls_all_clientcerts, reject",
        "error",
        "permit_tls_all_clientcerts lets anybody relay",
    ),
    (
        "submission_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination",
        "warning",
        "does not end in reject",
    ),
    ("smtpd_relay_restrictions = permit_mynetworks", "error smtp/inet", "ends without a refusal"),
    ("smtpd_relay_restrictions = permit", "error smtp/inet", "permit lets anybody relay"),
    ("smtpd_sasl_auth_enable = yes", "error smtp/inet", "policyd is never asked"),
    ("smtpd_sasl_path = private/auth", "warning", "not by saslauthd"),
    ("smtpd_sasl_type = cyrus", "warning", "judged by cyrus"),
    ("smtpd_tls_fingerprint_digest = md5", "warning", "md5"),
    ("submission_milters = unix:opendkim/opendkim.sock", "error", "the author milter is missing"),
    ("submission_milters =", "error", "the author milter is missing"),
    (
        "submission_milters = unix:opendkim/opendkim.sock, unix:submitward/milter",
        "error",
        "stands before the author milter",
    ),
    (
        "submission_milters = { unix:submitward/milter, default_action=accept }",
        "error",
        "default_action=accept",
    ),
]


@pytest.mark.parametrize(("line", "level", "words"), MISTAKES)
def test_a_mistake_is_named_with_its_mend(configuration: Path, line: str, level: str, words: str) -> None:
    say(configuration, line)
    found = [f for f in look(configuration) if f.level != "ok"]
    assert [f for f in found if f"{f.level} {f.where}".startswith(level) and words in f.text], found
    assert all(f.mend for f in found)


def test_a_milter_default_action_counts_where_the_milter_names_none(configuration: Path) -> None:
    say(configuration, "milter_default_action = accept", "submission_milters = unix:submitward/milter")
    assert any("default_action=accept" in line for line in wrong(configuration))


def test_auth_without_tls_is_an_error(configuration: Path) -> None:
    say(configuration, "smtpd_tls_auth_only = no", "submission_tls_security_level = may")
    assert any(line.startswith("error submission/inet: AUTH without TLS") for line in wrong(configuration))
    assert not any(line.startswith("error submissions/inet") for line in wrong(configuration))


@pytest.mark.parametrize("local", ["127.0.0.1:submission", "[::1]:submission", "inet_interfaces"])
def test_auth_without_tls_is_nobodys_danger_where_this_host_alone_gets_there(
    configuration: Path, local: str
) -> None:
    say(configuration, "smtpd_tls_auth_only = no", "submission_tls_security_level = none")
    if local == "inet_interfaces":
        say(configuration, "inet_interfaces = 127.0.0.1, [::1]")
    else:
        master = configuration / "master.cf"
        master.write_text(re.sub("(?m)^submission ", f"{local} ", master.read_text()))
    assert wrong(configuration) == []


def test_what_another_milter_does_while_it_is_away_is_its_owners_choice(configuration: Path) -> None:
    say(
        configuration,
        "submission_milters = unix:submitward/milter, { inet:localhost:11332, default_action=accept }",
    )
    found = {line for line in wrong(configuration) if "localhost:11332" in line}
    assert {line.split()[0] for line in found} == {"warning"}


@pytest.mark.parametrize("name", TAKEN)
def test_what_the_graft_makes_of_a_host_has_no_error(tmp_path: Path, name: str) -> None:
    """Also where main.cf says nothing, and defaults hold; or check.yml would fail everywhere."""
    for path in (EXISTING / name / "after").iterdir():
        shutil.copy(path, tmp_path)
    ours = OBSERVED if wish(name).observe else OURS
    found = wrong(tmp_path, ours)
    assert [line for line in found if line.startswith("error") or "has changed" in line] == []


@pytest.mark.parametrize(
    ("name", "parameter", "old", "new"),
    [
        ("mailman", "recipient_restrictions", "permit_mynetworks", "permit_mynetworks, reject_x"),
        ("rspamd", "milters", "inet:localhost:11332", "inet:localhost:11333"),
    ],
)
def test_a_copy_of_a_list_that_has_changed_since_is_told(
    tmp_path: Path, name: str, parameter: str, old: str, new: str
) -> None:
    for path in (EXISTING / name / "after").iterdir():
        shutil.copy(path, tmp_path)
    main = tmp_path / "main.cf"
    head, equals, tail = main.read_text().partition(f"\nsmtpd_{parameter} =")
    main.write_text(head + equals + tail.replace(old, new, 1))
    told = f"smtpd_{parameter} has changed, and its copy submitward_{parameter} has not"
    assert [line.partition(": ")[2] for line in wrong(tmp_path) if "has changed" in line] == [told]


def test_an_option_of_one_service_is_judged_for_that_service_alone(configuration: Path) -> None:
    master = configuration / "master.cf"
    text = master.read_text()
    cut = text.replace("  -o smtpd_milters=$submission_milters\n", "", 1)
    master.write_text(cut)
    assert wrong(configuration) == [
        "error submission/inet: the author milter is missing: nobody judges the visible From"
    ]


def test_options_in_braces_and_values_of_values_are_expanded(configuration: Path) -> None:
    say(configuration, "inner = permit_mynetworks", "outer = $inner, ${submitward_policy}")
    master = configuration / "master.cf"
    old = "  -o smtpd_recipient_restrictions=$submission_recipient_restrictions\n"
    new = "  -o { smtpd_recipient_restrictions = $outer }\n"
    master.write_text(master.read_text().replace(old, new, 1))
    assert [line for line in wrong(configuration) if "permit_mynetworks stands before policyd" in line]


def test_a_restriction_class_is_followed(configuration: Path) -> None:
    say(
        configuration,
        "smtpd_restriction_classes = ours",
        f"ours = permit_mynetworks, {POLICY}",
        "submission_recipient_restrictions = ours",
    )
    assert any("permit_mynetworks stands before policyd" in line for line in wrong(configuration))
    assert not any("not asked at RCPT" in line for line in wrong(configuration))


def test_charge_rcpt_needs_other_stages(configuration: Path) -> None:
    rcpt = Ours(OURS.policy, OURS.auth, OURS.milter, charge="rcpt")
    assert wrong(configuration, rcpt) == []
    say(configuration, "submission_data_restrictions =", "submission_end_of_data_restrictions =")
    assert all("postmaster" in line for line in wrong(configuration, rcpt))
    say(configuration, "submission_recipient_restrictions =", f"submission_data_restrictions = {POLICY}")
    assert any("nothing is charged" in line for line in wrong(configuration, rcpt))


def test_an_author_check_that_is_off_is_not_missed(configuration: Path) -> None:
    say(configuration, "submission_milters = unix:opendkim/opendkim.sock")
    off = Ours(OURS.policy, OURS.auth, OURS.milter, author="off")
    assert wrong(configuration, off) == []


def test_what_only_observes_may_let_mail_pass_while_it_is_away(configuration: Path) -> None:
    policy = "check_policy_service { unix:submitward/policy, default_action=DUNNO }"
    milter = "{ unix:submitward/milter, default_action=accept }"
    say(configuration, f"submission_recipient_restrictions = {policy}", f"submission_milters = {milter}")
    assert len([line for line in wrong(configuration) if "default_action" in line]) == 4  # by two services
    assert not [line for line in wrong(configuration, OBSERVED) if line.startswith("error")]


def test_a_chrooted_service_is_judged_by_the_paths_it_sees(configuration: Path) -> None:
    master = configuration / "master.cf"
    master.write_text(
        master.read_text().replace("n       -       n       -       -       smtpd", "n - y - - smtpd")
    )
    assert wrong(configuration) == []
    say(
        configuration,
        f"submitward_policy = check_policy_service {{ unix:{QUEUE}/submitward/policy, "
        "policy_context=submission, { default_action = 451 4.3.5 away } }",
    )
    assert any("policyd is never asked" in line for line in wrong(configuration))


def test_logins_on_the_mx_port_may_be_ended_as_well_as_judged(configuration: Path) -> None:
    say(configuration, "smtpd_sasl_auth_enable = yes")
    told = [finding for finding in look(configuration) if "policyd is never asked" in finding.text]
    assert [finding.where for finding in told] == ["smtp/inet"]
    assert "-o smtpd_sasl_auth_enable=no" in told[0].mend


def test_policyd_on_the_mx_port_is_told_and_not_blamed(configuration: Path) -> None:
    mx = "check_policy_service { unix:submitward/policy, policy_context=mx }"
    say(configuration, f"smtpd_recipient_restrictions = {mx}")
    assert wrong(configuration) == []
    assert any(
        "smtp/inet: no submission service; policyd is asked at RCPT" in str(f) for f in look(configuration)
    )


def test_nothing_of_postfix_is_changed(configuration: Path) -> None:
    look(configuration)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in configuration.iterdir()}
    assert list(look_at_postfix(postconf.read(str(configuration)), OURS))
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in configuration.iterdir()} == before


def test_a_configuration_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        postconf.read(str(tmp_path / "nowhere"))


# ---- lists


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" a, b\n c ,, d", ["a", "b", "c", "d"]),
        ("a { b, { c = d e } } f", ["a", "{ b, { c = d e } }", "f"]),
        ("{ a", ["{ a"]),
        ("a } b", ["a", "}", "b"]),
    ],
)
def test_a_list_is_split_as_postfix_splits_it(text: str, words: list[str]) -> None:
    assert split(text) == words


def test_restrictions_keep_their_arguments() -> None:
    chain = parse("Permit_MyNetworks check_client_access cidr:/x,reject_rbl_client bl.example reject")
    assert [str(restriction) for restriction in chain] == [
        "permit_mynetworks",
        "check_client_access cidr:/x",
        "reject_rbl_client bl.example",
        "reject",
    ]
    assert Restriction("check_policy_service", "inet:127.0.0.1:10040").policy == parse_policy(
        "inet:127.0.0.1:10040"
    )


@pytest.mark.parametrize(
    ("endpoint", "chroot", "place"),
    [
        ("unix:submitward/policy", False, "unix:/q/submitward/policy"),
        ("unix:submitward/policy", True, "unix:/q/submitward/policy"),
        ("unix:/run/policy", False, "unix:/run/policy"),
        ("unix:/run/policy", True, "unix:/q/run/policy"),
        ("unix:private/../submitward/policy", False, "unix:/q/submitward/policy"),
        ("inet:127.0.0.1:10040", False, "127.0.0.1:10040"),
        ("inet:localhost:10040", False, "127.0.0.1:10040"),
        ("inet:[::1]:10040", False, "[::1]:10040"),
    ],
)
def test_an_endpoint_is_where_postfix_finds_it(endpoint: str, chroot: bool, place: str) -> None:
    assert locate(endpoint, "/q", chroot=chroot) == place


@pytest.mark.parametrize(
    ("action", "defers"),
    [
        ("451 4.3.5 Server configuration problem", True),
        ("DEFER_IF_PERMIT away", True),
        ("defer", True),
        ("451", False),
        ("450 ", False),
        ("DUNNO", False),
        ("OK", False),
        ("", False),
        ("permit", False),
        ("554 5.7.1 no", False),
        ("4511 x", False),
    ],
)
def test_a_default_action_defers_or_not(action: str, defers: bool) -> None:
    assert is_deferral(action) is defers


# ---- the command


@pytest.fixture
def room() -> Iterator[Path]:
    """A short directory: UNIX socket paths end at 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def settle(room: Path, queue: Path, *, directory: str = "logins: {}\n") -> Path:
    (room / "directory.yaml").write_text(directory)
    settings = room / "config.yaml"
    settings.write_text(
        f"""version: 1
mta: test
listen:
  policy: [{{address: "unix:{queue}/submitward/policy"}}]
  auth: [{{address: "unix:{queue}/submitward/auth"}}]
  milter: [{{address: "unix:{queue}/submitward/milter"}}]
directory: {{kind: file, file: {{path: {room}/directory.yaml}}}}
ledger: {{kind: sqlite, sqlite: {{path: {room}/ledger.sqlite}}}}
sign: {{by: opendkim, key_table: {room}/KeyTable, signing_table: {room}/SigningTable}}
"""
    )
    return settings


@pytest.fixture
def site(room: Path) -> Iterator[Path]:
    """Settings, a Postfix configuration beside them, and somebody who listens on all three sockets."""
    queue = room / "queue"
    (queue / "submitward").mkdir(parents=True)
    for name in ("main.cf", "master.cf", "KeyTable", "SigningTable"):
        shutil.copy(SHIPPED / name, room)
    say(room, f"queue_directory = {queue}")
    listeners = []
    for name in ("policy", "auth", "milter"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(queue / "submitward" / name))
        shutil.chown(queue / "submitward" / name, group="postfix")
        os.chmod(queue / "submitward" / name, 0o660)
        listener.listen()
        listeners.append(listener)
    settle(room, queue)
    yield room
    for listener in listeners:
        listener.close()


def check(room: Path, *options: str) -> int:
    rest(room)
    return main(["--settings", str(room / "config.yaml"), "check", "--postfix", str(room), *options])


def told(capsys: pytest.CaptureFixture[str]) -> list[Finding]:
    return [Finding(**finding) for finding in json.loads(capsys.readouterr().out)["findings"]]


def test_a_site_in_order_exits_0(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(site) == 0
    out = capsys.readouterr().out
    assert "postfix can connect" in out
    assert "there is no ledger yet" in out
    assert not (site / "ledger.sqlite").exists()


def test_json_carries_the_exit_status(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(site, "strict_rfc821_envelopes = no")
    assert check(site, "--json") == 1
    value = json.loads(capsys.readouterr().out)
    assert value["status"] == 1
    assert [f["where"] for f in value["findings"] if f["level"] == "error"] == [
        "submission/inet",
        "submissions/inet",
    ]


def test_what_is_left_out_on_purpose_is_told_and_no_error(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say(site, "submission_milters = unix:opendkim/opendkim.sock", "submitward_policy =")
    assert check(site) == 1
    assert "error       submission/inet: principals are let in here" in capsys.readouterr().out
    assert check(site, "--without", "policyd", "--without", "milter") == 0
    out = capsys.readouterr().out
    assert "warning     submission/inet: principals are let in here and policyd is never asked" in out
    assert "the author milter is missing" not in out


def test_wrong_settings_are_all_told_and_exit_2(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (site / "config.yaml").open("a") as file:
        file.write("polcy: {}\nnonsense: 1\n")
    assert check(site) == 2
    err = capsys.readouterr().err
    assert "polcy" in err
    assert "nonsense" in err
    assert check(site, "--json") == 2
    assert len([f for f in told(capsys) if f.level == "error"]) == 2


def test_a_socket_that_is_closed_to_postfix_is_an_error(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.chown(site / "queue/submitward/auth", group="root")
    assert check(site, "--json") == 1
    found = [f for f in told(capsys) if f.level == "error"]
    assert [(f.text, "group" in f.mend) for f in found] == [("postfix may not connect", True)]


def test_a_directory_that_is_closed_to_postfix_is_an_error(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "queue/submitward").chmod(0o700)
    assert check(site, "--json") == 1
    assert {f.text for f in told(capsys) if f.level == "error"} == {"postfix may not connect"}


def test_a_socket_that_everybody_can_reach_is_a_warning(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "queue/submitward/auth").chmod(0o666)
    assert check(site, "--json") == 0
    assert any("every local user" in f.text for f in told(capsys) if f.level == "warning")


def test_sockets_that_nobody_listens_on_are_errors(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "queue/submitward/policy").unlink()
    dead = socket.socket(socket.AF_UNIX)
    (site / "queue/submitward/milter").unlink()
    dead.bind(str(site / "queue/submitward/milter"))
    shutil.chown(site / "queue/submitward/milter", group="postfix")
    (site / "queue/submitward/milter").chmod(0o660)
    dead.close()
    assert check(site, "--json") == 1
    assert [f.text for f in told(capsys) if f.level == "error"] == ["nobody listens"] * 2


def test_a_broken_directory_is_an_error_that_names_the_line(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "directory.yaml").write_text("logins:\n  alice: {mailboxs: [alice@example.org]}\n")
    assert check(site, "--json") == 1
    assert any("directory.yaml:2:" in f.text for f in told(capsys) if f.level == "error")


def test_a_directory_is_read_by_the_settings_before_it_is_theirs(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = site / "new.yaml"
    new.write_text("logins:\n  alice: {mailboxes: [alice@example.org], plan: defalt}\n")
    assert check(site, "--json", "--directory", str(new)) == 1
    assert [f.text.partition(":")[0] for f in told(capsys) if f.level == "error"] == ["login"]
    new.write_text("logins:\n  alice: {mailboxes: [alice@example.org]}\n")
    assert check(site, "--json", "--directory", str(new)) == 0
    assert [f.text for f in told(capsys)][1:] == ["1 principals"]  # and nothing else was looked at


def test_a_plan_that_the_settings_lack_is_an_error_that_names_the_nearest(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "directory.yaml").write_text(
        "logins:\n"
        "  zoe: {plan: defalt, mailboxes: [zoe@example.org]}\n"
        "  yan: {plan: defalt}\n"
        "  xia: {plan: vip}\n"
        "  wim: {}\n"
    )
    assert check(site, "--json") == 1
    typo, other = (f for f in told(capsys) if f.level == "error")
    assert typo.text.startswith("login:zoe and 1 more: the settings have no plan 'defalt'")
    assert typo.mend.startswith("did you mean default?")
    assert other.text.startswith("login:xia: the settings have no plan 'vip'")
    assert other.mend == "add it under plans, which has: default"


def test_a_mistake_in_the_signers_tables_is_an_error_with_its_line(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "SigningTable").write_text("*@example.org example.org\n*@example.net\n")
    assert check(site, "--json") == 1
    (found,) = [finding for finding in told(capsys) if finding.level == "error"]
    assert found.where == f"{site}/SigningTable:2"
    (site / "KeyTable").unlink()
    assert check(site, "--json") == 75


def test_a_ledger_that_is_none_exits_75(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "ledger.sqlite").write_bytes(b"this is not a database, and long enough to be taken for one" * 40)
    assert check(site, "--json") == 75
    assert [f.level for f in told(capsys) if "ledger" in f.where] == ["unavailable"]


def test_a_postfix_that_cannot_be_read_exits_75(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "main.cf").unlink()
    assert check(site, "--json") == 75
    assert any(f.where == "Postfix" for f in told(capsys) if f.level == "unavailable")


def test_errors_count_more_than_what_cannot_be_seen() -> None:
    error, away, warning = (Finding(level, "x", "y") for level in ("error", "unavailable", "warning"))  # type: ignore[arg-type]
    assert exit_status([]) == exit_status([warning]) == 0
    assert exit_status([away, warning]) == 75
    assert exit_status([away, error]) == 1


def test_the_command_runs_as_a_program(site: Path) -> None:
    command = [sys.executable, "-m", "submitward", "--settings", str(site / "config.yaml")]
    rest(site)
    done = subprocess.run(
        [*command, "check", "--postfix", str(site)],
        capture_output=True,
        text=True,
        cwd=SHIPPED.parent,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_plan_of_a_domain_or_a_group_that_nobody_has_is_told(tmp_path: Path) -> None:
    (tmp_path / "directory.yaml").write_text("logins: {a: {mailboxes: [a@example.org], groups: [staff]}}\n")
    (tmp_path / "config.yaml").write_text(
        f"version: 1\ndirectory:\n  file: {{path: {tmp_path}/directory.yaml}}\n"
        "  plans: {groups: {staff: default, stuff: default}, domains: {example.org: default}}\n"
        "limits: {domains: {example.org: default, exampel.org: default, elsewhere.test: default}}\n"
    )
    found = list(look_at_directory(load_settings(tmp_path / "config.yaml"), tmp_path / "directory.yaml"))
    assert [(one.level, one.text, one.mend) for one in found[1:]] == [
        ("warning", "limits.domains: exampel.org: nobody is at home there", "did you mean example.org?"),
        (
            "warning",
            "limits.domains: elsewhere.test: nobody is at home there",
            "look at its spelling, or remove it",
        ),
        ("warning", "directory.plans.groups: stuff: nobody is in it", "did you mean staff?"),
    ]
