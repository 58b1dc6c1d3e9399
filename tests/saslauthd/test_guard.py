"""The guard's judgement: what counts, what is too much, and how long a refusal takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.marks import Marks
from saslauthd import guard
from saslauthd.guard import Rules, Sight, Stop, Trace

RULES = Rules()

# what is known, whether and up to how many wrong passwords the directory may be asked
TABLE = [
    (Sight(), 3),
    (Sight(pair=9), 3),
    (Sight(pair=10), "this login from this network"),
    (Sight(network=29), 3),
    (Sight(network=30), "from this network"),
    (Sight(login=299), 3),
    (Sight(login=300), "of this login"),
    (Sight(pair=99, network=99, login=999, known=True), 4),
    (Sight(pair=1, repeated=True), 2),
    (Sight(pair=1, repeated=True, known=True), 2),
]


@pytest.mark.parametrize(("seen", "wanted"), TABLE)
def test_who_may_ask_the_directory(seen, wanted):
    found = guard.judge(seen, RULES)
    assert wanted in found.why if isinstance(found, Stop) else found == wanted


@given(st.integers(2, 100))
def test_a_fifth_is_kept_for_known_networks_and_others_are_never_left_without(binds):
    rules = Rules(binds=binds)
    assert rules.kept * 5 >= binds
    assert 1 <= guard.judge(Sight(), rules) <= binds - rules.kept
    assert guard.judge(Sight(known=True), rules) == binds
    assert 1 <= guard.judge(Sight(repeated=True), rules) <= binds


@pytest.mark.parametrize(
    ("rip", "network"),
    [
        (b"192.0.2.7", "192.0.2.7/32"),
        (b"::ffff:192.0.2.7", "192.0.2.7/32"),
        (b"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (b"2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        (b"fe80::1%eth0", "fe80::/64"),
        (b"", ""),
        (b"unknown", ""),
        (b"\xff\xfe", ""),
        (b"1" * 1000, ""),
    ],
)
def test_addresses_count_by_network(rip, network):
    assert guard.network_of(rip, RULES) == network


def test_wider_networks_are_a_setting():
    assert guard.network_of(b"192.0.2.7", Rules(ipv4=24)) == "192.0.2.0/24"
    assert guard.network_of(b"2001:db8:1:2::1", Rules(ipv6=48)) == "2001:db8:1::/48"


def seen_after(*failures, of=None, successes=()):
    marks = Marks()
    for trace in failures:
        marks.note(guard.failure([trace], RULES), 0.0)
    for trace in successes:
        marks.note(guard.success([trace], RULES), 0.0)
    return guard.sight(marks.look(guard.questions(of or failures[-1]), 1.0))


ALICE = Trace("alice", "192.0.2.7/32", "aaaa")


def test_the_same_wrong_password_counts_once():
    assert seen_after(ALICE, ALICE, ALICE) == Sight(1, 1, 1, False, True)


def test_failures_count_by_pair_by_network_and_by_login():
    others = [ALICE._replace(fingerprint="bbbb"), Trace("bob", ALICE.network, "aaaa")]
    elsewhere = Trace("alice", "198.51.100.1/32", "cccc")
    assert seen_after(ALICE, *others, elsewhere, of=ALICE) == Sight(2, 3, 3, False, True)


def test_a_login_that_is_typed_as_its_alias_counts_once_against_its_network():
    marks = Marks()
    marks.note(
        guard.failure([ALICE._replace(login="alice@example.org", fingerprint="bbbb"), ALICE], RULES), 0.0
    )
    for trace in ALICE, ALICE._replace(login="alice@example.org", fingerprint="bbbb"):
        assert guard.sight(marks.look(guard.questions(trace), 1.0)) == Sight(1, 1, 1, False, True)


def test_a_success_counts_nothing_and_makes_the_network_known():
    assert seen_after(successes=[ALICE], of=ALICE) == Sight(0, 0, 0, True, False)
    assert not seen_after(successes=[ALICE], of=ALICE._replace(network="192.0.2.8/32")).known
    assert not seen_after(successes=[ALICE], of=ALICE._replace(login="bob")).known


def test_without_an_address_no_network_is_known_and_none_is_blamed():
    nowhere = ALICE._replace(network="")
    assert guard.success([nowhere], RULES) == ()
    assert seen_after(nowhere, of=Trace("bob", "", "aaaa")).network == 0


def test_a_fingerprint_tells_passwords_apart_and_needs_the_key():
    one = guard.fingerprint(b"k", "alice", b"x")
    assert len(one) == 4
    assert one == guard.fingerprint(b"k", "alice", b"x") != guard.fingerprint(b"k", "alice", b"y")
    assert one != guard.fingerprint(b"l", "alice", b"x")


def test_a_success_forgives_what_was_surely_judged_before_it_and_nothing_else():
    tickets = [guard.ticket(taken, "a") for taken in (0.0, 89.9, 90.0, 90.1, 100.0, 101.0)]
    assert guard.forgiven(tickets, 100.0) == tuple(tickets[:3])


def test_the_delay_doubles_up_to_its_bound():
    delays = [guard.delay(Sight(pair=n), RULES) for n in range(7)]
    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert guard.delay(Sight(network=8), RULES) == 1.0
    assert guard.delay(Sight(pair=10**6), RULES) == 4.0


@given(st.floats(0, 7), st.floats(0, 5), st.floats(0.01, 2))
def test_a_refusal_is_told_at_a_multiple_of_the_floor_and_in_time(elapsed, least, floor):
    rules = Rules(floor=floor)
    told = elapsed + guard.due(least, elapsed, rules)
    assert told <= max(guard.LONGEST, elapsed) + 1e-9
    assert told >= min(least, guard.LONGEST) - 1e-9
    nearest = round(told / floor) * floor
    assert told >= guard.LONGEST - 1e-9 or abs(told - nearest) < 1e-6
