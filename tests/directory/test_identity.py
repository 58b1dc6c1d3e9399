"""The names of principals in normal form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.identity import BadLogin, Credentials, Principal, normal_fingerprint, normal_login


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Alice", "alice"),
        ("alice@Example.org", "alice@example.org"),
        ("jose\u0301", "jos\u00e9"),
        ("STRASSE", "strasse"),
        ("stra\u00dfe", "stra\u00dfe"),
        ("ILGAZ", "ilgaz"),
        ("\u0131lgaz", "\u0131lgaz"),
        ("a" * 255, "a" * 255),
    ],
)
def test_login_has_one_normal_form(text, normal):
    assert normal_login(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "a\x01ice",
        "a\0",
        "a\n",
        "a#b",
        "a\x7f",
        "a\x85",
        "a\u2028",
        "a\udcff",
        "a" * 256,
        "ä" * 128,
    ],
)
def test_name_that_peers_would_misread_is_no_login(text):
    with pytest.raises(BadLogin):
        normal_login(text)


@given(st.text())
def test_any_text_is_a_login_or_bad(text):
    try:
        normal = normal_login(text)
    except BadLogin:
        return
    assert normal_login(normal) == normal


@pytest.mark.parametrize(
    "text",
    ["AB" * 32, "ab:" * 31 + "ab", "sha256:" + "ab" * 32, "SHA256:" + "AB:" * 31 + "AB", f" {'ab' * 32} "],
)
def test_fingerprint_has_one_normal_form(text):
    assert normal_fingerprint(text) == "sha256:" + "ab" * 32


def test_length_tells_the_algorithm():
    assert normal_fingerprint("ab" * 16).startswith("md5:")
    assert normal_fingerprint("ab" * 20).startswith("sha1:")
    assert normal_fingerprint("ab" * 64).startswith("sha512:")


@pytest.mark.parametrize(
    "text", ["", "sha256:", "ab", "xy" * 32, "sha1:" + "ab" * 32, "ab" * 31 + "a", "é" * 64]
)
def test_what_is_no_fingerprint_is_refused(text):
    with pytest.raises(ValueError):
        normal_fingerprint(text)


def test_credentials_have_no_printable_form():
    credentials = Credentials("alice", b"swordfish")
    assert "swordfish" not in f"{credentials} {credentials!r} {[credentials]}"
    assert credentials != Credentials("alice", b"swordfish")


def test_principal_has_a_subject():
    assert Principal("network", "192.0.2.0/24").subject == "network:192.0.2.0/24"
