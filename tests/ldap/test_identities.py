"""Who a login is, for one that never asks what it owns: as everybody sees it, at the price of one search."""

import pytest
import pytest_twisted

from directory.drafts import Reading
from directory.identity import Denied, Unavailable, Verified
from directory.ldap_settings import preset
from directory.people import Around, Entry, person
from directory.plans import PlanSettings
from directory.shape import merge
from directory.troubles import Puzzling
from tests.ldap.house import directory, look_up, settings_for, verify
from tests.ldap.scripted import Scripted, bound, done, entry
from tests.ldap.slapd import BASE, SUBMITTERS, password

EVERYBODY = ("alice", "bob@example.com", "erin", "dora", "egon", "reset", "jörg", "fred", "poor", "nobody")
PLANS = Reading(plans=PlanSettings(groups={"sales": "gold"}, domains={"example.org": "silver"}))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("reading", [Reading(), PLANS], ids=["no plans", "plans by group"])
async def test_a_login_is_the_same_whether_or_not_anybody_asks_what_it_owns(slapd, authority, reading):
    settings = settings_for(slapd.tls_url, authority=authority, submission_group=SUBMITTERS)
    with (
        directory(settings, reading=reading) as whole,
        directory(settings, reading=reading, owning=False) as made,
    ):
        for login in EVERYBODY:
            one, other = await look_up(whole, login), await look_up(made, login)
            assert (one is None) == (other is None), login
            if one is not None:
                names = ("name", "plan", "plan_from", "domain", "disabled", "stopped", "networks", "dn")
                assert [getattr(one, name) for name in names] == [getattr(other, name) for name in names], (
                    login
                )
        assert await verify(made, "alice", password("alice")) == Verified("alice")
        assert await verify(made, "alice", b"wrong") == Denied("wrong_password")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("owning", "searches"), [(True, 3), (False, 1)])
async def test_a_password_costs_one_search_where_nobody_asks_what_the_login_owns(owning, searches):
    def answer(kind, request):
        if kind == 0x60:
            return [bound(0)]
        is_person = b"groupOfNames" not in request and b"mailDelegate" not in request
        found = [entry(f"uid=alice,{BASE}", uid=["alice"], mail=["alice@example.org"])] if is_person else []
        return [*found, done()]

    with Scripted(answer) as server:
        off = {"hosts": "", "users": "", "domain_aliases": ""}
        settings = settings_for(server.url, filters={**off, "delegates": "(mailDelegate={dn})"})
        with directory(settings, owning=owning) as made:
            assert await verify(made, "alice", b"pass") == Verified("alice")
            assert (await look_up(made, "alice")).name == "alice"
        assert len(server.searches) == searches


@pytest_twisted.ensureDeferred
async def test_groups_are_known_to_those_who_ask_for_them(slapd, authority):
    settings = settings_for(slapd.tls_url, authority=authority)
    with directory(settings, owning=False) as plain, directory(settings, owning=False, groups=True) as made:
        assert (await look_up(plain, "alice")).groups == frozenset()
        found = (await look_up(made, "alice")).groups
        assert {"submitters", "sales", SUBMITTERS.lower()} <= found
        assert not (await look_up(made, "erin")).groups


SHAPE = merge(preset("openldap"), {}, {"networks": ("description",)})


def alice(*texts):
    values = {"uid": (b"alice",), "mail": (b"alice@example.org",)}
    if texts:
        values["description"] = tuple(text.encode() for text in texts)
    return person(Entry(f"uid=alice,{BASE}", values), Around(), SHAPE, Reading(), {}, 0.0)


@pytest.mark.parametrize(
    ("texts", "networks", "notes"),
    [
        ((), (), 0),
        (("192.0.2.7",), ("192.0.2.7/32",), 0),
        (("192.0.2.0/24", "2001:db8::/32"), ("192.0.2.0/24", "2001:db8::/32"), 0),
        (("office", "192.0.2.0/24"), ("192.0.2.0/24",), 1),
    ],
)
def test_an_entry_may_say_where_its_login_may_come_from(texts, networks, notes):
    found = alice(*texts)
    assert (found.networks, len(found.notes)) == (networks, notes)


def test_an_entry_whose_networks_cannot_be_read_never_means_everywhere():
    with pytest.raises(Puzzling, match="names no network"):
        alice("office")


@pytest_twisted.ensureDeferred
async def test_such_an_entry_is_a_login_that_cannot_be_judged_now(own_slapd, authority):
    own_slapd.modify(f"uid=bob,ou=people,{BASE}", "replace: description", "description: office")
    settings = settings_for(own_slapd.tls_url, authority=authority, attributes={"networks": ("description",)})
    with directory(settings, owning=False) as made:
        with pytest.raises(Unavailable, match="names no network"):
            await look_up(made, "bob")
        assert "directory_puzzle" in made.log.events()
        own_slapd.modify(f"uid=bob,ou=people,{BASE}", "replace: description", "description: 192.0.2.0/24")
        assert (await look_up(made, "bob")).networks == ("192.0.2.0/24",)
