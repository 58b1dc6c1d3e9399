"""What every store must do, told once and run against each of them (see stores.STORES)."""

from __future__ import annotations

import pytest
import pytest_twisted

from ledger.blocks import Block
from ledger.charges import UNTAKEN_WITHIN, Admitted, Amounts, ChargeId, Refused, Submission
from ledger.limits import parse_limit
from ledger.marks import Mark
from tests.ledger.stores import START, STORES, TestClock

ALICE = Submission("login:alice", "alice@example.org")
HOUR = parse_limit("10 recipients per hour")
DAY = parse_limit("1000 bytes per day")
MESSAGE = parse_limit("8 recipients per message")
MINUTE = parse_limit("2 messages per minute")


def held(*limits, subject="login:alice", enforce=True):
    return tuple((subject, limit, enforce) for limit in limits)


LIMITS = held(HOUR, DAY, MESSAGE)


def charge(number=1, instance="i"):
    return ChargeId("mx1", f"{instance}{number}", f"Q{number}")


def block(subject="login:alice", end=None, **kwargs):
    values = {"extent": "sending", "author": "root", "reason": "spam", "contact": "call 123"} | kwargs
    return Block("", subject, start=START, end=end, **values)


@pytest.fixture
def clock():
    return TestClock()


@pytest_twisted.async_yield_fixture(params=sorted(STORES))
async def ledger(request, clock, tmp_path):
    store = STORES[request.param](clock, tmp_path)
    store.start()
    yield store
    await store.stop()


async def used(ledger, *limits, subject="login:alice"):
    return [s.used for s in await ledger.standing(tuple((subject, limit) for limit in limits))]


@pytest_twisted.ensureDeferred
async def test_a_reservation_takes_from_every_limit(ledger):
    got = await ledger.reserve(charge(), ALICE, Amounts(1, 4, 300), LIMITS)
    assert isinstance(got, Admitted)
    assert [(s.subject, s.limit, s.used, s.remaining) for s in got.standings] == [
        ("login:alice", HOUR, 4, 6),
        ("login:alice", DAY, 300, 700),
        ("login:alice", MESSAGE, 0, 8),
    ]
    assert await used(ledger, HOUR, DAY, MESSAGE) == [4, 300, 0]


@pytest_twisted.ensureDeferred
async def test_all_limits_are_taken_or_none(ledger):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 4, 900), LIMITS)
    got = await ledger.reserve(charge(2), ALICE, Amounts(1, 4, 101), LIMITS)
    assert isinstance(got, Refused)
    assert (got.limit, got.standing.used) == (DAY, 900)
    assert await used(ledger, HOUR, DAY) == [4, 900]


@pytest_twisted.ensureDeferred
async def test_a_refusal_says_when_the_same_amounts_fit_and_then_they_do(ledger, clock):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 3, 0), LIMITS)
    clock.advance(600)
    await ledger.reserve(charge(2), ALICE, Amounts(1, 6, 0), LIMITS)
    for number, recipients in ((1, 3), (2, 6)):
        await ledger.settle(charge(number), Amounts(1, recipients, 0))
    got = await ledger.reserve(charge(3), ALICE, Amounts(1, 4, 0), LIMITS)
    assert isinstance(got, Refused)
    assert START + 3600 <= got.reopens_at <= START + 3660
    clock.advance(got.reopens_at - clock.now - 1)
    assert isinstance(await ledger.reserve(charge(3), ALICE, Amounts(1, 4, 0), LIMITS), Refused)
    clock.advance(1)
    assert isinstance(await ledger.reserve(charge(3), ALICE, Amounts(1, 4, 0), LIMITS), Admitted)


@pytest_twisted.ensureDeferred
async def test_what_never_fits_never_reopens(ledger):
    nothing = held(parse_limit("0 messages per day"))
    over_a_window = await ledger.reserve(charge(), ALICE, Amounts(1, 11, 0), held(HOUR))
    per_message = await ledger.reserve(charge(), ALICE, Amounts(1, 9, 0), LIMITS)
    nothing_at_all = await ledger.reserve(charge(), ALICE, Amounts(1, 1, 0), nothing)
    assert [r.reopens_at for r in (over_a_window, per_message, nothing_at_all)] == [None, None, None]
    assert [r.limit for r in (over_a_window, per_message)] == [HOUR, MESSAGE]
    assert await used(ledger, HOUR) == [0]


