"""Fields that are not the client's to send: which go, which stay, and in which order."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milter.claims import RESULTS, SIGNATURE, Claim, Ours, results_name, signed_by, to_remove

OURS = Ours(frozenset({"mx1.example.org"}), frozenset({"example.org"}))
GOOD = (
    "v=1; a=rsa-sha256; c=relaxed/simple; d={domain}; s=k1; t=1700000000; x=1800000000;\n"
    "\th=From:To : Subject:Date; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\n b=QUJD\n REVG"
)


def signature(domain: str = "elsewhere.example") -> bytes:
    return GOOD.format(domain=domain).encode()


RESULTS_NAMES = [
    (" mx1.example.org; spf=pass", "mx1.example.org"),
    ("\n mx1.example.org\n ;none", "mx1.example.org"),
    (" MX1.Example.ORG. 1; spf=pass", "mx1.example.org"),
    (' "mx1.example.org" ; spf=pass', "mx1.example.org"),
    (" (c) mx1.example.org (d (e)) 1 (f); spf=pass", "mx1.example.org"),
    (" mx1.example.org", "mx1.example.org"),
    (" elsewhere.example; spf=pass", "elsewhere.example"),
    ("", None),
    (" ; spf=pass", None),
    (" mx1.example.org spf=pass", None),
    (" (((((((a))))))) mx1.example.org; x", None),
    (" (open mx1.example.org; x", None),
    (" mx1.example.org;" + "x" * 5000, None),
]


@pytest.mark.parametrize(("value", "name"), RESULTS_NAMES)
def test_the_name_in_authentication_results_is_read_or_not_believed(value: str, name: str | None) -> None:
    assert results_name(value.encode()) == name


@pytest.mark.parametrize("domain", ["example.org", "EXAMPLE.org", "sub.example.org", "a.b.example.org"])
def test_a_signature_of_ours_goes(domain: str) -> None:
    assert to_remove([Claim(SIGNATURE, 1, signature(domain))], OURS)


@pytest.mark.parametrize("domain", ["elsewhere.example", "org", "notexample.org", "example.org.evil.example"])
def test_a_signature_of_somebody_else_stays(domain: str) -> None:
    assert signed_by(signature(domain)) == domain
    assert not to_remove([Claim(SIGNATURE, 1, signature(domain))], OURS)


MALFORMED = {
    "empty": b"",
    "no tag list": b"v=1; nonsense",
    "no version": signature().replace(b"v=1; ", b""),
    "version 2": signature().replace(b"v=1", b"v=2"),
    "a tag twice": signature() + b"; d=elsewhere.example",
    "an empty tag": signature().replace(b"s=k1;", b"s=k1;;"),
    "no name": signature() + b"; =x",
    "no h": signature().replace(b"h=", b"hh="),
    "From not signed": signature().replace(b"From:", b""),
    "no bh": signature().replace(b"bh=", b"bx="),
    "no base64": signature().replace(b"QUJD", b"Q*JD"),
    "cut base64": signature().replace(b"REVG", b"REV"),
    "rsa-sha1": signature().replace(b"sha256", b"sha1"),
    "no domain": signature().replace(b"elsewhere.example", b""),
    "strange domain": signature().replace(b"elsewhere.example", b"else where"),
    "two domains": signature().replace(b"elsewhere.example", b"a.example,b.example"),
    "no selector": signature().replace(b"k1", b""),
    "strange canonicalization": signature().replace(b"relaxed/simple", b"nofws"),
    "expires before it was made": signature().replace(b"x=18", b"x=16"),
    "time is no number": signature().replace(b"t=17", b"t=-17"),
    "length is no number": signature() + b"; l=1e9",
    "foreign identity": signature() + b"; i=@evilelsewhere.example",
    "not ASCII": signature() + b"; n=\xe9",
    "control": signature() + b"; n=\x01",
    "huge": signature() + b"; n=" + b"x" * 5000,
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_signature_that_does_not_parse_goes(value: bytes) -> None:
    assert signed_by(value) is None
    assert to_remove([Claim(SIGNATURE, 1, value)], OURS)


def test_they_go_from_the_last_to_the_first() -> None:
    claims = [Claim(RESULTS, number, b" mx1.example.org; x") for number in range(1, 4)]
    claims += [Claim(SIGNATURE, 1, signature()), Claim(SIGNATURE, 2, b"broken")]
    found = [(claim.name, claim.number) for claim in to_remove(claims, OURS)]
    assert found == [(RESULTS, 3), (RESULTS, 2), (RESULTS, 1), (SIGNATURE, 2)]


@pytest.mark.parametrize(
    "value", [b"(" * 4000, b"a=" + b" " * 4000 + b"\x01", b"=;" * 2000, b"s=" + b"-" * 4000]
)
def test_no_field_takes_long(value: bytes) -> None:
    began = time.thread_time()  # of this thread alone, on however busy a machine
    to_remove([Claim(RESULTS, 1, value), Claim(SIGNATURE, 1, value)] * 60, OURS)
    assert time.thread_time() - began < 2


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_not_believed(value: bytes) -> None:
    results_name(value)
    signed_by(value)
