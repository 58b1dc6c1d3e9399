"""The public texts: each is one line that can be sent, whatever an address holds, and says what to do."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.identity import Principal
from milter import replies
from milter.wire import encode_reply

ALICE = Principal("login", "alice")


def lines(text: str) -> list[bytes]:
    """Every reply, made with `text` wherever a peer's or an operator's text can stand."""
    who = Principal("login", text)
    return [
        *(replies.unparsable("From", fault, text) for fault in replies.FAULTS),
        replies.malformed("From", text, text, text),
        replies.no_author(text),
        replies.repeated(text, text),
        replies.too_large(text),
        replies.resent(text, text),
        replies.strange(text, text),
        replies.long_line(text, text),
        replies.claimed(text, text),
        replies.claimed_too_often(text, text),
        replies.not_owned("Sender", who, text, text, text),
        replies.disabled(who, text, text),
        replies.no_principal(text, text),
        replies.unavailable(text),
        replies.no_key(text, text, text, temporary=True),
        replies.no_key(text, text, text, temporary=False),
        replies.new_key(text, text),
    ]


@given(st.text(max_size=1200))
def test_any_text_of_a_peer_leaves_a_line_that_can_be_sent(text: str) -> None:
    for line in lines(text):
        encode_reply(line)


@pytest.mark.parametrize("line", lines("0a1b2c3d"))
def test_each_text_fits_whole_and_names_its_incident(line: bytes) -> None:
    assert b"..." not in line.replace(b"(=?...?=)", b"")
    assert line.endswith(b"(incident 0a1b2c3d)")


def test_every_public_text_is_tested_here() -> None:
    public = {
        name
        for name, one in inspect.getmembers(replies, inspect.isfunction)
        if one.__module__ == replies.__name__
        and one.__annotations__.get("return") == "bytes"
        and name[0] != "_"
    }
    assert all(name in inspect.getsource(lines) for name in public)


def test_a_certificate_is_named_shortly() -> None:
    name = "sha256:" + "0a" * 32
    assert (
        replies.name_of(Principal("certificate", name))
        == "certificate sha256:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a..."
    )