@pytest_twisted.ensureDeferred
async def test_of_several_refusing_limits_the_one_that_reopens_last_is_told(ledger):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 8, 1000), LIMITS)
    got = await ledger.reserve(charge(2), ALICE, Amounts(1, 8, 1), LIMITS)
    assert got.limit == DAY


@pytest_twisted.ensureDeferred
async def test_a_used_up_limit_says_when_one_more_fits(ledger):
    got = await ledger.reserve(charge(), ALICE, Amounts(1, 10, 0), held(HOUR))
    assert got.standings[0].remaining == 0
    assert START + 3600 <= got.standings[0].reopens_at <= START + 3660


@pytest_twisted.ensureDeferred
async def test_a_repeat_costs_nothing(ledger):
    for _ in range(3):
        got = await ledger.reserve(charge(), ALICE, Amounts(1, 6, 10), LIMITS)
        assert got.standings[0].used == 6


@pytest_twisted.ensureDeferred
async def test_a_repeat_with_other_amounts_replaces_the_reservation(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 6, 10), LIMITS)
    got = await ledger.reserve(charge(), ALICE, Amounts(1, 8, 20), LIMITS)
    assert [s.used for s in got.standings] == [8, 20, 0]
    assert await ledger.release(charge())
    assert await used(ledger, HOUR, DAY) == [0, 0]


@pytest_twisted.ensureDeferred
async def test_a_refused_replacement_gives_nothing_up(ledger):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 2, 0), LIMITS)
    await ledger.reserve(charge(2), ALICE, Amounts(1, 6, 10), LIMITS)
    assert isinstance(await ledger.reserve(charge(1), ALICE, Amounts(1, 5, 0), LIMITS), Refused)
    assert await used(ledger, HOUR, DAY) == [8, 10]
    assert await ledger.take_up("mx1", "Q1") == ALICE


@pytest_twisted.ensureDeferred
async def test_a_refused_attempt_is_remembered_nowhere(ledger):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 8, 0), LIMITS)
    assert isinstance(await ledger.reserve(charge(2), ALICE, Amounts(1, 3, 0), LIMITS), Refused)
    assert await ledger.take_up("mx1", "Q2") is None
    assert not await ledger.refund("mx1", "Q2", "login:alice")
    await ledger.release(charge(1))
    assert isinstance(await ledger.reserve(charge(2), ALICE, Amounts(1, 3, 0), LIMITS), Admitted)


@pytest_twisted.ensureDeferred
async def test_the_record_is_written_without_limits_too(ledger):
    assert await ledger.reserve(charge(), ALICE, Amounts(1, 6, 10), ()) == Admitted(())
    assert await ledger.take_up("mx1", "Q1") == ALICE
    assert await ledger.take_up("mx2", "Q1") is None


@pytest_twisted.ensureDeferred
async def test_an_observed_limit_is_charged_and_refuses_nothing(ledger):
    seen = held(HOUR, MESSAGE, enforce=False)
    assert isinstance(await ledger.reserve(charge(1), ALICE, Amounts(1, 9, 0), seen), Admitted)
    got = await ledger.reserve(charge(2), ALICE, Amounts(1, 9, 0), seen)
    assert (got.standings[0].used, got.standings[0].remaining) == (18, 0)
    assert isinstance(await ledger.reserve(charge(3), ALICE, Amounts(1, 1, 0), held(HOUR)), Refused)


@pytest_twisted.ensureDeferred
async def test_two_limits_on_one_counter_charge_it_once(ledger):
    twice = held(HOUR, parse_limit("5 recipients per hour"))
    got = await ledger.reserve(charge(1), ALICE, Amounts(1, 4, 0), twice)
    assert [s.used for s in got.standings] == [4, 4]
    got = await ledger.reserve(charge(2), ALICE, Amounts(1, 4, 0), twice)
    assert got.limit.amount == 5


