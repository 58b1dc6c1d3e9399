"""RESP2 as Redis writes it: whole, by the byte, and what is none of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.resp import PENDING, Failed, Reader, encode

ANSWERS = [
    (b"$5\r\nhello\r\n", b"hello"),
    (b"$0\r\n\r\n", b""),
    (b"$4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"*0\r\n", []),
    (b":-17\r\n", -17),
    (b"+OK\r\n", b"OK"),
    (b"-NOSCRIPT No matching script\r\n", Failed("NOSCRIPT No matching script")),
    (b"-ERR \xff\r\n", Failed("ERR \ufffd")),
    (b"*2\r\n$1\r\n1\r\n*3\r\n:1\r\n*0\r\n*1\r\n$-1\r\n", [b"1", [1, [], [None]]]),
    (b"*2\r\n-ERR no\r\n$1\r\nx\r\n", [Failed("ERR no"), b"x"]),
]


@pytest.mark.parametrize(("data", "answer"), ANSWERS)
def test_an_answer_is_read_whole_and_by_the_octet(data: bytes, answer: object) -> None:
    reader = Reader()
    reader.feed(data)
    assert (reader.take(), len(reader)) == (answer, 0)
    assert reader.take() is PENDING
    for octet in data[:-1]:
        reader.feed(bytes([octet]))
        assert reader.take() is PENDING
    reader.feed(data[-1:])
    assert reader.take() == answer


@given(st.lists(st.sampled_from(ANSWERS), max_size=6), st.lists(st.integers(0, 200), max_size=6))
def test_answers_that_come_in_any_portions_are_the_same(answers: list, cuts: list[int]) -> None:
    data = b"".join(wire for wire, _ in answers)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader, told = Reader(), []
    for begin, end in pairwise(places):
        reader.feed(data[begin:end])
        while (answer := reader.take()) is not PENDING:
            told.append(answer)
    assert told == [answer for _, answer in answers]


@pytest.mark.parametrize(
    "data", [b"hello\r\n", b"\r\n", b"$x\r\n", b"*1\r\n%1\r\n", b":\r\n", b"HTTP/1.1 400\r\n"]
)
def test_what_is_no_answer_is_an_error(data: bytes) -> None:
    reader = Reader()
    reader.feed(data)
    with pytest.raises(ValueError):
        reader.take()


def test_a_command_is_its_words_with_their_lengths() -> None:
    assert encode((b"GET", b"", b"\r\n\xff")) == b"*3\r\n$3\r\nGET\r\n$0\r\n\r\n$3\r\n\r\n\xff\r\n"
