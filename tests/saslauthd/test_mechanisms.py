"""PLAIN and LOGIN: what is asked, what is refused before anybody is asked, what nobody can print."""

import base64
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.identity import Credentials
from saslauthd.mechanisms import (
    MECHANISMS,
    PASSWORD_MAX,
    Challenge,
    Login,
    Plain,
    Refused,
    decode_base64,
    encode_base64,
)


def plain(response: bytes) -> Credentials | Refused | Challenge:
    return Plain().respond(response)


def login(*responses: bytes | None) -> Credentials | Refused | Challenge:
    exchange = Login()
    for response in responses[:-1]:
        assert isinstance(exchange.respond(response), Challenge)
    return exchange.respond(responses[-1])


@pytest.mark.parametrize(
    ("response", "name", "password"),
    [
        (b"\0user\0pass", "user", b"pass"),
        (b"user\0user\0pass", "user", b"pass"),
        (b"USER\0User\0pass", "user", b"pass"),
        (b"\0ALICE@Example.ORG\0pass", "alice@example.org", b"pass"),
        (b"\0zoe\xcc\x88\0pass", "zoë", b"pass"),
        (b"\0a\0 ", "a", b" "),
        (b"\0a\0p\xff\x01\r\n\tq", "a", b"p\xff\x01\r\n\tq"),
        (b"\0a\0" + b"x" * PASSWORD_MAX, "a", b"x" * PASSWORD_MAX),
        (b"\0" + b"a" * 255 + b"\0x", "a" * 255, b"x"),
    ],
)
def test_plain_gives_credentials(response: bytes, name: str, password: bytes) -> None:
    outcome = plain(response)
    assert isinstance(outcome, Credentials)
    assert (outcome.login, outcome.password) == (name, password)


@pytest.mark.parametrize(
    ("response", "reason", "name"),
    [
        (b"", "malformed", ""),
        (b"user", "malformed", ""),
        (b"user\0pass", "malformed", ""),
        (b"\0user\0pa\0ss", "malformed", ""),
        (b"\0\0\0", "malformed", ""),
        (b"\0user\0pass\0", "malformed", ""),
        (b"\0\0", "bad_login", ""),
        (b"\0\0pass", "bad_login", ""),
        (b"\0user\0", "empty_password", "user"),
        (b"\0user\0" + b"x" * (PASSWORD_MAX + 1), "long_password", "user"),
        (b"root\0user\0pass", "authz_fail", "user"),
        (b" \0user\0pass", "authz_fail", "user"),
        (b"\xff\0user\0pass", "authz_fail", "user"),
        (b"\0us er\0pass", "bad_login", "us er"),
        (b"\0user#phone\0pass", "bad_login", "user#phone"),
        (b"\0us\ter\0pass", "bad_login", ""),
        (b"\0us\ner\0pass", "bad_login", ""),
        (b"\0us\rer\0pass", "bad_login", ""),
        (b"\0us\x01er\0pass", "bad_login", ""),
        (b"\0us\x1ber\0pass", "bad_login", ""),
        (b"\0us\xe2\x80\xa8er\0pass", "bad_login", ""),
        (b"\0\xff\0pass", "bad_login", ""),
        (b"\0\xed\xa0\x80\0pass", "bad_login", ""),
        (b"\0" + b"a" * 256 + b"\0pass", "bad_login", ""),
    ],
)
def test_plain_refuses_without_asking_anybody(response: bytes, reason: str, name: str) -> None:
    assert plain(response) == Refused(reason, name)


def test_plain_without_an_initial_response_asks_for_one() -> None:
    exchange = Plain()
    assert exchange.respond(None) == Challenge(b"")
    assert isinstance(exchange.respond(b"\0user\0pass"), Credentials)


def test_login_asks_for_both() -> None:
    exchange = Login()
    assert exchange.respond(None) == Challenge(b"Username:")
    assert exchange.respond(b"User") == Challenge(b"Password:")
    outcome = exchange.respond(b"pass")
    assert isinstance(outcome, Credentials)
    assert (outcome.login, outcome.password) == ("user", b"pass")


def test_logins_initial_response_is_the_user_name() -> None:
    assert isinstance(login(b"user", b"pass"), Credentials)


@pytest.mark.parametrize(
    ("responses", "expected"),
    [
        ((None, b""), Refused("bad_login")),
        ((None, b"us er"), Refused("bad_login", "us er")),
        ((None, b"us\0er"), Refused("bad_login")),
        ((None, b"user", b""), Refused("empty_password", "user")),
        ((b"user", b""), Refused("empty_password", "user")),
        ((b"user", b"x" * (PASSWORD_MAX + 1)), Refused("long_password", "user")),
    ],
)
def test_login_refuses_without_asking_anybody(responses: tuple[bytes | None, ...], expected: Refused) -> None:
    assert login(*responses) == expected


def test_every_mechanism_hides_under_noplaintext() -> None:
    assert {name: mechanism.flags for name, mechanism in MECHANISMS.items()} == {
        "PLAIN": ("plaintext",),
        "LOGIN": ("plaintext",),
    }


@pytest.mark.parametrize(
    "text",
    [
        *(b"=", b"==", b"A", b"AA", b"AAA", b"AAAAA", b"AA=", b"AA===", b"AAA==", b"A===", b"AA==AA=="),
        *(b"AB==", b"AAB=", b"A A=", b" AA==", b"AA==\n", b"AA==\r", b"-_-_", b"AA==\0", b"\xff" * 4, b"#"),
    ],
)
def test_only_canonical_base64_is_decoded(text: bytes) -> None:
    assert decode_base64(text) is None


@given(st.binary())
def test_base64_goes_there_and_back(data: bytes) -> None:
    assert decode_base64(encode_base64(data)) == data
    assert encode_base64(data) == base64.b64encode(data)


@given(st.binary(max_size=40))
def test_any_bytes_are_base64_or_none(text: bytes) -> None:
    data = decode_base64(text)
    assert data is None or encode_base64(data) == text


@given(st.lists(st.none() | st.binary(max_size=20), min_size=1, max_size=3), st.sampled_from([Plain, Login]))
def test_no_response_gives_credentials_without_login_and_password(
    responses: list[bytes | None], kind
) -> None:
    exchange = kind()
    for response in responses:
        step = exchange.respond(response)
        if isinstance(step, Credentials):
            assert step.login
            assert step.password
        if not isinstance(step, Challenge):
            break


CANARY = b"canary-in-the-mine"


@pytest.mark.parametrize(
    "response",
    [b"\0user\0" + CANARY, b"x\0user\0" + CANARY, b"\0us er\0" + CANARY, b"\0u\0" + CANARY + b"\0"],
)
def test_nothing_prints_a_password(response: bytes) -> None:
    exchange = Plain()
    outcome = exchange.respond(response)
    printed = f"{outcome!r} {outcome!s} {exchange!r} {vars(type(exchange))!r}"
    assert CANARY.decode() not in printed
    assert encode_base64(CANARY).decode()[:-4] not in printed


def test_a_decoding_error_prints_no_password() -> None:
    try:
        raise RuntimeError(decode_base64(CANARY))
    except RuntimeError:
        assert CANARY.decode() not in traceback.format_exc()