@pytest_twisted.ensureDeferred
async def test_a_changed_amount_neither_resets_nor_misreads_the_count(ledger):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 8, 0), held(HOUR))
    more = parse_limit("20 recipients per hour")
    got = await ledger.reserve(charge(2), ALICE, Amounts(1, 8, 0), held(more))
    assert got.standings[0].used == 16
    assert isinstance(await ledger.reserve(charge(3), ALICE, Amounts(1, 5, 0), held(more)), Refused)
    assert (await ledger.standing((("login:alice", HOUR),)))[0].remaining == 0


@pytest_twisted.ensureDeferred
async def test_what_costs_nothing_of_a_limit_is_not_refused_by_it(ledger):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 1, 1000), held(DAY))
    assert isinstance(await ledger.reserve(charge(2), ALICE, Amounts(1, 1, 0), held(DAY)), Admitted)


@pytest_twisted.ensureDeferred
async def test_subjects_and_queue_ids_are_apart(ledger):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 8, 0), LIMITS)
    assert isinstance(
        await ledger.reserve(charge(2), ALICE, Amounts(1, 8, 0), held(HOUR, subject="login:bob")), Admitted
    )
    other = ChargeId("mx1", "i1", "Q9")
    assert (await ledger.reserve(other, ALICE, Amounts(1, 1, 0), LIMITS)).standings[0].used == 9


@pytest_twisted.ensureDeferred
async def test_settling_takes_what_the_real_size_has_over_the_declared_one(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    got = await ledger.settle(charge(), Amounts(1, 2, 500))
    assert [s.used for s in got.standings] == [2, 500, 0]


@pytest_twisted.ensureDeferred
async def test_settling_gives_back_what_the_real_size_has_less(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    got = await ledger.settle(charge(), Amounts(1, 2, 100))
    assert [s.used for s in got.standings] == [2, 100, 0]


@pytest_twisted.ensureDeferred
async def test_settling_again_costs_nothing(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    for size in (500, 500, 700):
        got = await ledger.settle(charge(), Amounts(1, 2, size))
        assert [s.used for s in got.standings] == [2, 500, 0]


@pytest_twisted.ensureDeferred
async def test_a_repeat_after_settling_costs_nothing_and_another_message_is_charged(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    await ledger.settle(charge(), Amounts(1, 2, 500))
    assert (await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)).standings[1].used == 500
    assert (await ledger.reserve(charge(), ALICE, Amounts(1, 2, 400), LIMITS)).standings[1].used == 900


@pytest_twisted.ensureDeferred
async def test_a_concealed_size_is_refused_and_costs_nothing(ledger):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 2, 600), LIMITS)
    await ledger.reserve(charge(2), ALICE, Amounts(1, 2, 300), LIMITS)
    got = await ledger.settle(charge(2), Amounts(1, 2, 500))
    assert isinstance(got, Refused)
    assert (got.limit, got.standing.used) == (DAY, 600)
    assert got.reopens_at > START + 86400
    assert await used(ledger, HOUR, DAY) == [2, 600]
    assert await ledger.take_up("mx1", "Q2") is None
    assert not await ledger.refund("mx1", "Q2", "login:alice")


@pytest_twisted.ensureDeferred
async def test_a_refused_settlement_that_is_repeated_is_judged_afresh(ledger):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 2, 600), LIMITS)
    await ledger.reserve(charge(2), ALICE, Amounts(1, 2, 300), LIMITS)
    for _ in range(2):
        assert isinstance(await ledger.settle(charge(2), Amounts(1, 2, 500)), Refused)
    await ledger.release(charge(1))
    assert (await ledger.settle(charge(2), Amounts(1, 2, 500))).standings[1].used == 500
    assert await ledger.take_up("mx1", "Q2") == ALICE


