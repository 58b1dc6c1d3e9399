"""What is made of an answer where the answer itself matters: a scripted server gives it."""

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st

from directory.bindwire import Broken, Reader, encode_bind
from directory.identity import Denied, Unavailable, Verified
from tests.ldap import scripted
from tests.ldap.house import directory, settings_for, verify
from tests.ldap.scripted import SEARCH, Scripted, bound, done, entry, message, notice, policy
from tests.ldap.test_passwords import OUTCOMES

ALICE = entry("uid=alice,dc=example,dc=org", uid=["alice"], mail=["alice@example.org"])
QUIET = {"filters": {"groups": "", "delegates": "", "hosts": "", "domain_aliases": ""}}
AD = "80090308: LdapErr: DSID-0C09042F, comment: AcceptSecurityContext error, data {}, v2580"


def finds(*answer):
    """Alice is found; her bind is answered so."""

    def script(kind, _):
        return [ALICE, done()] if kind == SEARCH else list(answer)

    return script


# the answer to the bind, what comes of it (None: Unavailable)
BINDS = [
    (bound(0), Verified("alice")),
    (bound(49), Denied("wrong_password")),
    (bound(49, AD.format("52e")), Denied("wrong_password")),
    (bound(49, AD.format("525")), Denied("unknown_login")),
    (bound(49, AD.format("530")), Denied("not_permitted")),
    (bound(49, AD.format("531")), Denied("not_permitted")),
    (bound(49, AD.format("532")), Denied("password_expired")),
    (bound(49, AD.format("533")), Denied("disabled")),
    (bound(49, AD.format("701")), Denied("expired")),
    (bound(49, AD.format("773")), Denied("must_change_password")),
    (bound(49, AD.format("775")), Denied("locked")),
    (bound(49, AD.format("fff")), Denied("wrong_password")),
    ((bound(49), policy(0)), Denied("password_expired")),
    ((bound(49), policy(1)), Denied("locked")),
    ((bound(0), policy(2)), Denied("must_change_password")),
    ((bound(0), policy(5)), Verified("alice")),
    ((bound(0), policy(2, as_389ds=True)), Denied("must_change_password")),
    ((bound(49), policy(0, as_389ds=True)), Denied("password_expired")),
    ((bound(53), policy(1, as_389ds=True)), Denied("disabled")),
    (bound(53, "Account inactivated. Contact system administrator."), Denied("disabled")),
    (bound(53, "Entry permanently locked.\n"), Denied("disabled")),
    (bound(53, "Too many failed logins.\n"), Denied("disabled")),
    (bound(53, "Account (Kerberos principal) is expired"), Denied("disabled")),
    # a server in maintenance, which says it of everybody
    (bound(53), None),
    (bound(53, "operation restricted"), None),
    (bound(53, "unwilling to perform simple authentication"), None),
    (bound(53, "Minimum SSF not met."), None),
    ((bound(53, "operation restricted"), policy(5)), None),
    (bound(19, "Exceed password retry limit"), Denied("locked")),
    (bound(32), Denied("unknown_login")),
    *[(bound(code), None) for code in (1, 2, 3, 7, 8, 11, 12, 13, 14, 48, 50, 51, 52, 54, 80, 118)],
    (bound(10, referral="ldap://127.0.0.1:1/"), None),
    (done(0), None),  # the answer to a search
    (entry("uid=alice,dc=example,dc=org"), None),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("answer", "wanted"), BINDS)
async def test_a_bind_is_answered_exactly_so(answer, wanted, checker):
    with Scripted(finds(answer)) as server:
        with directory(settings_for(server.url, **QUIET), checker=checker) as made:
            if wanted is None:
                with pytest.raises(Unavailable):
                    await verify(made, "alice", b"right")
            else:
                assert await verify(made, "alice", b"right") == wanted
        assert [name for name, _ in server.binds if name.startswith("uid=")] == [
            "uid=alice,dc=example,dc=org"
        ]


