from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.charges import Admitted, Amounts, ChargeId
from ledger.limits import (
    AMOUNT_MAX,
    PER_MESSAGE,
    Limit,
    Standing,
    bucket_of,
    format_limit,
    leaves_at,
    oldest_counted,
    parse_limit,
    reopens_at,
)
from ledger.model import ModelLedger

WRITTEN = [
    ("500 recipients per day", Limit(500, "recipients", 86400)),
    ("1 recipient per day", Limit(1, "recipients", 86400)),
    ("100 messages per hour", Limit(100, "messages", 3600)),
    ("100 recipients per message", Limit(100, "recipients", PER_MESSAGE)),
    ("25 MB per message", Limit(25_000_000, "bytes", PER_MESSAGE)),
    ("1 GB per day", Limit(10**9, "bytes", 86400)),
    ("10 KiB per week", Limit(10240, "bytes", 604800)),
    ("5 MiB per message", Limit(5 * 2**20, "bytes", PER_MESSAGE)),
    ("7 bytes per minute", Limit(7, "bytes", 60)),
    ("30 messages per 10 minutes", Limit(30, "messages", 600)),
    ("30 messages per 90 minutes", Limit(30, "messages", 5400)),
    ("3 messages per 31 days", Limit(3, "messages", 31 * 86400)),
    ("0 messages per hour", Limit(0, "messages", 3600)),
    ("0 bytes per day", Limit(0, "bytes", 86400)),
]
ALSO_READ = [
    ("  500   Recipients  PER day ", "500 recipients per day"),
    ("25MB per message", "25 MB per message"),
    ("25 mb per message", "25 MB per message"),
    ("1.5 GB per day", "1500 MB per day"),
    ("60 messages per 60 minutes", "60 messages per hour"),
    ("60 messages per 7 days", "60 messages per week"),
    ("60 messages per 1 hour", "60 messages per hour"),
]
REFUSED = [
    ("", "write for example"),
    ("500", "write for example"),
    ("recipients per day", "write for example"),
    ("-5 recipients per day", "write for example"),
    ("5 recipients a day", "write for example"),
    ("5 apples per day", "messages, recipients, bytes, KiB, MiB, GiB, kB, MB, GB can"),
    ("1 message per message", "per message there are recipients or bytes"),
    ("1.5 messages per day", "no whole number"),
    ("0.0001 kB per day", "no whole number"),
    ("1 message per second", "per message, minute, hour, day, week"),
    ("1 message per minutes", "per message, minute, hour, day, week"),
    ("5 bytes per 2 message", "per message, minute, hour, day, week"),
    ("1 message per 0 minutes", "from 1 minute to 31 days"),
    ("1 message per 32 days", "from 1 minute to 31 days"),
    ("999999999 GB per day", f"at most {AMOUNT_MAX}"),
    ("9" * 5000 + " messages per day", "write for example"),
    ("٥ messages per day", "write for example"),
    ("5 messages per day\n6 messages per day", "write for example"),
]


@pytest.mark.parametrize(("text", "limit"), WRITTEN)
def test_a_limit_is_read_as_people_write_it_and_written_the_same(text, limit):
    assert parse_limit(text) == limit
    assert format_limit(limit) == text


@pytest.mark.parametrize(("text", "canonical"), ALSO_READ)
def test_other_spellings_mean_the_same(text, canonical):
    assert format_limit(parse_limit(text)) == canonical


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_a_wrong_limit_is_refused_with_what_is_allowed(text, words):
    with pytest.raises(ValueError) as error:
        parse_limit(text)
    assert words in str(error.value)


windows = st.integers(1, 31 * 1440).map(lambda minutes: 60 * minutes)


@given(
    st.one_of(
        st.builds(
            Limit, st.integers(0, AMOUNT_MAX), st.sampled_from(["messages", "recipients", "bytes"]), windows
        ),
        st.builds(Limit, st.integers(0, AMOUNT_MAX), st.sampled_from(["recipients", "bytes"]), st.just(0)),
    )
)
def test_every_limit_that_is_written_is_read_back(limit):
    assert parse_limit(format_limit(limit)) == limit


@given(st.floats(0, 4e9), windows)
def test_a_subwindow_counts_for_a_window_at_least_and_a_sixtieth_more_at_most(at, window):
    gone = leaves_at(bucket_of(at, window), window)
    assert at + window < gone <= at + window + window / 60
    assert bucket_of(at, window) < oldest_counted(gone, window)
    assert bucket_of(at, window) >= oldest_counted(gone - 0.001, window)


def test_nothing_left_is_never_negative():
    assert Standing("relay", Limit(5, "messages", 60), 9).remaining == 0


def test_more_than_a_window_never_reopens():
    assert reopens_at([], Limit(5, "messages", 3600), 6, 0.0) is None


def done(coroutine):
    """The result of a model's verb, which never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the model waited")


steps = st.lists(st.tuples(st.floats(0, 900), st.integers(1, 4)), min_size=1, max_size=60)


@given(steps, st.integers(1, 8), st.sampled_from([60, 600, 3600]), st.floats(0, 4000))
def test_no_interval_holds_more_than_the_amount_and_capacity_returns_within_a_sixtieth(
    steps, amount, window, start
):
    """The promise of the ledger, from both sides, for any times of charging."""
    limit = Limit(amount, "recipients", window)
    now = [1.8e9 + start]
    ledger = ModelLedger(lambda: now[0])
    admitted: list[tuple[float, int]] = []
    for number, (pause, wanted) in enumerate(steps):
        now[0] += pause * window / 3600
        charge = ChargeId("mx", "i", str(number))
        answer = done(
            ledger.reserve(charge, None, Amounts(1, wanted, 0), (("relay", limit, True),), final=True)
        )
        within = sum(n for t, n in admitted if t > now[0] - window)
        nearly = sum(n for t, n in admitted if t > now[0] - window - window / 60)
        if isinstance(answer, Admitted):
            assert within + wanted <= amount
            admitted.append((now[0], wanted))
        else:
            assert nearly + wanted > amount
            assert (answer.reopens_at is None) == (wanted > amount)
    for start_of, _ in admitted:
        assert sum(n for t, n in admitted if start_of <= t <= start_of + window) <= amount


@given(steps, st.integers(1, 8), st.integers(1, 4))
def test_a_refusal_names_the_first_moment_at_which_it_would_fit(steps, amount, wanted):
    limit = Limit(amount, "recipients", 3600)
    now = [1.8e9]
    ledger = ModelLedger(lambda: now[0])
    held = (("relay", limit, True),)
    for number, (pause, recipients) in enumerate(steps):
        now[0] += pause
        done(
            ledger.reserve(ChargeId("m", "i", str(number)), None, Amounts(1, recipients, 0), held, final=True)
        )
    answer = done(ledger.reserve(ChargeId("m", "i", "x"), None, Amounts(1, wanted, 0), held))
    if isinstance(answer, Admitted) or answer.reopens_at is None:
        return
    now[0] = answer.reopens_at - 0.001
    assert not isinstance(
        done(ledger.reserve(ChargeId("m", "i", "x"), None, Amounts(1, wanted, 0), held)), Admitted
    )
    now[0] = answer.reopens_at
    assert isinstance(
        done(ledger.reserve(ChargeId("m", "i", "x"), None, Amounts(1, wanted, 0), held)), Admitted
    )