@pytest_twisted.ensureDeferred
async def test_settling_judges_the_size_of_the_message(ledger):
    limits = held(parse_limit("100 bytes per message"))
    await ledger.reserve(charge(), ALICE, Amounts(1, 1, 0), limits)
    assert (await ledger.settle(charge(), Amounts(1, 1, 101))).reopens_at is None


@pytest_twisted.ensureDeferred
async def test_settling_what_never_was_charges_nothing(ledger):
    assert await ledger.settle(charge(), Amounts(1, 2, 500)) == Admitted(())
    assert await ledger.take_up("mx1", "Q1") is None


@pytest_twisted.ensureDeferred
async def test_an_abandoned_reservation_is_given_back(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    assert await ledger.release(charge())
    assert not await ledger.release(charge())
    assert await used(ledger, HOUR, DAY) == [0, 0]
    assert await ledger.take_up("mx1", "Q1") is None


@pytest_twisted.ensureDeferred
async def test_releasing_has_no_effect_once_settled(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    await ledger.settle(charge(), Amounts(1, 2, 300))
    assert not await ledger.release(charge())
    assert await used(ledger, HOUR, DAY) == [2, 300]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("settled", [False, True])
async def test_a_refund_gives_everything_back_once(ledger, settled):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    if settled:
        await ledger.settle(charge(), Amounts(1, 2, 500))
    assert await ledger.refund("mx1", "Q1", "login:alice")
    assert not await ledger.refund("mx1", "Q1", "login:alice")
    assert await used(ledger, HOUR, DAY) == [0, 0]


@pytest_twisted.ensureDeferred
async def test_after_a_refund_settling_charges_nothing(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    await ledger.refund("mx1", "Q1", "login:alice")
    assert isinstance(await ledger.settle(charge(), Amounts(1, 2, 500)), Admitted)
    assert await used(ledger, HOUR, DAY) == [0, 0]


@pytest_twisted.ensureDeferred
async def test_after_a_refund_the_same_message_is_charged_again(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    await ledger.refund("mx1", "Q1", "login:alice")
    assert (await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)).standings[0].used == 2


@pytest_twisted.ensureDeferred
async def test_nobody_has_another_message_refunded(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    assert not await ledger.refund("mx1", "Q1", "login:bob")
    assert not await ledger.refund("mx2", "Q1", "login:alice")
    assert await used(ledger, HOUR) == [2]


@pytest_twisted.ensureDeferred
async def test_a_refund_opens_the_very_subwindow_that_was_charged(ledger, clock):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 5, 0), LIMITS)
    clock.advance(1200)
    await ledger.reserve(charge(2), ALICE, Amounts(1, 5, 0), LIMITS)
    await ledger.refund("mx1", "Q1", "login:alice")
    await ledger.settle(charge(2), Amounts(1, 5, 0))
    clock.advance(2500)
    assert await used(ledger, HOUR) == [5]
    clock.advance(1200)
    assert await used(ledger, HOUR) == [0]


@pytest_twisted.ensureDeferred
async def test_a_reused_queue_id_means_the_newest_message(ledger):
    bob = Submission("login:bob", "bob@example.org")
    await ledger.reserve(ChargeId("mx1", "old", "Q"), ALICE, Amounts(1, 2, 0), LIMITS)
    await ledger.reserve(ChargeId("mx1", "new", "Q"), bob, Amounts(1, 2, 0), held(HOUR, subject="login:bob"))
    assert await ledger.take_up("mx1", "Q") == bob
    assert not await ledger.refund("mx1", "Q", "login:alice")
    assert await ledger.refund("mx1", "Q", "login:bob")
    assert not await ledger.refund("mx1", "Q", "login:bob")


@pytest_twisted.ensureDeferred
async def test_reading_the_record_takes_nothing_up(ledger):
    assert await ledger.record("mx1", "Q1") is None
    await ledger.reserve(charge(1), ALICE, Amounts(1, 1, 1), LIMITS)
    assert await ledger.record("mx1", "Q1") == ALICE
    assert await ledger.refund_untaken("mx1", 0.0) == 1
    assert await ledger.record("mx1", "Q1") is None


@pytest_twisted.ensureDeferred
async def test_what_is_refunded_or_unknown_cannot_be_taken_up(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    await ledger.refund("mx1", "Q1", "login:alice")
    assert await ledger.take_up("mx1", "Q1") is None
    assert await ledger.take_up("mx1", "Q2") is None


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("settled", [False, True])
async def test_what_nobody_took_up_is_given_back_once(ledger, settled):
    for number in (1, 2):
        await ledger.reserve(charge(number), ALICE, Amounts(1, 2, 300), LIMITS)
        if settled:
            await ledger.settle(charge(number), Amounts(1, 2, 400))
    assert await ledger.refund_untaken("mx1", 0.0) == 2
    assert await used(ledger, HOUR, DAY) == [0, 0]
    assert await ledger.refund_untaken("mx1", 0.0) == 0
    assert not await ledger.refund("mx1", "Q1", "login:alice")
    assert await used(ledger, HOUR, DAY) == [0, 0]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("settled", ["never", "before", "after"])
async def test_what_was_taken_up_stays_charged(ledger, settled):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    if settled == "before":
        await ledger.settle(charge(), Amounts(1, 2, 300))
    for _ in range(2):
        assert await ledger.take_up("mx1", "Q1") == ALICE
    if settled == "after":
        await ledger.settle(charge(), Amounts(1, 2, 300))
    assert await ledger.refund_untaken("mx1", 0.0) == 0
    assert await used(ledger, HOUR, DAY) == [2, 300]
    assert await ledger.refund("mx1", "Q1", "login:alice")
    assert await ledger.refund_untaken("mx1", 0.0) == 0
    assert await used(ledger, HOUR, DAY) == [0, 0]


@pytest_twisted.ensureDeferred
async def test_a_message_that_is_still_coming_in_costs_nothing_once_it_is_given_back(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    assert await ledger.refund_untaken("mx1", 0.0) == 1
    assert isinstance(await ledger.settle(charge(), Amounts(1, 2, 500)), Admitted)
    assert await used(ledger, HOUR, DAY) == [0, 0]
    assert await ledger.take_up("mx1", "Q1") is None


@pytest_twisted.ensureDeferred
async def test_what_was_given_back_untaken_can_be_sent_again(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    await ledger.take_up("mx1", "Q1")
    await ledger.refund("mx1", "Q1", "login:alice")
    await ledger.reserve(charge(), ALICE, Amounts(1, 3, 300), LIMITS)  # the mark went with the old charge
    assert await ledger.refund_untaken("mx1", 0.0) == 1
    await ledger.reserve(charge(), ALICE, Amounts(1, 4, 300), LIMITS)
    assert await ledger.take_up("mx1", "Q1") == ALICE
    assert await ledger.refund_untaken("mx1", 0.0) == 0
    assert await used(ledger, HOUR) == [4]


@pytest_twisted.ensureDeferred
async def test_the_time_of_the_reservation_tells_what_may_be_given_back_untaken(ledger, clock):
    """Whatever was made when, and when it was settled: 1 too long ago, 2 and 3 within, 4 too late."""
    for number, pause in ((1, 1.0), (2, UNTAKEN_WITHIN), (3, 1.0), (4, 5.0)):
        await ledger.reserve(charge(number), ALICE, Amounts(1, 1, 10 * number), LIMITS)
        clock.advance(pause)
    for number in (1, 2, 3, 4):
        await ledger.settle(charge(number), Amounts(1, 1, 10 * number))
    assert await ledger.refund_untaken("mx1", UNTAKEN_WITHIN + 10) == 0
    assert await ledger.refund_untaken("mx1", 6.0) == 2
    assert await used(ledger, HOUR, DAY) == [2, 50]
    assert await ledger.take_up("mx1", "Q4") == ALICE
    assert await ledger.take_up("mx1", "Q1") == ALICE


@pytest_twisted.ensureDeferred
async def test_what_is_reserved_anew_is_as_old_as_its_last_reservation(ledger, clock):
    await ledger.reserve(charge(), ALICE, Amounts(1, 1, 10), LIMITS)
    clock.advance(10)
    await ledger.reserve(charge(), ALICE, Amounts(1, 1, 20), LIMITS)
    clock.advance(10)
    assert await ledger.refund_untaken("mx1", 15.0) == 0
    assert await ledger.refund_untaken("mx1", 10.0) == 1


@pytest_twisted.ensureDeferred
async def test_only_what_a_milter_would_have_seen_is_given_back_untaken(ledger, clock):
    other, final = ChargeId("mx2", "i", "Q"), ChargeId("mx1", "i", "bob@example.com")
    nobody, gone, lapsed = charge(1), charge(2), charge(3)
    await ledger.reserve(lapsed, ALICE, Amounts(1, 1, 0), LIMITS)
    clock.advance(3600)
    await ledger.reserve(other, ALICE, Amounts(1, 1, 0), LIMITS)
    await ledger.reserve(final, ALICE, Amounts(0, 1, 0), LIMITS, final=True)
    await ledger.reserve(nobody, None, Amounts(1, 1, 0), LIMITS)
    await ledger.reserve(gone, ALICE, Amounts(1, 1, 0), LIMITS)
    await ledger.release(gone)
    assert await ledger.refund_untaken("mx1", 0.0) == 0
    assert await ledger.refund_untaken("mx1", 3600.0) == 0
    assert await used(ledger, HOUR) == [3]
    await ledger.settle(lapsed, Amounts(1, 1, 0))
    assert await ledger.refund_untaken("mx1", 0.0) == 0
    assert await ledger.refund_untaken("mx2", 0.0) == 1


@pytest_twisted.ensureDeferred
async def test_an_unsettled_reservation_is_given_back_after_an_hour(ledger, clock):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    clock.advance(3599)
    assert await used(ledger, DAY) == [300]
    clock.advance(1)
    assert await used(ledger, DAY) == [0]
    assert await ledger.take_up("mx1", "Q1") is None


@pytest_twisted.ensureDeferred
async def test_a_lapsed_reservation_is_charged_anew_when_it_is_settled(ledger, clock):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    clock.advance(3 * 3600)
    assert [s.used for s in (await ledger.settle(charge(), Amounts(1, 2, 400))).standings] == [2, 400, 0]
    assert await ledger.refund("mx1", "Q1", "login:alice")
    assert await used(ledger, HOUR, DAY) == [0, 0]


@pytest_twisted.ensureDeferred
async def test_a_message_refunded_after_its_lapse_is_not_charged_by_a_late_settlement(ledger, clock):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    clock.advance(2 * 3600)
    assert not await ledger.refund("mx1", "Q1", "login:alice")
    await ledger.settle(charge(), Amounts(1, 2, 400))
    assert await used(ledger, HOUR, DAY) == [0, 0]


@pytest_twisted.ensureDeferred
async def test_a_settled_charge_is_known_for_an_hour_and_stays_charged(ledger, clock):
    await ledger.reserve(charge(), ALICE, Amounts(1, 2, 300), LIMITS)
    clock.advance(1800)
    await ledger.settle(charge(), Amounts(1, 2, 300))
    clock.advance(3599)
    assert await ledger.take_up("mx1", "Q1") == ALICE
    clock.advance(1)
    assert await ledger.take_up("mx1", "Q1") is None
    assert not await ledger.refund("mx1", "Q1", "login:alice")
    assert await used(ledger, DAY) == [300]


@pytest_twisted.ensureDeferred
async def test_a_final_charge_is_for_good_and_keeps_no_record(ledger):
    one = ChargeId("mx1", "i1", "bob@example.com")
    for _ in range(2):
        got = await ledger.reserve(one, ALICE, Amounts(0, 1, 0), LIMITS, final=True)
        assert got.standings[0].used == 1
    assert await ledger.take_up("mx1", "bob@example.com") is None
    assert not await ledger.release(one)
    assert not await ledger.refund("mx1", "bob@example.com", "login:alice")
    await ledger.settle(one, Amounts(0, 5, 0))
    assert await used(ledger, HOUR) == [1]


@pytest_twisted.ensureDeferred
async def test_a_reset_forgets_everything_and_what_was_reserved_cannot_come_back(ledger):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 5, 300), LIMITS)
    assert await ledger.reset("login:alice", "root", "asked on the phone") == 2
    await ledger.reserve(charge(2), ALICE, Amounts(1, 3, 100), LIMITS)
    assert await ledger.release(charge(1))
    assert await used(ledger, HOUR, DAY) == [3, 100]
    assert await ledger.reset("login:bob", "root", "nothing there") == 0


@pytest_twisted.ensureDeferred
async def test_a_reset_between_reserving_and_settling_charges_only_what_is_over(ledger):
    await ledger.reserve(charge(), ALICE, Amounts(1, 5, 300), LIMITS)
    await ledger.reset("login:alice", "root", "why not")
    await ledger.settle(charge(), Amounts(1, 5, 400))
    assert await used(ledger, HOUR, DAY) == [0, 100]
    await ledger.refund("mx1", "Q1", "login:alice")
    assert await used(ledger, HOUR, DAY) == [0, 0]


@pytest_twisted.ensureDeferred
async def test_absurd_amounts_and_hostile_text_are_kept_or_refused_like_any_other(ledger):
    hostile = Submission("login:alice", "\udce9\ud800\0'; --@example.org")
    odd = ChargeId("mx1", "i\udcff\0", "Q'\udcff")
    assert isinstance(await ledger.reserve(odd, hostile, Amounts(1, 1, 10**40), LIMITS), Refused)
    assert isinstance(await ledger.reserve(odd, hostile, Amounts(1, -5, -(10**40)), LIMITS), Admitted)
    assert await ledger.take_up("mx1", "Q'\udcff") == hostile
    assert await used(ledger, HOUR, DAY) == [0, 0]


@pytest_twisted.ensureDeferred
async def test_setting_the_clock_back_unblocks_nobody_and_blocks_for_a_window_at_most(ledger, clock):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 8, 0), LIMITS)
    await ledger.settle(charge(1), Amounts(1, 8, 0))
    clock.set(START - 86400)
    got = await ledger.reserve(charge(2), ALICE, Amounts(1, 8, 0), LIMITS)
    assert isinstance(got, Refused)
    assert got.reopens_at <= clock.now + 3660
    clock.advance(3660)
    assert isinstance(await ledger.reserve(charge(2), ALICE, Amounts(1, 8, 0), LIMITS), Admitted)


@pytest_twisted.ensureDeferred
async def test_a_refund_finds_its_charge_after_the_clock_was_set_back(ledger, clock):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 4, 0), LIMITS)
    clock.set(START - 7200)
    await ledger.reserve(charge(2), ALICE, Amounts(1, 4, 0), LIMITS)
    assert await ledger.refund("mx1", "Q1", "login:alice")
    assert await used(ledger, HOUR) == [4]


