"""Who pays for a message: the scopes, their plans, what grants make of them, and what is told."""

from dataclasses import replace

import pytest

from directory.identity import Address, Principal
from ledger.blocks import Blocklist
from ledger.charges import Admitted, Refused
from ledger.grants import Grant, Grants, parse_terms
from ledger.limits import Standing, format_limit, parse_limit
from policyd.facts import Facts, Rules
from policyd.inquiry import networks, plan
from policyd.memory import Scoping, Standings
from policyd.restrictions import conclude, decide
from policyd.scopes import Basis, SharedLimits, held_of, scopes_of
from policyd.wire import DUNNO, DeferIfPermit, Request

NOW = 1_790_000_000.0
PLANS = {
    name: tuple(map(parse_limit, limits))
    for name, limits in {
        "default": ["5 recipients per day", "3 recipients per message"],
        "tenant": ["50 recipients per day"],
        "big": ["90 recipients per day", "2 MB per message"],
        "host": ["20 messages per hour"],
        "office": ["40 messages per hour"],
        "all": ["1000 recipients per day"],
        "free": [],
    }.items()
}
SHARED = SharedLimits(
    {"default": "tenant", "example.com": "big", "example.edu": "free"},
    {"default": "host", "192.0.2.0/24": "office", "192.0.2.128/25": "host"},
    "all",
)
RULES = Rules(plans=PLANS, shared=SHARED)
ALICE = Principal("login", "alice", {Address("alice@example.org"): "mailbox"}, domain="example.org")
DATA = Request(
    protocol_state="DATA",
    instance="1.2.3.4",
    queue_id="Q1",
    sender="alice@example.org",
    recipient_count=2,
    client_address="203.0.113.9",
    sasl_username="alice",
    encryption_protocol="TLSv1.3",
)
RCPT = DATA._replace(protocol_state="RCPT", recipient="x@elsewhere.example", queue_id="")
FACTS = Facts(NOW, "mx1", ALICE, Blocklist())


def grants(*pairs, start=NOW - 60, end=None):
    kept = (
        Grant(f"g{n}", subject, parse_terms(text.split(", ")), "root", "a reason", start, end).block
        for n, (subject, text) in enumerate(pairs)
    )
    return Grants(kept)


def scopes(principal=ALICE, client="203.0.113.9", shared=SHARED, given=None):
    return scopes_of(principal, networks(client), Basis(PLANS, shared, given or Grants()), NOW)


def told(found):
    return {scope.subject: [format_limit(limit) for limit in scope.limits] for scope in found}


def test_without_shared_limits_and_grants_a_message_counts_for_its_principal_alone():
    assert told(scopes(shared=SharedLimits())) == {
        "login:alice": ["5 recipients per day", "3 recipients per message"]
    }


def test_a_message_counts_for_its_principal_its_domain_its_network_and_the_relay():
    assert told(scopes()) == {
        "login:alice": ["5 recipients per day", "3 recipients per message"],
        "domain:example.org": ["50 recipients per day"],
        "network:203.0.113.9/32": ["20 messages per hour"],
        "relay": ["1000 recipients per day"],
    }


#: kind, name and primary domain of a principal, its client, whom it counts for besides
COUNTED = [
    ("login", "a", "example.com", "192.0.2.7", ["domain:example.com", "network:192.0.2.0/24"]),
    ("login", "a", "example.edu", "192.0.2.200", ["network:192.0.2.128/25"]),
    ("login", "a", "", "2001:db8:1:2:3::4", ["network:2001:db8:1:2::/64"]),
    ("login", "a", "", "::ffff:192.0.2.7", ["network:192.0.2.0/24"]),
    ("login", "a", "", "unknown", []),
    ("certificate", "sha256:00", "example.org", "192.0.2.7", ["domain:example.org", "network:192.0.2.0/24"]),
    ("network", "192.0.2.7/32", "example.org", "192.0.2.7", ["domain:example.org", "network:192.0.2.0/24"]),
]


@pytest.mark.parametrize(("kind", "name", "domain", "client", "others"), COUNTED)
def test_domains_and_networks_count_for_every_kind_of_principal(kind, name, domain, client, others):
    found = scopes(Principal(kind, name, domain=domain), client)
    assert [scope.subject for scope in found] == [f"{kind}:{name}", *others, "relay"]


