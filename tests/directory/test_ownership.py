"""Who owns which address. The first table is the one measured on Postfix 3.7.11, row by row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.address import Malformed, Rules, domain_of, parse, parse_domain
from directory.identity import Principal
from directory.ownership import Listing, expand, owns

FOLDING = Rules()
PLUS = Rules(recipient_delimiter="+")
ALIASES = {"example.org": ("example.net",)}


def principal_of(listing, *, aliases=ALIASES, rules=FOLDING, **values):
    grants = expand(listing, aliases, rules)
    return Principal("login", "alice", {**grants.shared, **grants.own}, grants.any, grants.domain, **values)


def verdict(principal, text, rules=FOLDING):
    """The enhanced code that policyd answers with, or what grants the address."""
    try:
        address = parse(text, rules)
    except Malformed:
        return "5.1.7"
    return "allow" if owns(principal, address, rules) else "5.7.1"


# MAIL FROM as a client sends it, what Postfix hands to us for it, our verdict.
MEASURED = [
    ("<alice@EXAMPLE.com>", "alice@EXAMPLE.com", "allow"),
    ("<ALICE@Example.COM>", "ALICE@Example.COM", "allow"),
    ('<"alice"@example.com>', "alice@example.com", "allow"),
    ('<"al\\ice"@example.com>', "alice@example.com", "allow"),
    ('<"ceo@victim.example"@example.com>', "ceo@victim.example@example.com", "5.1.7"),
    ('<"ceo@victim.example">', "ceo@victim.example", "5.7.1"),
    ("<ceo%victim.example>", "ceo%victim.example", "5.1.7"),
    ("<victim.example!ceo>", "victim.example!ceo", "5.1.7"),
    ("<ceo>", "ceo", "5.1.7"),
    ("<ceo%victim.example@example.com>", "ceo%victim.example@example.com", "5.7.1"),
    ("<victim.example!ceo@example.com>", "victim.example!ceo@example.com", "5.7.1"),
    ("<@a.example,@b.example:alice@example.com>", "alice@example.com", "allow"),
    ("<alice+x@example.com>", "alice+x@example.com", "5.7.1"),
    ("<alice@example.com.>", "alice@example.com.", "allow"),
    ("<alice@[127.0.0.1]>", "alice@[127.0.0.1]", "5.7.1"),
    ("<>", "", "5.7.1"),
    ('<""@example.com>', "@example.com", "5.1.7"),
    ("<@example.com>", "@example.com", "5.1.7"),
    ("<alice @ example.com>", "alice@example.com", "allow"),
    ("CR before the @", "alice@example.com", "allow"),
    ("NUL in the local part", "al\x00ice@example.com", "5.1.7"),
    ("TAB in the local part", "al\tice@example.com", "5.1.7"),
    ("ESC in the local part", "al\x1bice@example.com", "5.1.7"),
    ("byte 0xFF", "alice\udcff@example.com", "5.1.7"),
    ("Cyrillic a in the local part", "\u0430lice@example.com", "5.7.1"),
    ("Cyrillic letter in the domain", "alice@ex\u0430mple.com", "5.7.1"),
    ("the xn-- form of the same", "alice@xn--exmple-4nf.com", "5.7.1"),
    ("U+3002 for a dot", "alice@example\u3002com", "5.1.7"),
    ("subdomain", "alice@sub.example.com", "5.7.1"),
    ("parent domain", "alice@com", "5.7.1"),
    ("suffix of the text", "alice@notexample.com", "5.7.1"),
]


@pytest.mark.parametrize(("sent", "seen", "expected"), MEASURED, ids=[row[0] for row in MEASURED])
def test_measured_envelope_senders_are_judged(sent, seen, expected):
    alice = principal_of(Listing("login alice", ("alice@example.com",)))
    assert verdict(alice, seen) == expected


def test_unicode_and_ascii_form_of_a_domain_are_owned_alike():
    for listed in ("alice@пример.рф", "alice@xn--e1afmkfd.xn--p1ai"):
        alice = principal_of(Listing("login alice", (listed,)))
        for used in ("alice@пример.рф", "alice@XN--e1afmkfd.xn--p1ai", "ALICE@Пример.рф."):
            assert verdict(alice, used) == "allow"


def test_mailbox_and_alias_stand_at_the_domain_and_its_aliases():
    alice = principal_of(Listing("login alice", ("alice@example.org",), ("alice_lastname",)))
    assert list(alice.addresses.items()) == [
        ("alice@example.org", "mailbox alice of login alice at example.org"),
        ("alice@example.net", "mailbox alice of login alice at example.net, alias of example.org"),
        ("alice_lastname@example.org", "alias alice_lastname of login alice at example.org"),
        (
            "alice_lastname@example.net",
            "alias alice_lastname of login alice at example.net, alias of example.org",
        ),
    ]
    assert alice.domain == "example.org"
    assert verdict(alice, "alice_lastname@gmail.example") == "5.7.1"


def test_mailbox_at_an_alias_domain_stands_there_only():
    alice = principal_of(Listing("login alice", ("alice@example.net",)))
    assert list(alice.addresses) == ["alice@example.net"]


def test_bare_alias_stands_at_the_domain_of_every_mailbox():
    alice = principal_of(Listing("login alice", ("alice@example.org", "a@example.com"), ("al",)))
    assert {a for a in alice.addresses if a.startswith("al@")} == {
        "al@example.org",
        "al@example.net",
        "al@example.com",
    }


def test_full_alias_stands_at_its_own_domain_and_its_aliases():
    alice = principal_of(Listing("login alice", (), ("sales@example.org",)))
    assert list(alice.addresses) == ["sales@example.org", "sales@example.net"]


def test_shared_address_stands_exactly_where_it_is_written():
    alice = principal_of(Listing("login alice", ("alice@example.org",), shared=("Info@Example.org",)))
    assert alice.addresses["info@example.org"] == "shared address info@example.org of login alice"
    assert verdict(alice, "info@example.net") == "5.7.1"


def test_whole_domain_is_owned_with_its_aliases_and_nothing_around_it():
    alice = principal_of(Listing("login alice", domains={"example.org": "any"}))
    assert owns(alice, "anyone@example.org", FOLDING) == "domain example.org (any) of login alice"
    assert verdict(alice, "anyone@example.net") == "allow"
    assert verdict(alice, "anyone@sub.example.org") == "5.7.1"
    assert verdict(alice, "anyone@org") == "5.7.1"
    assert alice.domain == "example.org"


@pytest.mark.parametrize("text", ["ceo%victim.example@example.org", "victim.example!ceo@example.org"])
def test_percent_and_bang_forms_are_owned_by_an_exact_entry_only(text):
    assert verdict(principal_of(Listing("login alice", domains={"example.org": "any"})), text) == "5.7.1"
    assert verdict(principal_of(Listing("login alice", (text,))), text) == "allow"


def test_percent_form_in_an_extension_is_not_owned():
    alice = principal_of(Listing("login alice", ("alice@example.org",)))
    assert verdict(alice, "alice+ceo%victim.example@example.org", PLUS) == "5.7.1"


def test_extension_is_owned_where_its_base_is():
    alice = principal_of(Listing("login alice", ("alice@example.org",)))
    words = owns(alice, "alice+x@example.net", PLUS)
    assert words == (
        "mailbox alice of login alice at example.net, alias of example.org, with an address extension"
    )
    assert verdict(alice, "alice+x@example.com", PLUS) == "5.7.1"
    assert verdict(alice, "alicex@example.org", PLUS) == "5.7.1"


def test_null_sender_is_owned_by_nobody_and_allowed_to_some():
    listing = Listing("login alice", ("alice@example.org",), domains={"example.com": "any"})
    assert owns(principal_of(listing), "", FOLDING) is None
    assert owns(principal_of(listing, null_sender=True), "", FOLDING) == "null_sender of login alice"


def test_domain_literal_is_owned_by_nobody():
    with pytest.raises(Malformed):
        expand(Listing("login alice", ("alice@[127.0.0.1]",)), {}, FOLDING)
    alice = Principal("login", "alice", {"alice@[127.0.0.1]": "a mistake"}, {"[127.0.0.1]": "another"})
    assert owns(alice, "alice@[127.0.0.1]", FOLDING) is None


@pytest.mark.parametrize(
    "listing",
    [
        Listing("login alice", ("",)),
        Listing("login alice", ("alice",)),
        Listing("login alice", (), ("bare",)),
        Listing("login alice", ("alice@example.org",), ("",)),
        Listing("login alice", shared=("info",)),
        Listing("login alice", ("alice@example.org",), ("a@b@c",)),
        Listing("login alice", ("*@example.org",)),
        Listing("login alice", domains={"*.example.org": "any"}),
    ],
)
def test_entry_that_is_no_address_is_malformed(listing):
    with pytest.raises(Malformed):
        expand(listing, ALIASES, FOLDING)


LOCALS = st.sampled_from(["alice", "bob", "a.b", "alice+x", "ceo%x", "x!ceo", "ü"])
DOMAINS = st.sampled_from(
    ["example.org", "example.net", "sub.example.org", "org", "victim.example", "bücher.example"]
)
ADDRESSES = st.builds("{}@{}".format, LOCALS, DOMAINS)


@given(
    st.lists(ADDRESSES, max_size=3),
    st.lists(ADDRESSES, max_size=3),
    st.dictionaries(DOMAINS, st.sampled_from(["any", "listed"]), max_size=2),
    ADDRESSES,
    st.booleans(),
)
def test_address_of_another_domain_is_never_owned(mailboxes, shared, domains, used, plus):
    rules = PLUS if plus else FOLDING
    listing = Listing("login alice", tuple(mailboxes), shared=tuple(shared), domains=domains)
    alice = principal_of(listing, rules=rules)
    listed = {domain_of(parse(text, rules)) for text in mailboxes} | {
        parse_domain(domain) for domain in domains
    }
    reach = listed | {other for domain in listed for other in ALIASES.get(domain, ())}
    reach |= {domain_of(parse(text, rules)) for text in shared}
    if owns(alice, parse(used, rules), rules):
        assert domain_of(parse(used, rules)) in reach
