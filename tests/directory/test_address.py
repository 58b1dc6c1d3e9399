"""Addresses in normal form: tables that anyone can extend, and properties that hold for any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.address import (
    Malformed,
    Rules,
    domain_of,
    is_literal,
    is_routed,
    parse,
    parse_domain,
    without_extension,
)

FOLDING = Rules()
EXACT = Rules(fold_local_part=False)
LABEL = "a" * 63

# Each line: what arrives, its normal form.
SAME = [
    ("alice@example.com", "alice@example.com"),
    ("ALICE@Example.COM", "alice@example.com"),
    ("alice@example.com.", "alice@example.com"),
    ("a b@example.com", "a b@example.com"),
    ("ceo%victim.example@example.com", "ceo%victim.example@example.com"),
    ("victim.example!ceo@example.com", "victim.example!ceo@example.com"),
    ("alice@[127.0.0.1]", "alice@[127.0.0.1]"),
    ("alice@[IPv6:2001:DB8::1]", "alice@[ipv6:2001:db8::1]"),
    ("alice@_spf.under_score.example", "alice@_spf.under_score.example"),
    ("alice@localhost", "alice@localhost"),
    ("alice@192.0.2.1", "alice@192.0.2.1"),
    ("alice@пример.рф", "alice@xn--e1afmkfd.xn--p1ai"),
    ("alice@ПРИМЕР.РФ", "alice@xn--e1afmkfd.xn--p1ai"),
    ("alice@xn--e1afmkfd.xn--p1ai", "alice@xn--e1afmkfd.xn--p1ai"),
    ("alice@XN--E1AFMKFD.xn--P1AI", "alice@xn--e1afmkfd.xn--p1ai"),
    ("alice@faß.example", "alice@xn--fa-hia.example"),
    ("alice@bu\u0308cher.example", "alice@xn--bcher-kva.example"),
    ("alice@b\u00fccher.example", "alice@xn--bcher-kva.example"),
    # A Greek capital sigma is a sigma, not the final one that str.lower() would make of it.
    ("alice@ΟΔΟΣ.gr", "alice@xn--pxavbq.gr"),
    ("\u0430lice@example.com", "\u0430lice@example.com"),  # Cyrillic a: no confusable folding
    ("Jose\u0301@example.com", "jos\u00e9@example.com"),
    ("İpek@example.com", "i\u0307pek@example.com"),  # dotted capital I: an i with a dot, and not ipek@
    ("ılgaz@example.com", "ılgaz@example.com"),  # dotless i is no i
    ("STRASSE@example.com", "strasse@example.com"),
    ("stra\u00dfe@example.com", "stra\u00dfe@example.com"),  # casefold() would make strasse of it
    ("\u212aevin@example.com", "kevin@example.com"),  # the Kelvin sign is K by Unicode's own equivalence
    ("owner-list+x@example.com", "owner-list+x@example.com"),
    ("a" * 255 + "@example.com", "a" * 255 + "@example.com"),
    (f"a@{LABEL}.{LABEL}.{LABEL}.{'b' * 61}", f"a@{LABEL}.{LABEL}.{LABEL}.{'b' * 61}"),
    ("", ""),
]

NO_ADDRESS = [
    "alice",
    "ceo%victim.example",
    "victim.example!ceo",
    "@",
    "@example.com",
    "alice@",
    "alice@.",
    "ceo@victim.example@example.com",
    "alice@@example.com",
    "@a.example,@b.example:alice@example.com",
    "alice@example..com",
    "alice@.example.com",
    "alice@example.com..",
    "alice@exam ple.com",
    "alice@-example.com",
    "alice@example-.com",
    "alice@example.com\n",
    "alice\n@example.com",
    "al\x00ice@example.com",
    "al\tice@example.com",
    "al\x1bice@example.com",
    "al\x7fice@example.com",
    "al\x85ice@example.com",
    "al\u2028ice@example.com",
    "al\udcffice@example.com",  # byte 0xff, decoded with surrogateescape
    "alice@exam\udcffple.com",
    "alice@example\u3002com",  # the ideographic full stop: IDNA would make a dot of it
    "alice@example\uff0ecom",
    "alice@ｅｘａｍｐｌｅ.com",
    "alice@xn--e1afmkfd.рф",  # mixed forms
    "alice@xn--рф.example",
    "alice@xn--a.example",
    "alice@xn--.example",
    "alice@xn--example-.com",
    "alice@exam\u200dple.com",
    "alice@[127.0.0.1",
    "alice@[]",
    "alice@[127.0.0.1].",
    "alice@[a b]",
    "alice@[[x]]",
    "a" * 256 + "@example.com",
    "ä" * 128 + "@example.com",
    f"a@{LABEL}.{LABEL}.{LABEL}.{'b' * 62}",
    f"a@{'b' * 64}.example",
    "a@" + "ü" * 200,
    "a" * 1_000_000 + "@example.com",
    "a@" + "b." * 1_000_000,
    "@" * 100_000,
]


@pytest.mark.parametrize(("text", "normal"), SAME)
def test_each_spelling_has_one_normal_form(text, normal):
    assert parse(text, FOLDING) == normal


@pytest.mark.parametrize("text", NO_ADDRESS, ids=lambda text: ascii(text[:40]))
def test_what_is_no_address_is_malformed(text):
    with pytest.raises(Malformed) as wrong:
        parse(text, FOLDING)
    assert str(wrong.value).isascii()


def test_local_part_keeps_its_case_when_the_setting_says_so():
    assert parse("Alice@EXAMPLE.com", EXACT) == "Alice@example.com"
    assert parse("ÄLICE@example.com", EXACT) == "ÄLICE@example.com"


@given(st.text() | st.text(alphabet="aZ%!@.-xnßİıΣς\u3002\u0308ü[]_+ ", max_size=30))
def test_any_text_is_an_address_or_malformed(text):
    for rules in (FOLDING, EXACT):
        try:
            normal = parse(text, rules)
        except Malformed:
            continue
        assert parse(normal, rules) == normal
        assert normal.count("@") == (1 if text else 0)
        assert domain_of(normal).isascii()


@given(
    st.text(alphabet="aZ%!.-xßİıΣςIiſKÅ\u0308ü_+ ", min_size=1, max_size=20),
    st.sampled_from(["example.com", "пример.рф", "xn--e1afmkfd.xn--p1ai", "[192.0.2.1]"]),
)
def test_parsing_a_normal_form_changes_nothing(local, domain):
    normal = parse(f"{local}@{domain}", FOLDING)
    assert parse(normal, FOLDING) == normal
    assert domain_of(normal) == parse(f"x@{domain}", FOLDING)[2:]


@given(st.text())
def test_any_text_is_a_domain_or_malformed(text):
    try:
        domain = parse_domain(text)
    except Malformed:
        return
    assert parse_domain(domain) == domain
    assert parse(f"alice@{text}", FOLDING) == f"alice@{domain}"


@pytest.mark.parametrize("text", ["", ".", "[127.0.0.1]", "a@b", "exam ple", "*.example.org", ".example.org"])
def test_settings_name_no_such_domain(text):
    with pytest.raises(Malformed):
        parse_domain(text)


@pytest.mark.parametrize(
    ("address", "delimiter", "base"),
    [
        ("alice+x@example.com", "+", "alice@example.com"),
        ("alice+x+y@example.com", "+", "alice@example.com"),
        ("alice-x+y@example.com", "+-", "alice@example.com"),
        ("alice+@example.com", "+", "alice@example.com"),
        ("alice@example.com", "+", None),
        ("+x@example.com", "+", None),
        ("alice+x@example.com", "", None),
        ("alice+x@example.com", "-", None),
        ("owner-list@example.com", "-", None),
        ("list-request@example.com", "-", None),
        ("mailer-daemon@example.com", "-", None),
        ("double-bounce@example.com", "-", None),
    ],
)
def test_extension_is_cut_where_postfix_cuts_it(address, delimiter, base):
    assert without_extension(address, Rules(recipient_delimiter=delimiter)) == base


@pytest.mark.parametrize("delimiter", ["@", "a", " ", "++++++++++", "ü", "\n", '"'])
def test_delimiter_that_would_cut_anything_is_refused(delimiter):
    with pytest.raises(ValueError, match="recipient_delimiter"):
        Rules(recipient_delimiter=delimiter)


def test_literals_and_routed_forms_are_known_as_such():
    assert is_literal("alice@[127.0.0.1]")
    assert not is_literal("alice@example.com")
    assert is_routed("ceo%victim.example@example.com")
    assert is_routed("victim.example!ceo@example.com")
    assert not is_routed("ceo@example.com")
