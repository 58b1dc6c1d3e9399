"""Templates of filters and names, and what is put into them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.operation.search import parse_filter
from ldap3.protocol.convert import prepare_filter_for_sending
from ldap3.utils.dn import parse_dn

from directory.filters import check_dn, check_filter, escape_rdn, escape_value, fill_dn, fill_filter

GOOD = [
    "(uid={login})",
    "(&(objectClass=person)(|(uid={login})(mail={login})(mail={local}@{domain})))",
    "(!(a=b))",
    "(memberOf:1.2.840.113556.1.4.1941:=cn=x,dc=y)",
    "(uid=*)",
    "(cn;lang-de=\\2a)",
    "(age>=3)",
]
BAD = [
    "",
    "uid={login}",
    "(uid={login}",
    "(uid={login}))",
    "(uid={login})(b=c)",
    "()",
    "(&)",
    "(!(a=b)(c=d))",
    "(uid={user})",
    "(uid={})",
    "(uid={login)",
    "({login}=x)",
    "(uid=a(b)",
    "(uid=\\zz)",
    "(uid=\0)",
    "(" * 50 + "a=b" + ")" * 50,
    "(&" * 50 + "(a=b)" + ")" * 50,
]


@pytest.mark.parametrize("text", GOOD)
def test_a_good_filter_is_taken(text):
    assert check_filter(text, ("login", "local", "domain")) == text


@pytest.mark.parametrize("text", BAD)
def test_a_broken_filter_is_refused_when_the_settings_are_read(text):
    with pytest.raises(ValueError):
        check_filter(text, ("login", "local", "domain"))


@pytest.mark.parametrize("text", ["uid={login},ou=people,dc=example", "cn={local} x,dc=a"])
def test_a_good_name_is_taken(text):
    assert check_dn(text, ("login", "local"))


@pytest.mark.parametrize("text", ["", "{login}", "uid={user},dc=x", "uid=a,,dc=x", "uid=a\\,b", "=x"])
def test_a_broken_name_is_refused(text):
    with pytest.raises(ValueError):
        check_dn(text, ("login",))


@pytest.mark.parametrize(
    ("template", "values", "filled"),
    [
        ("(x={groups})", ("a",), "(|(x=a))"),
        ("(&(m=*)(|(x={dn})(y={groups})))", ("a*", "b)"), "(&(m=*)(|(x=d)(|(y=a\\2a)(y=b\\29))))"),
        ("(!(y={groups}))", ("a", "b"), "(!(|(y=a)(y=b)))"),
        ("(y={groups})", "one", "(y=one)"),
    ],
)
def test_a_term_with_several_values_is_written_for_each(template, values, filled):
    assert fill_filter(template, {"dn": "d", "groups": values}) == filled
    assert check_filter(filled, ()) == filled


@given(st.text(max_size=40))
def test_no_value_changes_the_form_of_a_filter(text):
    filled = fill_filter("(&(objectClass=person)(uid={login}))", {"login": text})
    tree = parse_filter(filled, None, True, False, None, False).elements[0]
    assert len(tree.elements) == 2
    node = tree.elements[1]
    assert node.assertion["attr"] == "uid"
    sent = prepare_filter_for_sending(node.assertion["value"])
    assert sent == text.encode("utf-8", "surrogateescape")


@given(st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()))
def test_no_value_changes_the_form_of_a_name(text):
    parts = parse_dn(fill_dn("uid={login},dc=example", {"login": text}))
    assert [part[0] for part in parts] == ["uid", "dc"]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a*b", "a\\2ab"),
        ("a(b)\\", "a\\28b\\29\\5c"),
        ("\0", "\\00"),
        ("ä", "\\c3\\a4"),
        ("plain@x.org", "plain@x.org"),
    ],
)
def test_a_value_is_escaped(text, escaped):
    assert escape_value(text) == escaped


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a,b", "a\\2cb"),
        ("#a", "\\23a"),
        (" a ", "\\20a\\20"),
        ("a+b=c", "a\\2bb\\3dc"),
        ("\0", "\\00"),
        (" ", "\\20"),
    ],
)
def test_a_part_of_a_name_is_escaped(text, escaped):
    assert escape_rdn(text) == escaped
