"""Who owns what, out of a real slapd."""

import pytest
import pytest_twisted

from directory.drafts import Reading
from directory.identity import Certificate, Login, Network, Unavailable, Verified
from directory.plans import PlanSettings
from directory.searches import Searches
from tests.ldap.house import directory, grants, look_up, settings_for, verify
from tests.ldap.slapd import SUBMITTERS, dn_of, password

# login, address, how its words begin (None: it is not owned)
OWNED = [
    ("user0007", "user0007@example.com", "mail user0007 of uid=user0007,"),
    ("user0007", "u7@example.com", "mailAlternateAddress u7 of uid=user0007,"),
    ("user0007", "user0007@example.info", "mail user0007 of uid=user0007,"),
    ("user0007", "u7@example.info", "mailAlternateAddress u7 of"),
    ("user0007", "user0007@example.org", None),
    ("user0007", "user0007@example.net", None),
    ("user0006", "user0006@example.net", "mail user0006 of"),
    ("user0006", "u6@example.net", "mailAlternateAddress u6 of"),
    ("user0006", "user0006@sub.example.org", None),
    ("alice", "alice@example.org", "mail alice of uid=alice,"),
    ("alice", "ALICE@Example.NET", "mail alice of uid=alice,"),
    ("alice", "ally@example.org", "mailAlternateAddress ally of uid=alice,"),
    ("alice", "ally@example.net", "mailAlternateAddress ally of uid=alice,"),
    ("alice", "sales@example.org", "shared address sales@example.org of group cn=sales,"),
    ("alice", "sales@example.net", None),
    ("alice", "bob@example.com", "delegate"),
    ("alice", "bob@example.info", "delegate"),
    ("bob", "sales@example.org", "shared"),
    ("bob", "fred@example.org", "delegate"),
    ("bob", "alice@example.org", None),
    ("fred", "fred@example.org", "mail fred of"),
    ("fred", "sales@example.org", None),
    ("alice@example.org", "a.lice@example.org", "mailAlternateAddress a.lice of uid=alice,"),
    ("jörg", "joerg@example.org", "mail joerg of uid=jörg,"),
    ("lead", "user0002@example.edu", "domain example.edu (listed), which holds mail user0002 of"),
    ("lead", "nobody@example.edu", None),
    ("poor", "sales@example.org", "shared"),
]


@pytest_twisted.ensureDeferred
async def test_addresses_are_owned_as_the_entries_say(slapd, authority):
    wrong = []
    with directory(settings_for(slapd.tls_url, authority=authority)) as made:
        for login, text, words in OWNED:
            found = await grants(made, login, text)
            fits = (
                found is None
                if words is None
                else found is not None and (found.startswith(words) or words in found)
            )
            if not fits:
                wrong.append((login, text, words, found))
    assert not wrong


@pytest_twisted.ensureDeferred
async def test_hosts_and_certificates_are_known_by_their_entries(slapd, authority):
    with directory(settings_for(slapd.tls_url, authority=authority)) as made:
        printer = Network("192.0.2.10")
        assert await grants(made, printer, "printer@example.org")
        assert await grants(made, printer, "printer@example.net")
        assert await grants(made, printer, "alice@example.org") is None
        assert await grants(made, Network("198.51.100.7"), "whoever@example.com")
        assert await grants(made, Network("198.51.100.7"), "whoever@example.info")
        assert await look_up(made, Network("203.0.113.1")) is None
        web = Certificate(("sha256:" + "ab" * 32,))
        assert await grants(made, web, "alice@example.org")
        assert await grants(made, web, "nobody@example.org") is None
        assert await look_up(made, Certificate(("sha256:" + "cd" * 32,))) is None
        subjects = {principal.subject for principal in await made.principals()}
        assert subjects == {
            "network:192.0.2.10/32",
            "network:198.51.100.0/24",
            "certificate:sha256:" + "ab" * 32,
        }