@pytest_twisted.ensureDeferred
async def test_blocks_are_kept_changed_and_lifted(ledger):
    generation, before = await ledger.blocks()
    assert before == ()
    first = await ledger.block(block())
    second = await ledger.block(block(reason="again"))
    assert first.id
    assert first.id != second.id
    changed = await ledger.block(
        Block(**{n: getattr(first, n) for n in Block.__slots__} | {"end": START + 60})
    )
    assert (changed.id, changed.version) == (first.id, first.version + 1)
    later, now = await ledger.blocks()
    assert later > generation
    assert set(now) == {changed, second}
    assert await ledger.lift(first.id, "root", "paid")
    assert not await ledger.lift(first.id, "root", "paid")
    assert not await ledger.lift("zzzzz", "root", "no such")
    assert (await ledger.blocks())[1] == (second,)


@pytest_twisted.ensureDeferred
async def test_a_block_that_ended_long_ago_is_left_out(ledger, clock):
    await ledger.block(block(end=START + 60))
    clock.advance(86400)
    assert len((await ledger.blocks())[1]) == 1
    clock.advance(61)
    assert (await ledger.blocks())[1] == ()


@pytest_twisted.ensureDeferred
async def test_the_generation_moves_with_all_that_others_hold_in_memory(ledger):
    async def moved(deferred):
        before = (await ledger.blocks())[0]
        await deferred()
        return (await ledger.blocks())[0] > before

    async def reserve(n):
        await ledger.reserve(charge(n), ALICE, Amounts(1, 1, 1), LIMITS)

    assert not await moved(lambda: reserve(1))
    assert not await moved(lambda: ledger.settle(charge(1), Amounts(1, 1, 2)))
    assert await moved(lambda: ledger.refund("mx1", "Q1", "login:alice"))
    await reserve(2)
    assert not await moved(lambda: ledger.take_up("mx1", "Q2"))
    assert not await moved(lambda: ledger.refund_untaken("mx1", 0.0))
    await reserve(3)
    assert await moved(lambda: ledger.refund_untaken("mx1", 0.0))
    assert await moved(lambda: ledger.release(charge(2)))
    assert await moved(lambda: ledger.reset("login:alice", "root", "x"))
    assert await moved(lambda: ledger.block(block()))


