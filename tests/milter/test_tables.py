"""KeyTable and SigningTable as OpenDKIM searches them; one test asks OpenDKIM itself."""

import pytest

from milter.tables import TableError, parse_tables

KEYS = """# name  domain:selector:path
example.org  example.org:s1:/keys/a.private   # ours

own          %:s1:/keys/b.private
other        Example.NET:s1:/keys/c.private
idn          xn--bcher-kva.example:s1:/keys/d.private
"""
SIGNS = """*@example.org    example.org
bob@*.example   own:@%
*@other.example  other
*@xn--bcher-kva.example idn
*@bücher.example idn
*@Upper.example own
"""
TABLES = parse_tables(KEYS, SIGNS)


@pytest.mark.parametrize(
    ("author", "domain"),
    [
        ("alice@example.org", "example.org"),
        ("Alice@EXAMPLE.Org", "example.org"),
        ("alice@example.org.evil", None),
        ("alice@sub.example.org", None),
        ("alice@exampleXorg", None),
        ("bob@a.example", "a.example"),
        ("BOB@A.B.example", "a.b.example"),
        ("alice@a.example", None),
        ("x@other.example", "example.net"),
        ("a@xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a@bücher.example", "xn--bcher-kva.example"),
        ("a@upper.example", "upper.example"),
        ("x@nowhere.example", None),
        ("", None),
    ],
)
def test_the_first_pattern_that_matches_tells_the_signing_domain(author: str, domain: str | None) -> None:
    assert TABLES.signing_domain(author) == domain


def test_the_order_of_lines_decides() -> None:
    tables = parse_tables("a a.example:s:/k\nb b.example:s:/k\n", "*@x.example b\nme@x.example a\n")
    assert tables.signing_domain("me@x.example") == "b.example"


@pytest.mark.parametrize(
    ("keys", "signs", "message"),
    [
        ("k a.example:s\n", "", "KeyTable:1: 'k' needs domain:selector:path"),
        ("k a.example:s:\n", "", "KeyTable:1: 'k' needs domain:selector:path"),
        ("k :s:/p\n", "", "KeyTable:1: 'k' needs domain:selector:path"),
        ("k a.example:s:/a:b\n", "", "KeyTable:1: 'k' needs domain:selector:path"),
        ("k\n", "", "KeyTable:1: 1 words where two belong"),
        ("k a.example : s : /p\n", "", "KeyTable:1: 6 words where two belong"),
        ("\n k a.example:s:/p\n", "", "KeyTable:2: starts with a blank"),
        ("k a.example:s:/p\nk b.example:s:/p\n", "", "KeyTable:2: 'k' stands here for the second time"),
        ("k a..example:s:/p\n", "", "KeyTable:1: 'a..example' is no domain"),
        ("", "*@a.example\n", "SigningTable:1: 1 words where two belong"),
        ("", "*@a.example k\n", "SigningTable:1: there is no key 'k' in the KeyTable"),
        ("k a.example:s:/p\n", "*@a.example k extra\n", "SigningTable:1: 3 words where two belong"),
        ("k a.example:s:/p\n", "\t*@a.example k\n", "SigningTable:1: starts with a blank"),
        ("k a.example:s:/p\n", "*@a.example :x\n", "SigningTable:1: there is no key ''"),
        ("k a.example:s:k.private\n", "", "KeyTable:1: 'k.private' is no path"),
        ("k a.example:s/x:/p\n", "", "KeyTable:1: 's/x' is no selector"),
        ("k a.example:-s:/p\n", "", "KeyTable:1: '-s' is no selector"),
        ("k a.example:sé:/p\n", "", "KeyTable:1: 'sé' is no selector"),
        ("k a.example:s..x:/p\n", "", "KeyTable:1: 's..x' is no selector"),
        ("k bücher.example:s:/p\n", "", "KeyTable:1: OpenDKIM aborts on 'bücher.example': write xn--bcher"),
        ("k a.example.:s:/p\n", "", "KeyTable:1: the dot at the end of 'a.example.' goes into d="),
        ("\ufeffk a.example:s:/p\n", "", "KeyTable:1: begins with a byte order mark"),
        ("k a.example:s:/p\n", "\ufeff*@a.example k\n", "SigningTable:1: begins with a byte order mark"),
        ("k a.example:s:/p\n", "*@a.example k:%\n", "SigningTable:1: after k: comes an address for i="),
        ("k a.example:s:/p\n", "*@a.example k:x@ü.example\n", "SigningTable:1: 'x@ü.example' cannot stand"),
        ("k a.example:s:/p\n", "a.example k\n", "SigningTable:1: 'a.example' matches no address"),
        ("k a.example:s:/p\n", "@a.example k\n", "SigningTable:1: '@a.example' matches no address"),
        (
            "k a.example:s:/p\n",
            "*@a.example\u00a0k\n",
            "SigningTable:1: has '\\xa0', which OpenDKIM takes for no blank",
        ),
        ("k\u2003a.example:s:/p\n", "", "KeyTable:1: has '\\u2003', which OpenDKIM takes for no blank"),
        ("k a.example:s:/p\n", f"*@a k:{'s' * 252}@a.a\n", "SigningTable:1: the address for i= is longer"),
        ("k a.example:s:/p\n", "a{b@a.example k\n", "SigningTable:1: OpenDKIM takes { in"),
        ("k a.example:s:/p\n", "?@a.example k\n", "SigningTable:1: OpenDKIM takes ? in"),
        ("k a.example:s:/" + "p" * 1000 + "\n", "", "KeyTable:1: is longer than 1000 octets"),
        ("k a.example:s:/p\n", "# " + "c" * 1000 + "\n", "SigningTable:1: is longer than 1000 octets"),
    ],
)
def test_a_line_that_cannot_be_right_is_an_error_with_its_place(keys: str, signs: str, message: str) -> None:
    with pytest.raises(TableError) as wrong:
        parse_tables(keys, signs)
    assert str(wrong.value).startswith(message)


def test_every_mistake_is_told_once() -> None:
    with pytest.raises(TableError) as wrong:
        parse_tables("k a..example:s:/p\nj\n", "*@a k\n*@b j\n*@c i\n*@d\n")
    assert [mistake.partition(": ")[0] for mistake in wrong.value.mistakes] == [
        "KeyTable:1",
        "KeyTable:2",
        "SigningTable:3",
        "SigningTable:4",
    ]


def test_a_key_that_stands_in_the_table_itself_is_taken() -> None:
    tables = parse_tables(f"k a.example:s:MII{'A' * 400}==\n", "*@a.example k\n")
    assert tables.signing_domain("x@a.example") == "a.example"


def test_empty_tables_sign_nothing() -> None:
    assert parse_tables("", "# nothing\n\n").signing_domain("a@example.org") is None


def test_a_pattern_of_many_stars_is_quick() -> None:
    tables = parse_tables("k a.example:s:/p\n", "*" * 500 + "@x k\n")
    assert tables.signing_domain("a" * 500 + "@y") is None