@pytest_twisted.ensureDeferred
async def test_hosts_may_stand_in_the_settings(slapd, authority):
    from directory.ldap_settings import HostSettings

    hosts = {
        "scanner": HostSettings(network="203.0.113.5/32", addresses=("scan@example.org",), plan="bulk"),
        "erp": HostSettings(fingerprints=("sha256:" + "ee" * 32,), domains={"example.edu": "listed"}),
    }
    with directory(settings_for(slapd.tls_url, authority=authority, hosts=hosts)) as made:
        scanner = await look_up(made, Network("203.0.113.5"))
        assert scanner.plan == "bulk"
        assert await grants(made, Network("203.0.113.5"), "scan@example.net")
        erp = Certificate(("sha256:" + "ee" * 32,))
        assert await grants(made, erp, "u2@example.edu")
        assert await grants(made, erp, "nobody@example.edu") is None


@pytest_twisted.ensureDeferred
async def test_domain_aliases_may_stand_in_the_settings(slapd, authority):
    reading = Reading({"example.edu": ("example.ac",)})
    with directory(settings_for(slapd.tls_url, authority=authority), reading=reading) as made:
        assert await grants(made, "user0002", "u2@example.ac")
        assert await grants(made, "user0006", "u6@example.net")


@pytest_twisted.ensureDeferred
async def test_plan_and_terms_come_from_attributes(slapd, authority):
    reading = Reading(terms_version="2026-01", terms_url="https://example.org/terms")
    with directory(settings_for(slapd.tls_url, authority=authority), reading=reading) as made:
        alice, bob, erin = [await look_up(made, login) for login in ("alice", "bob", "erin")]
    assert (alice.plan, alice.terms_accepted) == ("staff", True)
    assert (bob.plan, bob.terms_accepted, bob.terms_url) == ("default", False, "https://example.org/terms")
    assert not erin.terms_accepted


@pytest_twisted.ensureDeferred
async def test_terms_need_not_be_accepted_when_no_attribute_is_named(slapd, authority):
    with directory(settings_for(slapd.tls_url, authority=authority, attributes={})) as made:
        assert (await look_up(made, "erin")).terms_accepted


@pytest_twisted.ensureDeferred
async def test_two_entries_for_a_login_are_a_mistake_of_the_directory_and_said_loudly(slapd, authority):
    with directory(settings_for(slapd.tls_url, authority=authority)) as made:
        with pytest.raises(Unavailable, match=r"twin1.*twin2"):
            await look_up(made, "twin@example.org")
        assert ("error", "directory_puzzle") in [line[:2] for line in made.log.lines]
        assert await grants(made, "twin1", "twin@example.org")


@pytest_twisted.ensureDeferred
async def test_an_unknown_login_is_nobody(slapd, authority):
    with directory(settings_for(slapd.tls_url, authority=authority)) as made:
        assert await look_up(made, "nobody") is None
        assert made.look_up(Login("nobody")) is None  # remembered


@pytest_twisted.ensureDeferred
async def test_a_known_login_is_answered_at_once(slapd, authority):
    with directory(settings_for(slapd.tls_url, authority=authority)) as made:
        first = await look_up(made, "alice")
        assert made.look_up(Login("alice")) is first
        assert made.look_up(Network("192.0.2.10")).name == "192.0.2.10/32"


@pytest_twisted.ensureDeferred
async def test_an_entry_without_any_address_is_unavailable_and_not_a_refusal(slapd, authority):
    filters = {"groups": "", "delegates": ""}
    settings = settings_for(slapd.tls_url, authority=authority, filters=filters)
    with directory(settings) as made, pytest.raises(Unavailable, match="has none of mail"):
        await look_up(made, "poor")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "changes",
    [
        {"base": "dc=nowhere"},
        {"attributes": {"login": ("employeeNumber",)}},
        {"submission_group": "cn=none,dc=example,dc=org", "submitter_at": "group"},
        {"submission_group": "cn=submitters,ou=misspelt,dc=example,dc=org"},
    ],
    ids=["base", "login attribute", "group", "group by memberOf"],
)
async def test_wrong_settings_are_unavailable_and_not_a_refusal(slapd, authority, changes):
    settings = settings_for(slapd.tls_url, authority=authority, **changes)
    with directory(settings) as made, pytest.raises(Unavailable):
        await look_up(made, "alice")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "changes",
    [{}, {"submitter_at": "group", "filters": {"submitter": "(member={dn})"}}],
    ids=["memberOf", "the group's members"],
)
async def test_who_is_not_in_the_submission_group_is_stopped(slapd, authority, changes):
    settings = settings_for(slapd.tls_url, authority=authority, submission_group=SUBMITTERS, **changes)
    with directory(settings) as made:
        assert not (await look_up(made, "alice")).disabled
        erin = await look_up(made, "erin")
        assert erin.disabled
        assert erin.stopped == "not_in_group"


