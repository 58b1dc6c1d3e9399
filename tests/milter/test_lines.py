"""Lines that are too long, however the body is cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from milter.lines import LINE_MAX, Lines, is_long_field

BODIES = st.lists(st.sampled_from([0, 1, 500, 996, 997, 998, 999, 1000, 5000]), max_size=8)


def looked_at(*chunks: bytes) -> bool:
    lines = Lines()
    for chunk in chunks:
        lines.feed(chunk)
    return lines.is_long


def test_998_octets_pass_and_999_do_not() -> None:
    assert not looked_at(b"x" * LINE_MAX + b"\r\n")
    assert looked_at(b"x" * (LINE_MAX + 1) + b"\r\n")
    assert looked_at(b"a\r\n" + b"x" * (LINE_MAX + 2))
    assert not looked_at()


@given(BODIES, st.lists(st.integers(1, 6000), max_size=6))
def test_where_the_body_is_cut_plays_no_part(lengths: list[int], cuts: list[int]) -> None:
    body = b"".join(b"x" * length + b"\r\n" for length in lengths)
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    chunks = [body[a:b] for a, b in pairwise(places)]
    assert looked_at(*chunks) == any(length > LINE_MAX for length in lengths)


def test_the_name_of_a_field_counts_and_each_fold_is_a_line() -> None:
    assert not is_long_field(b"Subject", b" " + b"x" * (LINE_MAX - 9))
    assert is_long_field(b"Subject", b" " + b"x" * (LINE_MAX - 8))
    assert not is_long_field(b"References", b"\n ".join([b" <" + b"x" * 900 + b">"] * 5))
    assert is_long_field(b"References", b" <a@b>\n <" + b"x" * 999 + b">")
