"""The preset `389ds` against a real 389 Directory Server: verdicts, ownership, states, and an outage."""

import tempfile
import time
from pathlib import Path

import pytest
import pytest_twisted
import yaml
from twisted.internet import reactor, task

from directory.identity import Certificate, Denied, Login, Network, Unavailable, Verified
from tests.ldap.house import directory, grants, look_up, settings_for, verify
from tests.ldap.ns_slapd import ATTEMPTS, SUBMITTERS, NsSlapd
from tests.ldap.slapd import BASE, dn_of, ldif, password
from tests.ldap.test_commands import command_for

# login, password, what comes of it; everybody but erin and the twins is in the submission group
OUTCOMES = [
    ("alice", password("alice"), Verified("alice")),
    ("ALICE", password("alice"), Verified("alice")),
    ("alice@example.org", password("alice"), Verified("alice")),
    ("alice", b"wrong", Denied("wrong_password")),
    ("alice", b"", Denied("wrong_password")),
    ("carol", password("carol"), Verified("carol")),  # in a group that is in the submission group
    ("dora", password("dora"), Denied("disabled")),
    ("dora", b"wrong", Denied("disabled")),  # the server says so before it looks at the password
    ("old", password("old"), Denied("password_expired")),
    ("old", b"wrong", Denied("wrong_password")),
    ("reset", password("reset"), Denied("must_change_password")),
    ("erin", password("erin"), Denied("not_in_group")),
    ("joerg", "pässwörd".encode(), Verified("joerg")),
    ("joerg", "pässwörd".encode("latin-1"), Denied("wrong_password")),
    ("nobody", b"x", Denied("unknown_login")),
    ("*", password("alice"), Denied("unknown_login")),
    ("alice)(uid=*", password("alice"), Denied("unknown_login")),
    ("jörg", b"x", Denied("unknown_login")),
]
# login, address, what its words hold (None: it is not owned)
OWNED = [
    ("alice", "alice@example.org", "mail alice of uid=alice,"),
    ("alice", "alice@example.net", "at example.net, alias of example.org"),
    ("alice", "a.lice@example.org", "mailAlternateAddress a.lice of uid=alice,"),
    ("alice", "ally@example.net", "mailAlternateAddress ally of uid=alice,"),
    ("alice", "sales@example.org", "shared address sales@example.org of group cn=sales,"),
    ("alice", "sales@example.net", None),
    ("alice", "north@example.org", None),
    ("alice", "bob@example.com", f"mail bob of {dn_of('bob')} (as its delegate)"),
    ("bob", "bob@example.com", "mail bob of"),
    ("bob", "bob@example.org", "mail bob of"),
    ("bob", "alice@example.org", None),
    ("bob", "sales@example.org", None),
    ("carol", "north@example.org", "group cn=north,"),
    ("carol", "sales@example.org", "group cn=sales,"),  # through cn=north, by memberOf
]


@pytest.fixture(scope="module")
def server(place, authority):
    made = NsSlapd(Path(tempfile.mkdtemp(prefix="ns", dir=place)), authority).make()
    try:
        yield made.start().fill()
    finally:
        made.stop()


def settings(server, **changes):
    return settings_for(server.tls_url, authority=server.authority, **{"preset": "389ds", **changes})


@pytest_twisted.ensureDeferred
async def test_every_login_gets_its_verdict(server, checker):
    wrong = []
    with directory(settings(server, submission_group=SUBMITTERS), checker=checker) as made:
        for login, secret, wanted in OUTCOMES:
            got = await verify(made, login, secret)
            if got != wanted:
                wrong.append((login, secret, wanted, got))
    assert not wrong


@pytest_twisted.ensureDeferred
async def test_a_lockout_is_told_in_the_log_only_and_ends_with_the_unlocking(server, checker):
    with directory(settings(server), checker=checker) as made:
        for _ in range(ATTEMPTS):
            assert await verify(made, "lou", b"wrong") in (Denied("wrong_password"), Denied("locked"))
        assert await verify(made, "lou", password("lou")) == Denied("locked")
        server.modify(
            dn_of("lou"),
            "delete: accountUnlockTime",
            "-",
            "replace: passwordRetryCount",
            "passwordRetryCount: 0",
        )
        assert await verify(made, "lou", password("lou")) == Verified("lou")


@pytest_twisted.ensureDeferred
async def test_addresses_are_owned_as_the_entries_say(server):
    wrong = []
    with directory(settings(server)) as made:
        for login, text, words in OWNED:
            found = await grants(made, login, text)
            if (found is None) != (words is None) or (words is not None and words not in found):
                wrong.append((login, text, words, found))
    assert not wrong