@pytest_twisted.ensureDeferred
async def test_flush_by_login_forgets_every_name_of_it(slapd, authority):
    with directory(settings_for(slapd.tls_url, authority=authority)) as made:
        for login in ("alice", "alice@example.org", "bob"):
            await look_up(made, login)
        assert made.flush("alice") == 2
        assert made.look_up(Login("bob")).dn == dn_of("bob")


@pytest_twisted.ensureDeferred
async def test_a_new_alias_works_within_the_ttl(own_slapd, authority):
    from directory.cache import CacheSettings

    settings = settings_for(own_slapd.tls_url, authority=authority)
    with directory(settings, times=CacheSettings(ttl=0.3)) as made:
        assert await grants(made, "fred", "freddy@example.org") is None
        own_slapd.modify(dn_of("fred"), "add: mailAlternateAddress", "mailAlternateAddress: freddy")
        assert await grants(made, "fred", "freddy@example.org") is None
        await pause(0.35)
        assert await grants(made, "fred", "freddy@example.org")


@pytest_twisted.ensureDeferred
async def test_a_new_and_a_removed_host_count_within_the_ttl(own_slapd, authority):
    from directory.cache import CacheSettings
    from tests.ldap.slapd import BASE, host

    settings = settings_for(own_slapd.tls_url, authority=authority)
    with directory(settings, times=CacheSettings(ttl=0.3)) as made:
        assert await look_up(made, Network("192.0.2.99")) is None
        own_slapd.change("ldapadd", host("new", ipHostNumber="192.0.2.99", mailLocalAddress="n@example.org"))
        await pause(0.5)
        assert await grants(made, Network("192.0.2.99"), "n@example.net")
        own_slapd.change("ldapdelete", f"cn=new,ou=hosts,{BASE}\n")
        await pause(0.5)
        assert await look_up(made, Network("192.0.2.99")) is None


@pytest_twisted.ensureDeferred
async def test_a_domain_that_is_an_alias_of_two_is_told_loudly_and_what_was_known_stays(own_slapd, authority):
    from directory.cache import CacheSettings
    from tests.ldap.slapd import BASE, ldif

    other = ldif(
        f"dc=example.net,ou=hosts,{BASE}",
        objectClass="dNSDomain",
        dc="example.net",
        cNAMERecord="example.edu",
    )
    settings = settings_for(own_slapd.tls_url, authority=authority)
    with directory(settings, times=CacheSettings(ttl=0.3)) as made:
        assert await grants(made, "fred", "fred@example.net")
        own_slapd.change("ldapadd", other)
        await pause(0.5)
        assert await grants(made, "fred", "fred@example.net")
        assert any("stands for" in fields.get("problem", "") for _, _, fields in made.log.lines)
        assert made.state() == "stale"
    with directory(settings) as made, pytest.raises(Unavailable):
        await look_up(made, "fred")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("domain", "alias", "wrong"),
    [
        ("example.edu", "example.net", "example.net stands for example.edu in the settings, for example.org"),
        ("example.edu", "example.org", "example.org stands for example.edu"),
        ("example.net", "example.biz", "example.net stands for example.org"),
        ("example.org", "example.net", None),
        ("example.edu", "example.biz", None),
    ],
)
async def test_an_alias_to_whom_settings_and_directory_give_different_domains_grants_nothing(
    slapd, authority, domain, alias, wrong
):
    settings = settings_for(slapd.tls_url, authority=authority)
    reading = Reading(aliases={domain: (alias,)}, terms_url="https://example.org/terms")
    with directory(settings, reading=reading) as made:
        if wrong is None:
            assert await grants(made, "alice", "alice@example.net")
            return
        with pytest.raises(Unavailable):
            await look_up(made, "alice")
        assert any(wrong in fields.get("problem", "") for _, _, fields in made.log.lines), made.log.lines


