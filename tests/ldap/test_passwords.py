"""Whether a password is right, as a real slapd says."""

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults

from directory.identity import Denied, Unavailable, Verified
from tests.ldap.house import directory, settings_for, verify
from tests.ldap.scripted import SEARCH, Scripted, bound, done, entry
from tests.ldap.slapd import BASE, SUBMITTERS, dn_of, ldif, password, user

# login, password, what comes of it
OUTCOMES = [
    ("alice", password("alice"), Verified("alice")),
    ("ALICE", password("alice"), Verified("alice")),
    ("alice@example.org", password("alice"), Verified("alice")),
    ("Alice@EXAMPLE.org", password("alice"), Verified("alice")),
    ("alice", b"wrong", Denied("wrong_password")),
    ("alice", password("bob"), Denied("wrong_password")),
    ("alice", b"", Denied("wrong_password")),
    ("alice", b"\0", Denied("wrong_password")),
    ("alice", password("alice") + b"\0", Denied("wrong_password")),
    ("alice", b"x" * 5000, Denied("wrong_password")),
    ("nobody", b"x", Denied("unknown_login")),
    ("", b"x", Denied("unknown_login")),
    ("jörg", "pässwörd".encode(), Verified("jörg")),
    ("jo\u0308rg", "pässwörd".encode(), Verified("jörg")),
    ("jörg", "pässwörd".encode("latin-1"), Denied("wrong_password")),
    ("latin", "pässwörd".encode("latin-1"), Verified("latin")),
    ("latin", "pässwörd".encode(), Denied("wrong_password")),
    ("dora", password("dora"), Denied("locked")),
    ("egon", password("egon"), Denied("expired")),
    ("egon", b"wrong", Denied("wrong_password")),
    ("reset", password("reset"), Denied("must_change_password")),
    ("erin", password("erin"), Denied("not_in_group")),
    ("poor", password("poor"), Verified("poor")),
    ("twin1", password("twin1"), Denied("not_in_group")),
    # nothing that is escaped reaches another entry
    ("*", password("alice"), Denied("unknown_login")),
    ("alic*", password("alice"), Denied("unknown_login")),
    ("alice)(uid=*", password("alice"), Denied("unknown_login")),
    ("*)(objectClass=*", b"x", Denied("unknown_login")),
    ("alice\\2a", password("alice"), Denied("unknown_login")),
    ("\\61lice", password("alice"), Denied("unknown_login")),
    ("alice\0", password("alice"), Denied("unknown_login")),
    ("alice\x80", password("alice"), Denied("unknown_login")),
    ("alice,ou=people", password("alice"), Denied("unknown_login")),
    ("x" * 300, b"x", Denied("unknown_login")),
    ("ä" * 120, b"x", Denied("unknown_login")),
    ("\udcff", b"x", Denied("unknown_login")),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("template", ["", f"uid={{login}},ou=people,{BASE}"], ids=["search", "template"])
async def test_every_login_gets_its_verdict(own_slapd, authority, template, checker):
    settings = settings_for(
        own_slapd.tls_url, authority=authority, submission_group=SUBMITTERS, dn_template=template
    )
    wrong = []
    with directory(settings, checker=checker) as made:
        for login, secret, wanted in OUTCOMES:
            if template and "@" in login:
                wanted = Denied("wrong_password")  # such an entry is not there, and slapd does not say so
            got = await verify(made, login, secret)
            same = type(got) is type(wanted)
            fits = same if template and isinstance(wanted, Denied) else got == wanted
            if not fits:
                wrong.append((login, secret, wanted, got))
    assert not wrong


@pytest_twisted.ensureDeferred
async def test_many_at_once_each_get_their_own_verdict(slapd, authority, checker):
    with directory(settings_for(slapd.tls_url, authority=authority), checker=checker) as made:
        logins = [user(index) for index in range(60)]
        asked = [verify(made, login, password(login)) for login in logins]
        refused = [verify(made, login, b"wrong") for login in logins]
        assert await gatherResults(asked) == [Verified(login) for login in logins]
        assert set(await gatherResults(refused)) == {Denied("wrong_password")}


@pytest_twisted.ensureDeferred
async def test_start_tls_is_enough(slapd, authority, checker):
    with directory(settings_for(slapd.url, authority=authority, start_tls=True), checker=checker) as made:
        assert await verify(made, "alice", password("alice")) == Verified("alice")


@pytest_twisted.ensureDeferred
async def test_plain_text_works_where_the_settings_insist(slapd, checker):
    with directory(settings_for(slapd.url), checker=checker) as made:
        assert await verify(made, "alice", password("alice")) == Verified("alice")


@pytest_twisted.ensureDeferred
async def test_a_lockout_of_the_password_policy_is_told_in_the_log_only(own_slapd, authority, checker):
    with directory(settings_for(own_slapd.tls_url, authority=authority), checker=checker) as made:
        for _ in range(5):
            assert await verify(made, "fred", b"wrong") == Denied("wrong_password")
        assert await verify(made, "fred", password("fred")) == Denied("locked")


@pytest_twisted.ensureDeferred
async def test_one_wrong_attempt_costs_one_failure_at_the_server(own_slapd, authority, checker):
    """pwdMaxFailure is 5: four attempts leave the fifth good."""
    with directory(
        settings_for(own_slapd.tls_url, own_slapd.tls_url, authority=authority), checker=checker
    ) as made:
        for _ in range(4):
            assert await verify(made, "fred", b"wrong") == Denied("wrong_password")
        assert await verify(made, "fred", password("fred")) == Verified("fred")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("after", [0.0, 0.002, 0.2])  # while connecting, while shaking hands, while waiting
async def test_who_hangs_up_while_being_judged_takes_the_server_from_nobody(
    own_slapd, authority, checker, after
):
    with directory(settings_for(own_slapd.tls_url, authority=authority), checker=checker) as made:
        assert await verify(made, "alice", password("alice")) == Verified("alice")  # who she is, is known now
        own_slapd.freeze()
        left = [verify(made, "alice", password("alice")) for _ in range(5)]
        for one in left:
            one.addErrback(lambda failure: failure.trap(CancelledError, Unavailable))
            reactor.callLater(after, one.cancel)
        await gatherResults(left)
        own_slapd.thaw()
        assert await verify(made, "alice", password("alice")) == Verified("alice")
        assert "ldap_server_failed" not in made.log.events()


@pytest_twisted.ensureDeferred
async def test_whoever_is_moved_logs_in_at_once_and_whoever_is_removed_is_unknown(
    own_slapd, authority, checker
):
    with directory(settings_for(own_slapd.tls_url, authority=authority), checker=checker) as made:
        for login in ("alice", "bob"):
            assert await verify(made, login, password(login)) == Verified(login)
        own_slapd.change("ldapadd", ldif(f"ou=staff,{BASE}", objectClass="organizationalUnit", ou="staff"))
        move = ("changetype: modrdn", "newrdn: uid=alice", "deleteoldrdn: 0", f"newsuperior: ou=staff,{BASE}")
        own_slapd.change("ldapmodify", "\n".join([f"dn: {dn_of('alice')}", *move, ""]))
        own_slapd.change("ldapdelete", f"{dn_of('bob')}\n")
        assert await verify(made, "alice", password("alice")) == Verified("alice")
        assert await verify(made, "alice", b"wrong") == Denied("wrong_password")
        assert await verify(made, "bob", password("bob")) == Denied("unknown_login")


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_of_somebody_known_is_sent_once(checker):
    here = entry("uid=alice,dc=example,dc=org", uid=["alice"], mail=["alice@example.org"])
    quiet = dict.fromkeys(("groups", "delegates", "hosts", "domain_aliases"), "")

    def script(kind, _):
        right = server.binds[-1][1] == b"right"
        return [here, done()] if kind == SEARCH else [bound(0 if right else 49)]

    with Scripted(script) as server:
        with directory(settings_for(server.url, filters=quiet), checker=checker) as made:
            assert await verify(made, "alice", b"right") == Verified("alice")
            assert await verify(made, "alice", b"wrong") == Denied("wrong_password")
        assert [name for name, _ in server.binds if name.startswith("uid=")] == [
            "uid=alice,dc=example,dc=org"
        ] * 2