def test_a_network_that_is_a_principal_and_listed_too_has_one_count_under_both_plans():
    office = Principal("network", "192.0.2.0/24", plan="host")
    found = scopes(office, "192.0.2.7")
    assert [scope.subject for scope in found] == ["network:192.0.2.0/24", "network:192.0.2.0/24", "relay"]
    assert len(held_of(found, enforce=True)) == 3
    same = scopes(replace(office, plan="office"), "192.0.2.7")
    assert len(held_of(same, enforce=True)) == 2


#: grants, and what the limits of each scope become
GRANTED = [
    (
        [("login:alice", "+10 recipients")],
        {"login:alice": ["15 recipients per day", "3 recipients per message"]},
    ),
    (
        [("login:alice", "9 recipients per day, 1 message per hour")],
        {"login:alice": ["9 recipients per day", "3 recipients per message", "1 message per hour"]},
    ),
    ([("domain:example.org", "+1 recipient")], {"domain:example.org": ["51 recipients per day"]}),
    ([("relay", "2000 recipients per day")], {"relay": ["2000 recipients per day"]}),
    ([("network:203.0.113.9/32", "+5 messages")], {"network:203.0.113.9/32": ["25 messages per hour"]}),
    (
        [("network:203.0.113.0/24", "7 messages per hour")],
        {
            "network:203.0.113.9/32": ["20 messages per hour"],
            "network:203.0.113.0/24": ["7 messages per hour"],
        },
    ),
    ([("network:203.0.113.0/24", "+5 messages"), ("login:bob", "exempt")], {}),
]


@pytest.mark.parametrize(("given", "changed"), GRANTED)
def test_a_grant_changes_the_limits_of_its_subject_alone(given, changed):
    assert told(scopes(given=grants(*given))) == told(scopes()) | changed


def test_a_grant_that_is_over_or_to_come_changes_nothing():
    for start, end in ((NOW - 60, NOW), (NOW + 1, None)):
        given = grants(("login:alice", "+10 recipients"), start=start, end=end)
        assert told(scopes(given=given)) == told(scopes())


def test_a_grant_of_limits_holds_where_there_is_no_plan():
    alone = scopes(shared=SharedLimits(), given=grants(("domain:example.org", "7 recipients per hour")))
    assert told(alone)["domain:example.org"] == ["7 recipients per hour"]
    assert [scope.subject for scope in alone] == ["login:alice", "domain:example.org"]
    nothing = scopes(shared=SharedLimits(), given=grants(("relay", "exempt"), ("relay", "+5 recipients")))
    assert [scope.subject for scope in nothing] == ["login:alice"]


def test_an_exempt_scope_is_held_without_enforcing_and_the_others_are():
    found = scopes(given=grants(("login:alice", "exempt")))
    held = {subject: enforce for subject, _, enforce in held_of(found, enforce=True)}
    assert held == {
        "login:alice": False,
        "domain:example.org": True,
        "network:203.0.113.9/32": True,
        "relay": True,
    }


def verdict(request=DATA, facts=FACTS, rules=RULES):
    return decide(request, plan(request, "submission"), facts, rules)


def concluded(outcome, facts=FACTS, rules=RULES):
    found = verdict(facts=facts, rules=rules)
    return conclude(DATA, plan(DATA, "submission"), facts, rules, found, outcome)


def test_every_scope_is_charged_in_one_step():
    charge = verdict().charge
    assert [(subject, format_limit(limit)) for subject, limit, _ in charge.limits] == [
        ("login:alice", "5 recipients per day"),
        ("domain:example.org", "50 recipients per day"),
        ("network:203.0.113.9/32", "20 messages per hour"),
        ("relay", "1000 recipients per day"),
    ]


TOLD = [
    ("login:alice", "5 recipients per day", "login alice: used 5 of 5 recipients per day"),
    (
        "domain:example.org",
        "50 recipients per day",
        "your domain example.org, all its senders together: used 50 of 50 recipients per day",
    ),
    (
        "network:203.0.113.9/32",
        "20 messages per hour",
        "your network 203.0.113.9/32, all its senders together: used 20 of 20 messages per hour",
    ),
    (
        "relay",
        "1000 recipients per day",
        "this relay, all senders together: used 1000 of 1000 recipients per day",
    ),
]