def twin(own_slapd):
    """A second alice, among the students."""
    from tests.ldap.slapd import BASE, ldif

    own_slapd.change("ldapadd", ldif(f"ou=students,{BASE}", objectClass="organizationalUnit", ou="students"))
    entry = {"objectClass": ["inetOrgPerson"], "uid": "alice", "cn": "a", "sn": "a"}
    more = {"mail": "student@example.org", "userPassword": "of-the-student"}
    own_slapd.change("ldapadd", ldif(f"uid=alice,ou=students,{BASE}", **entry, **more))


@pytest_twisted.ensureDeferred
async def test_nobody_logs_in_under_a_name_that_another_entry_has_too(own_slapd, authority):
    settings = settings_for(own_slapd.tls_url, authority=authority)
    with directory(settings, owning=False) as made:
        assert await verify(made, "alice@example.org", password("alice")) == Verified("alice")
        twin(own_slapd)
        for login, secret in (("student@example.org", b"of-the-student"), ("alice", b"of-the-student")):
            with pytest.raises(Unavailable):
                await verify(made, login, secret)
        assert "directory_puzzle" in made.log.events()


@pytest_twisted.ensureDeferred
async def test_an_older_answer_does_not_stand_in_for_two_entries(own_slapd, authority):
    from directory.cache import CacheSettings

    settings = settings_for(own_slapd.tls_url, authority=authority)
    with directory(settings, times=CacheSettings(ttl=0.3)) as made:
        assert await look_up(made, "alice")
        twin(own_slapd)
        await pause(0.4)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await look_up(made, "alice")
            assert await look_up(made, "fred")
        assert made.state() == "ok"
        assert not {"directory_stale", "directory_fresh"} & set(made.log.events())


@pytest_twisted.ensureDeferred
async def test_a_host_that_stands_twice_is_unavailable(own_slapd, authority):
    from tests.ldap.slapd import host

    own_slapd.change("ldapadd", host("again", ipHostNumber="192.0.2.10", mailLocalAddress="x@example.org"))
    with directory(settings_for(own_slapd.tls_url, authority=authority)) as made:
        with pytest.raises(Unavailable, match="more than one host"):
            await look_up(made, Network("192.0.2.10"))
        assert await look_up(made, Network("198.51.100.1"))
        with pytest.raises(Unavailable):
            await made.principals()


def pause(seconds):
    from twisted.internet import reactor, task

    return task.deferLater(reactor, seconds)


@pytest_twisted.ensureDeferred
async def test_a_plan_comes_from_the_attribute_then_a_group_then_the_domain(slapd, authority):
    plans = PlanSettings(
        {"sales": "sellers", SUBMITTERS: "senders"}, {"example.org": "tenant", "example.com": "hosts"}
    )
    reading = Reading(plans=plans)
    with directory(settings_for(slapd.tls_url, authority=authority), reading=reading) as made:
        found = {login: await look_up(made, login) for login in ("alice", "bob", "user0007", "erin")}
        host = await look_up(made, Network("198.51.100.7"))
    chosen = {login: (person.plan, person.plan_from) for login, person in found.items()}
    assert chosen["alice"] == ("staff", "its entry")
    assert chosen["bob"] == ("sellers", "directory.plans.groups: sales")
    assert chosen["user0007"] == ("senders", f"directory.plans.groups: {SUBMITTERS}")
    assert chosen["erin"] == ("tenant", "directory.plans.domains: example.org")
    assert (host.plan, host.domain) == ("hosts", "example.com")


def test_memberof_is_asked_for_only_when_a_group_has_a_plan():
    settings = settings_for("ldap://127.0.0.1")
    assert "memberOf" not in Searches(settings, Reading()).shape.wanted
    assert "memberOf" in Searches(settings, Reading(plans=PlanSettings({"staff": "x"}))).shape.wanted
