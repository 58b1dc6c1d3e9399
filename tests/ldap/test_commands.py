"""The operator's commands on a directory that is LDAP: check, auth test, owns, export, quota's plan."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ledger.bookfile import open_book
from ledger.charges import Amounts, ChargeId, Submission
from ledger.limits import parse_limit
from tests.ldap.slapd import BASE, SERVICE, SERVICE_PASSWORD, host, ldif, password

CLONE = Path(__file__).parents[2]


def command_for(server, tmp_path):
    """Runs a subcommand against a server; `changes` go into directory.ldap."""
    (tmp_path / "secret").write_text(SERVICE_PASSWORD + "\n")
    (tmp_path / "secret").chmod(0o600)
    standard = server

    def run(*arguments, stdin="", changes=None, server=None, sections=None, directory=None):
        server = server or standard
        section = {
            "preset": "openldap",
            "servers": [server.tls_url],
            "ca_file": str(server.authority.ca),
            "bind_dn": SERVICE,
            "password": {"file": str(tmp_path / "secret")},
            "base": BASE,
            "filters": {"delegates": "(mailDelegate={dn})"},
            "attributes": {"terms": ["termsAccepted"]},
            **(changes or {}),
        }
        kept = {"kind": "ldap", "ldap": section, **(directory or {})}
        settings = {"version": 1, "directory": kept, **(sections or {})}
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(settings))
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "submitward", "--settings", str(path), *arguments],
            input=stdin if isinstance(stdin, bytes) else stdin.encode(),
            capture_output=True,
            cwd=CLONE,
            env={**os.environ, "PYTHONPATH": str(CLONE)},
            check=False,
        )

    return run


@pytest.fixture
def command(slapd, tmp_path):
    """Runs a subcommand against the shared slapd."""
    return command_for(slapd, tmp_path)


def text(done):
    return done.stdout.decode() + done.stderr.decode()


def test_owns_says_which_entry_and_attribute_gives_each_address(command):
    done = command("owns", "alice", "ally@example.net")
    assert done.returncode == 0, text(done)
    words = "mailAlternateAddress ally of uid=alice,ou=people,dc=example,dc=org at example.net, alias"
    assert words in done.stdout.decode()
    assert command("owns", "alice", "erin@example.org").returncode == 1
    assert command("owns", "nobody").returncode == 1
    assert command("owns", "network:192.0.2.10/32", "printer@example.org").returncode == 0
    listed = json.loads(command("owns", "--json", "alice").stdout)
    assert "sales@example.org" in listed["addresses"]
    assert command("owns", "alice", changes={"servers": ["ldaps://127.0.0.1:1"]}).returncode == 75


@pytest.mark.parametrize(
    ("login", "secret", "status", "words"),
    [
        ("alice", password("alice"), 0, "the password is right"),
        ("alice", password("alice"), 0, "127.0.0.1 is 127.0.0.1"),
        ("alice", password("alice"), 0, "ms  ldaps://127.0.0.1"),
        ("alice", b"wr0ng-one", 1, "refused: wrong_password"),
        ("alice", b"", 1, "it is not sent"),
        ("latin", "pässwörd".encode("latin-1"), 0, "the password is right"),
        ("nobody", b"some-secret", 1, "nobody is found"),
        ("dora", password("dora"), 1, "refused: locked"),
        ("egon", password("egon"), 1, "may not log in: expired"),
        ("twin@example.org", b"some-secret", 75, "more than 1 entry"),
        ("erin", password("erin"), 0, "until terms are accepted"),
    ],
)
def test_auth_test_walks_up_to_the_bind(command, login, secret, status, words):
    done = command("auth", "test", login, stdin=secret + b"\n")
    assert (done.returncode, words in text(done)) == (status, True), text(done)
    assert b"Traceback" not in done.stderr
    assert not secret or secret not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "all is well|looked up as"),
        ({"base": "dc=nowhere"}, "noSuchObject|result 32"),
        ({"ca_file": "/etc/ssl/certs/ca-certificates.crt"}, "certificate verify failed|CERTIFICATE_VERIFY"),
        ({"servers": ["ldaps://127.0.0.1:1"]}, "refused"),
        ({"servers": ["ldaps://no.such.host.invalid"]}, "cannot be resolved"),
        ({"attributes": {"login": ["employeeNumber"]}}, "employeeNumber"),
        ({"bind_dn": f"cn=nobody,{BASE}"}, "refuses the service account"),
        ({"filters": {"users": "(objectClass=account)"}}, "finds nobody"),
        ({"filters": {"user": "(employeeNumber={login})"}}, "not found by the filter user"),
        ({"submission_group": f"cn=misspelt,{BASE}"}, "search at cn=misspelt"),
    ],
    ids=["good", "base", "CA", "connect", "resolve", "attribute", "service", "filter", "look-up", "group"],
)
def test_check_walks_the_directory_step_by_step(command, changes, words):
    found = text(command("check", changes=changes))
    assert any(word in found for word in words.split("|")), found
    assert "Traceback" not in found


def test_check_tells_each_step_of_a_good_directory(command, slapd):
    said = text(command("check"))
    steps = (
        "127.0.0.1 is 127.0.0.1",
        "connected over TLSv1.3; the certificate is for localhost, 127.0.0.1, good until 20",
        f"bound as {SERVICE}",
        f"{BASE} is there",
        "a sample, uid=user0000,",
        "looked up as user0000: one entry",
        "hosts, 2 aliases of domains",
        "refuses a name without a password",
    )
    places = [said.find(step) for step in steps]
    assert -1 not in places, said
    assert places == sorted(places)


def test_check_warns_of_a_certificate_that_ends_soon_and_of_clear_text(command, own_slapd, authority):
    authority.issue("soon", days=5)
    own_slapd.stop()
    own_slapd.configure("soon")
    own_slapd.start()
    assert "have it renewed" in text(command("check", server=own_slapd))
    plain = {"servers": [own_slapd.url], "insecure": True}
    assert "CLEAR TEXT" in text(command("check", changes=plain))
    over_start_tls = {"servers": [own_slapd.url], "start_tls": True}
    assert "TLSv1.3 after StartTLS" in text(command("check", changes=over_start_tls))


def test_check_takes_the_login_of_its_sample_from_the_attribute_and_not_from_the_name(command, own_slapd):
    """As in Active Directory, where names begin with CN=."""
    staff = f"ou=staff,{BASE}"
    own_slapd.change("ldapadd", ldif(staff, objectClass="organizationalUnit", ou="staff"))
    values = {"uid": "zoe", "cn": "Zoe Miller", "sn": "Miller", "mail": "zoe@example.org"}
    own_slapd.change("ldapadd", ldif(f"cn=Zoe Miller,{staff}", objectClass="inetOrgPerson", **values))
    assert "looked up as zoe: one entry" in text(command("check", server=own_slapd, changes={"base": staff}))


def test_check_says_whether_unauthenticated_binds_are_accepted(command):
    assert "refuses a name without a password" in text(command("check"))


def test_a_host_relays_while_its_entry_is_there(command, own_slapd, tmp_path):
    def networks():
        done = command("export", "postfix", "--output", str(tmp_path), server=own_slapd)
        assert done.returncode == 0, text(done)
        return (tmp_path / "networks").read_text()

    assert "192.0.2.99" not in networks()
    assert "AB:AB" in (tmp_path / "relay_clientcerts").read_text()
    own_slapd.change("ldapadd", host("new", ipHostNumber="192.0.2.99", mailLocalAddress="n@example.org"))
    assert "192.0.2.99/32 OK" in networks()
    own_slapd.change("ldapdelete", f"cn=new,ou=hosts,{BASE}\n")
    assert "192.0.2.99" not in networks()
    own_slapd.stop()
    kept = (tmp_path / "networks").read_text()
    assert command("export", "postfix", "--output", str(tmp_path), server=own_slapd).returncode == 75
    assert (tmp_path / "networks").read_text() == kept


def test_quota_lists_and_shows_logins_of_ldap_with_the_plan_of_their_group(command, tmp_path):
    sections = {
        "plans": {"default": ["10 recipients per hour"], "sellers": ["20 recipients per hour"]},
        "limits": {"domains": {"default": "sellers"}},
        "ledger": {"sqlite": {"path": str(tmp_path / "ledger.sqlite")}},
    }
    by_group = {"plans": {"groups": {"sales": "sellers"}}}
    with open_book(tmp_path / "ledger.sqlite") as book:
        for number, login in enumerate(("alice", "erin", "gone")):
            limits = tuple(
                (f"login:{login}", parse_limit(f"{n} recipients per hour"), True) for n in (10, 20)
            )
            who = Submission(f"login:{login}", "x@example.org")
            book.reserve(ChargeId("mx", f"i{number}", f"Q{number}"), who, Amounts(1, 9, 1), limits)
    done = command("quota", "list", "--all", "--json", sections=sections, directory=by_group)
    assert done.returncode == 0, text(done)
    assert [(one["subject"], one["limit"]) for one in json.loads(done.stdout)] == [
        ("login:erin", "10 recipients per hour"),
        ("login:alice", "20 recipients per hour"),
    ]
    done = command("quota", "show", "alice", sections=sections, directory=by_group)
    assert done.stdout.decode().splitlines()[:3] == [
        "login:alice: plan sellers, from directory.plans.groups: sales",
        "  20 recipients per hour: 9 recipients used, 11 recipients left",
        "domain:example.org: plan sellers, from limits.domains: default",
    ]
    away = {"servers": ["ldaps://127.0.0.1:1"]}
    for words in (("quota", "list"), ("quota", "show", "alice")):
        assert command(*words, changes=away, sections=sections).returncode in (2, 75)
