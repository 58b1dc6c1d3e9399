"""What is kept of a header, and what is counted."""

import pytest

from milter.header import HEADER_MAX, ONCE, VALUE_KEPT, Header


def header(*fields: tuple[str, str]) -> Header:
    made = Header()
    for name, value in fields:
        made.add(name.encode(), value.encode())
    return made


def test_names_are_read_without_case_and_blanks() -> None:
    assert header(("fRoM \t", "a")).author == b"a"


@pytest.mark.parametrize("name", sorted(ONCE))
def test_a_field_that_may_stand_once_and_stands_twice_is_seen(name: bytes) -> None:
    assert header((name.decode().upper(), "a"), (name.decode() + " ", "b")).repeated == name


def test_fields_that_may_repeat_may_repeat() -> None:
    assert not header(
        *[("Received", "a"), ("X-From", "a"), ("Comments", "b"), ("Keywords", "c")] * 2
    ).repeated


def test_the_first_from_stays_the_author() -> None:
    assert header(("From", "a"), ("From", "b")).author == b"a"


def test_resent_fields_are_seen() -> None:
    assert header(("Resent-From", "a")).resent == b"resent-from"
    assert header(("Resent-", "a")).resent == b"resent-"
    assert not header(("X-Resent-From", "a")).resent


def test_ten_thousand_fields_are_fine_and_cost_no_memory() -> None:
    made = header(*[(f"X-{number}", "value") for number in range(10_000)], ("From", "a"))
    assert not made.is_too_large
    assert made.author == b"a"
    assert len(made.seen) == 1


def test_a_hundred_trace_fields_are_fine_and_one_more_is_seen() -> None:
    made = header(*[("DKIM-Signature", "x"), ("Authentication-Results", "y")] * 50)
    assert not made.claimed
    made.add(b"DKIM-Signature", b"x")
    assert made.claimed == b"dkim-signature"


def test_a_header_over_the_bound_is_seen_and_no_longer_kept() -> None:
    made = header(("X", "v" * (HEADER_MAX - 1)))
    assert not made.is_too_large
    made.add(b"From", b"a")
    assert made.is_too_large
    assert made.author is None


def test_of_a_long_value_enough_is_kept_to_see_that_it_is_long() -> None:
    assert len(header(("From", "a" * 100_000)).author or b"") == VALUE_KEPT