@pytest_twisted.ensureDeferred
async def test_hosts_plans_terms_and_states_come_from_their_entries(server):
    with directory(settings(server)) as made:
        assert await grants(made, Network("192.0.2.10"), "printer@example.net")
        assert await grants(made, Certificate(("sha256:" + "ab" * 32,)), "alice@example.org")
        assert await look_up(made, Network("203.0.113.1")) is None
        carol, erin, dora = [await look_up(made, login) for login in ("carol", "erin", "dora")]
        assert (carol.plan, carol.terms_accepted, erin.terms_accepted) == ("staff", True, False)
        assert (dora.disabled, dora.stopped, erin.stopped) == (True, "disabled", None)
        assert await look_up(made, "nobody") is None


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_is_unavailable_and_not_a_refusal(server):
    with directory(settings(server)) as made:
        with pytest.raises(Unavailable, match=r"twin1.*twin2"):
            await look_up(made, "twin@example.org")
        with pytest.raises(Unavailable, match="has none of mail"):
            await look_up(made, "poor")
        assert ("error", "directory_puzzle") in [line[:2] for line in made.log.lines]
    with (
        directory(
            settings(server, submission_group="cn=none,dc=example,dc=org", submitter_at="group")
        ) as made,
        pytest.raises(Unavailable),
    ):
        await look_up(made, "alice")


@pytest.mark.parametrize(
    ("arguments", "stdin", "status", "words"),
    [
        (("check",), b"", None, "looked up as alice: one entry"),
        (("check",), b"", None, "refuses a name without a password"),
        (("auth", "test", "alice"), password("alice"), 0, "the password is right"),
        (("auth", "test", "old"), password("old"), 1, "refused: password_expired"),
        (("auth", "test", "dora"), password("dora"), 1, "refused: disabled"),
        (("owns", "carol", "sales@example.org"), b"", 0, "group cn=sales"),
    ],
)
def test_the_commands_walk_through_it(server, tmp_path, arguments, stdin, status, words):
    done = command_for(server, tmp_path)(*arguments, stdin=stdin, changes={"preset": "389ds"})
    said = done.stdout.decode() + done.stderr.decode()
    assert words in said
    assert status is None or done.returncode == status, said


ACCOUNTS = f"cn=accounts,dc=ipa,{BASE}"
WRITTEN = yaml.safe_load((Path(__file__).parent / "written" / "freeipa.yaml").read_text())
MEMBERS = {"north": ["uid=nell,cn=users"], "sales": ["uid=gus,cn=users", "cn=north,cn=groups"]}


def written_entry(case, *classes, **more):
    """What was written by hand, as LDIF; memberOf is the server's to make."""
    values = {name: list(map(str, texts)) for name, texts in case["entry"].items()}
    given = {name: texts for name, texts in values.items() if name not in ("memberOf", "objectClass")}
    return ldif(case["dn"], objectClass=list(classes), **given, **more)


@pytest.fixture(scope="module")
def freeipa(server):
    """The entries of the preset `freeipa` in a 389ds, on which FreeIPA is built; without its schema."""
    server.modify("cn=config", "replace: nsslapd-schemacheck", "nsslapd-schemacheck: off")
    places = (f"dc=ipa,{BASE}", ACCOUNTS, f"cn=users,{ACCOUNTS}", f"cn=groups,{ACCOUNTS}")
    records = [ldif(place, objectClass="nsContainer") for place in places]
    groups = {}
    for case in WRITTEN.values():
        records.append(written_entry(case, "posixAccount"))
        delegates = {"mailDelegate": case["dn"]}
        records += [written_entry(other, "posixAccount", **delegates) for other in case.get("delegators", ())]
        groups |= {group["dn"]: group for group in case.get("groups", ())}
    for dn, group in sorted(groups.items()):
        name = dn.partition(",")[0].partition("=")[2]
        members = [f"{member},{ACCOUNTS}" for member in MEMBERS[name]]
        records.append(written_entry(group, "ipaUserGroup", "groupOfNames", member=members))
    other = {"uid": "twin2", "mail": "twin@example.org"}
    records.append(ldif(f"uid=twin2,cn=users,{ACCOUNTS}", objectClass="posixAccount", **other))
    server.change("ldapadd", "".join(records))
    return server


@pytest_twisted.ensureDeferred
async def test_the_filters_of_freeipa_find_in_a_389ds_what_its_table_wants(freeipa):
    wrong = []
    with directory(settings(freeipa, base=ACCOUNTS, preset="freeipa", attributes={})) as made:
        for title, case in WRITTEN.items():
            wanted = case["wanted"]
            try:
                found = await look_up(made, wanted["login"])
                got = (found.stopped, sorted(found.addresses), "")
            except Unavailable as puzzle:
                got = (None, [], str(puzzle))
            said = wanted.get("puzzle", "")
            if got[:2] != (wanted.get("stopped"), sorted(wanted["addresses"])) or said not in got[2]:
                wrong.append((title, wanted, got))
        with pytest.raises(Unavailable, match=r"twin.*twin2"):
            await look_up(made, "twin@example.org")
    assert not wrong


@pytest_twisted.ensureDeferred
async def test_a_restart_refuses_nobody(server, checker):
    with directory(settings(server), checker=checker) as made:
        assert await verify(made, "alice", password("alice")) == Verified("alice")
        server.stop()
        for login in ("alice", "bob"):
            with pytest.raises(Unavailable):
                await verify(made, login, password(login))
        assert (await look_up(made, "alice")).name == "alice"  # from the cache
        server.start()
        until = time.monotonic() + 10
        while True:
            try:
                assert await verify(made, "bob", password("bob")) == Verified("bob")
                break
            except Unavailable:
                assert time.monotonic() < until
            await task.deferLater(reactor, 0.2)
        assert made.look_up(Login("alice")).name == "alice"
        assert BASE in made.look_up(Login("alice")).dn