@pytest.mark.parametrize(("subject", "text", "words"), TOLD)
def test_a_refusal_says_whose_limit_is_used_up(subject, text, words):
    limit = parse_limit(text)
    full = Standing(subject, limit, limit.amount, NOW + 60)
    at_data = concluded(Refused(limit, full, NOW + 60))
    at_rcpt = verdict(RCPT, FACTS._replace(standings=(full,)))
    for found in (at_data, at_rcpt):
        assert (found.action.code, found.action.enhanced) == (450, "4.7.1")
        assert found.action.text.startswith(f"{words}, reopens at ")
        assert dict(found.found.detail)["scope"] == subject
    never = concluded(Refused(limit, full, None))
    assert never.action.code == 554
    assert never.action.text.startswith(words.partition(":")[0])


def test_the_longest_names_fit_into_a_refusal():
    name = ".".join(["a" * 60] * 4)
    limit = parse_limit("281474976710656 bytes per 43199 minutes")
    full = Standing(f"domain:{name}", limit, limit.amount - 1, NOW + 10**6)
    facts = FACTS._replace(principal=replace(ALICE, domain=name))
    assert concluded(Refused(limit, full, NOW + 10**6), facts).action.code == 450


def test_what_an_exempt_sender_is_over_is_observed_and_refuses_nothing():
    facts = FACTS._replace(grants=grants(("login:alice", "exempt")))
    limit = PLANS["default"][0]
    after = Admitted(
        tuple(Standing(s, one, 7 if one == limit else 1) for s, one, _ in verdict(facts=facts).charge.limits)
    )
    found = concluded(after, facts)
    assert found.action == DUNNO
    assert [(f.restriction, f.reason) for f in found.observed] == [("limits", "used up, exempt")]
    full = Standing("login:alice", limit, 7, NOW + 60)
    assert verdict(RCPT, facts._replace(standings=(full,))).action == DUNNO
    assert verdict(RCPT, facts._replace(recipients=9)).action == DUNNO  # recipients per message, too
    all_full = Standing("relay", PLANS["all"][0], 1000, NOW + 60)
    assert verdict(RCPT, facts._replace(standings=(all_full,))).action.code == 450


def test_a_shared_plan_limits_each_message_too():
    alice = replace(ALICE, domain="example.com", plan="free")
    facts = FACTS._replace(principal=alice)
    found = verdict(DATA._replace(size=2_000_001), facts)
    assert (found.action.code, dict(found.found.detail)["scope"]) == (552, "domain:example.com")


def test_a_plan_that_is_missing_defers_whoever_it_is_missing_for():
    facts = FACTS._replace(principal=replace(ALICE, plan="gone"))
    assert isinstance(verdict(facts=facts).action, DeferIfPermit)
    rules = replace(RULES, shared=SharedLimits(relay="gone"))
    found = verdict(rules=rules)
    assert isinstance(found.action, DeferIfPermit)
    assert found.found.reason == "no plan 'gone' in the settings"


def test_standings_are_remembered_by_subject_for_all_who_share_it():
    known = Standings()
    mine, ours = (Standing(subject, PLANS["all"][0], 1) for subject in ("login:alice", "relay"))
    known.learn(Admitted((mine, ours)), NOW)
    assert known.of("relay", NOW) == (ours,)
    full = replace(ours, used=1000)
    known.learn(Refused(ours.limit, full, NOW + 60), NOW)
    assert known.of("relay", NOW) == (full,)
    assert known.of("login:alice", NOW) == (mine,)


def test_scopes_are_remembered_until_rules_grants_or_the_time_change_them():
    scoping = Scoping(most=2)
    soon = grants(("login:alice", "+10 recipients"), start=NOW + 10, end=NOW + 20)

    def amount(now, rules=RULES, given=soon, client="203.0.113.9", principal=ALICE):
        return scoping.of(principal, client, rules, given, now)[0].limits[0].amount

    assert [amount(NOW + n) for n in (0, 5, 10, 19, 20, 15, 0)] == [5, 5, 15, 15, 5, 15, 5]
    assert scoping.of(ALICE, "203.0.113.9", RULES, soon, NOW) is scoping.of(
        ALICE, "203.0.113.9", RULES, soon, NOW
    )
    assert amount(NOW, replace(RULES, plans=PLANS | {"default": PLANS["tenant"]})) == 50
    assert amount(NOW, given=grants(("login:alice", "7 recipients per day"))) == 7
    assert amount(NOW, principal=replace(ALICE, plan="tenant")) == 50
    here = scoping.of(ALICE, "192.0.2.7", RULES, soon, NOW)
    assert "network:192.0.2.0/24" in {scope.subject for scope in here}