RAW = {
    "half an answer": message(1, bound(0))[:-3],
    "another id": message(77, bound(0)),
    "no LDAP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a huge length": b"\x30\x84\x7f\xff\xff\xff",
    "an endless length": b"\x30\x80",
    "a notice of disconnection": notice(),
    "the end": None,
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("raw", RAW.values(), ids=RAW)
async def test_half_an_answer_is_unavailable_and_never_asked_twice(raw, checker):
    with Scripted(lambda kind, _: [ALICE, done()] if kind == SEARCH else raw) as server:
        settings = settings_for(server.url, server.url, **QUIET)
        with directory(settings, checker=checker) as made, pytest.raises(Unavailable):
            await verify(made, "alice", b"right")
        assert len([name for name, _ in server.binds if name.startswith("uid=")]) == 1


SEARCHES = {
    "a referral": [done(10, referral="ldap://{}/dc=example,dc=org")],
    "size limit": [ALICE, done(4)],
    "no such base": [done(32)],
    "no rights": [done(50)],
    "time limit": [done(3)],
    "half an answer": message(2, ALICE)[:-2],
    "a notice of disconnection": notice(),
    "the end": None,
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("answer", SEARCHES.values(), ids=SEARCHES)
async def test_a_search_that_fails_is_unavailable_and_nobody_binds(answer):
    with Scripted(lambda *_: answer) as server:
        with directory(settings_for(server.url, **QUIET)) as made, pytest.raises(Unavailable):
            await verify(made, "alice", b"right")
        assert {name for name, _ in server.binds} <= {server.service}


@pytest_twisted.ensureDeferred
async def test_referrals_lead_nowhere():
    with Scripted(lambda *_: [bound(0)]) as other:

        def script(kind, _):
            if kind == SEARCH:
                reference = scripted.tlv(0x73, scripted.text(f"{other.url}/dc=example,dc=org"))
                return [ALICE, reference, done()]
            return [bound(10, referral=f"{other.url}/")]

        with Scripted(script) as server:
            settings = settings_for(server.url, **QUIET)
            with directory(settings) as made, pytest.raises(Unavailable):
                await verify(made, "alice", b"right")
        assert (other.connections, other.binds, other.searches) == (0, [], [])


@pytest_twisted.ensureDeferred
async def test_nothing_hostile_reaches_a_bind_or_changes_a_filter(checker):
    """Whatever the login: the filter keeps its form, and no bind lacks a name or a password."""
    with Scripted(lambda kind, _: [done()] if kind == SEARCH else [bound(0)]) as server:
        with directory(
            settings_for(server.url, attributes={"domains": ()}, **QUIET), checker=checker
        ) as made:
            for login, secret, _ in OUTCOMES:
                assert isinstance(await verify(made, login, secret), Denied)
        assert server.unauthenticated() == []
        assert {name for name, _ in server.binds} == {server.service}
        shapes = {shape_of(search) for search in server.searches}
        assert len(shapes) == 1


def shape_of(search):
    """The filter of a search request without its values."""

    def walk(tag, content):
        if tag in (0xA0, 0xA1, 0xA2):
            return (tag, *(walk(*part) for part in scripted.parts(content)))
        name, *_ = scripted.parts(content) if tag == 0xA3 else [(0, content)]
        return (tag, name[1])

    return walk(*scripted.parts(search)[6])


@pytest_twisted.ensureDeferred
async def test_an_empty_service_password_is_never_sent():
    from sidecar.settings import Secret

    with pytest.raises(ValueError, match="empty"):
        settings_for("ldap://127.0.0.1:1", password=Secret(""))


@pytest_twisted.ensureDeferred
async def test_wrong_credentials_are_not_tried_at_the_next_server(checker):
    with Scripted(finds(bound(49))) as first, Scripted(finds(bound(0))) as second:
        with directory(settings_for(first.url, second.url, **QUIET), checker=checker) as made:
            assert await verify(made, "alice", b"wrong") == Denied("wrong_password")
        assert second.binds == []


def test_a_bind_without_name_or_password_cannot_be_written():
    for name, secret in (("", b"x"), ("uid=a", b""), ("", b"")):
        with pytest.raises(ValueError):
            encode_bind(1, name, secret)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_octets_in_any_pieces_are_responses_or_broken(data, size):
    reader = Reader()
    try:
        for at in range(0, len(data), size):
            reader.feed(data[at : at + size])
    except Broken:
        pass


@given(st.integers(1, 40))
def test_responses_may_come_in_pieces(size):
    stream = message(1, bound(0)) + message(2, bound(49, AD.format("52e")), policy(1)) + notice()
    reader = Reader()
    found = [one for at in range(0, len(stream), size) for one in reader.feed(stream[at : at + size])]
    assert [(one.id, one.result.code) for one in found] == [(1, 0), (2, 49), (0, 52)]
    assert reader.is_empty