EVERYBODY = (
    *held(HOUR),
    *held(parse_limit("15 recipients per hour"), subject="domain:example.org"),
    *held(parse_limit("100 messages per day"), subject="network:192.0.2.0/24"),
    *held(parse_limit("20 recipients per hour"), subject="relay"),
)


async def all_used(ledger):
    return [one.used for one in await ledger.standing(tuple((s, limit) for s, limit, _ in EVERYBODY))]


@pytest_twisted.ensureDeferred
async def test_many_subjects_are_charged_in_one_step_or_none(ledger):
    bob = Submission("login:bob", "bob@example.org")
    assert isinstance(await ledger.reserve(charge(1), ALICE, Amounts(1, 8, 0), EVERYBODY), Admitted)
    his = (*held(HOUR, subject="login:bob"), *EVERYBODY[1:])
    got = await ledger.reserve(charge(2), bob, Amounts(1, 8, 0), his)
    assert isinstance(got, Refused)
    assert (got.standing.subject, got.standing.used) == ("domain:example.org", 8)
    assert await used(ledger, HOUR, subject="login:bob") == [0]
    assert await all_used(ledger) == [8, 8, 1, 8]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", ["refund", "refund_untaken", "release"])
async def test_what_is_given_back_is_given_back_to_every_subject(ledger, way):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 2, 0), EVERYBODY)
    await ledger.take_up("mx1", "Q1")
    await ledger.reserve(charge(2), ALICE, Amounts(1, 3, 0), EVERYBODY)
    assert await all_used(ledger) == [5, 5, 2, 5]
    given = {
        "refund": lambda: ledger.refund("mx1", "Q2", "login:alice"),
        "refund_untaken": lambda: ledger.refund_untaken("mx1", 0.0),
        "release": lambda: ledger.release(charge(2)),
    }
    assert await given[way]()
    assert await all_used(ledger) == [2, 2, 1, 2]


@pytest_twisted.ensureDeferred
async def test_a_reset_of_one_subject_leaves_the_others(ledger):
    await ledger.reserve(charge(1), ALICE, Amounts(1, 2, 0), EVERYBODY)
    assert await ledger.reset("domain:example.org", "root", "agreed") == 1
    assert await all_used(ledger) == [2, 0, 1, 2]


@pytest_twisted.ensureDeferred
async def test_a_stop_first_does_what_was_handed_in_before(ledger):
    await ledger.guard_note(tuple(Mark("binds alice", f"{number}", 900.0) for number in range(100)))
    left = [ledger.guard_drop((("binds alice", f"{number}"),)) for number in range(99)]
    seen = ledger.guard_names("binds alice")
    await ledger.stop()
    assert [type(await one) for one in left] == [type(None)] * 99
    assert await seen == ("99",)
