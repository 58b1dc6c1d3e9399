"""The From grammar, held to two tables that anyone can extend and to Python's parser."""

import re
import time
from contextlib import suppress
from email.headerregistry import HeaderRegistry

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from directory.address import Malformed, Rules, parse
from directory.identity import Principal
from directory.ownership import owns
from milter.author import FIELD_MAX, Unparsable, parse_mailbox
from milter.replies import FAULTS
from tests.milter.fields import HOSTILE, ORDINARY, Row

RULES = Rules()
OWN = (
    "alice@example.org",
    "alice@example.net",
    "alice@bücher.example",
    "rené@example.org",
    "alice_lastname@example.org",
)
ALICE = Principal("login", "alice", addresses={parse(text, RULES): "mailbox" for text in OWN})


def judged(value: bytes) -> str:
    """``owned``, or why not, in the words of the table."""
    try:
        address = parse(parse_mailbox(value).address, RULES)
    except Unparsable as wrong:
        return wrong.fault
    except Malformed:
        return "malformed"
    return "owned" if owns(ALICE, address, RULES) else "not_owned"


def test_the_tables_are_as_long_as_they_should_be() -> None:
    assert len(HOSTILE) >= 60
    assert len(ORDINARY) >= 30


def test_each_hostile_field_says_where_it_is_from() -> None:
    provenance = re.compile(r"RFC [0-9]+|CVE-[0-9]|VU#[0-9]|USENIX")
    assert not [row for row in HOSTILE if not provenance.search(row.source)]


@pytest.mark.parametrize("row", HOSTILE, ids=lambda row: f"{row.expected}: {row.source[:50]}")
def test_a_hostile_from_is_refused_for_its_own_reason(row: Row) -> None:
    assert judged(row.value) == row.expected


@pytest.mark.parametrize("row", ORDINARY, ids=lambda row: row.source)
def test_what_ordinary_programs_write_passes(row: Row) -> None:
    assert parse_mailbox(row.value).address == row.expected
    assert judged(row.value) == "owned"


def test_each_fault_that_can_be_found_has_words_for_the_sender() -> None:
    found = {row.expected for row in HOSTILE} - {"not_owned", "malformed"}
    assert found | {"misleading_name"} == set(FAULTS)


@pytest.mark.parametrize("row", [row for row in HOSTILE if len(row.value) > 9000], ids=lambda row: row.source)
def test_a_huge_from_is_refused_at_once(row: Row) -> None:
    began = time.thread_time()  # of this thread alone, on however busy a machine
    assert judged(row.value) == "too_long"
    assert time.thread_time() - began < 0.5


@given(st.text(alphabet='<>()",;:@.\\ a=?\t[]', max_size=FIELD_MAX))
@settings(max_examples=300, deadline=5000)  # one that backtracks takes for ever
def test_no_field_takes_long(text: str) -> None:
    judged(text.encode())


@given(st.binary(max_size=400))
def test_any_bytes_are_a_mailbox_or_refused(value: bytes) -> None:
    judged(value)


# -- names that mislead

MISLEADING = [
    b'"admin@example.com" <alice@example.org>',
    b"=?utf-8?q?Admin_=3Cadmin=40example=2Ecom=3E?= <alice@example.org>",
    "Alice\u202e <alice@example.org>".encode(),
    "\u200bAlice <alice@example.org>".encode(),
    b"=?utf-8?b?4oCuYQ==?= <alice@example.org>",
    b"=?no-such-charset?q?a?= <alice@example.org>",
    b"=?utf-8?b?####?= <alice@example.org>",
    "=?utf-8?b?\u00e9?= <alice@example.org>".encode(),
    "=?utf-8?q?\u00e9?= <alice@example.org>".encode(),
    "=?\u00e9?q?a?= <alice@example.org>".encode(),
    b"=?hex?b?YQ==?= <alice@example.org>",
    b"=?utf-8?q?=FF?= <alice@example.org>",
    b"alice@example.org (=?utf-8?q?admin=40example=2Ecom?=)",
    b'"alice@example.org.evil.example" <alice@example.org>',
    b'"admin@example.com via alice@example.org" <alice@example.org>',
    b'"xalice@example.org" <alice@example.org>',
    b'"alice@example.org@example.com" <alice@example.org>',
    b'"Alice @ Example" <alice@example.org>',
    "admin\uff20example.com <alice@example.org>".encode(),
    "admin\ufe6bexample.com <alice@example.org>".encode(),
]
#: Names that hold the very address they stand before, as Outlook writes them.
OWN_NAMES = [
    b'"alice@example.org" <alice@example.org>',
    b"\"'Alice@Example.org'\" <alice@example.org>",
    b'"Alice (alice@example.org)" <alice@example.org>',
    b"=?utf-8?q?alice=40example=2Eorg?= <alice@example.org>",
    b'"alice@example.org" <ALICE@example.org>',
]


@pytest.mark.parametrize("value", MISLEADING)
def test_a_misleading_name_passes_unless_names_are_strict(value: bytes) -> None:
    assert parse_mailbox(value).address == "alice@example.org"
    with pytest.raises(Unparsable, match="misleading_name"):
        parse_mailbox(value, strict=True)


@given(st.text(max_size=12), st.sampled_from("bBqQ"), st.text(max_size=40))
def test_any_encoded_name_misleads_or_does_not(charset: str, encoding: str, text: str) -> None:
    for word in (f"=?{charset}?{encoding}?{text}?=", f"=?utf-8?{encoding}?{text}?="):
        value = f"{word} <alice@example.org>".encode("utf-8", "surrogatepass")
        with suppress(Unparsable):
            assert parse_mailbox(value, strict=True).address == "alice@example.org"


@pytest.mark.parametrize("value", OWN_NAMES)
def test_a_name_that_holds_its_own_address_misleads_nobody(value: bytes) -> None:
    assert parse_mailbox(value, strict=True).address.lower() == "alice@example.org"


@pytest.mark.parametrize("row", ORDINARY, ids=lambda row: row.source)
def test_ordinary_names_pass_strict_too(row: Row) -> None:
    assert parse_mailbox(row.value, strict=True).address == row.expected


# -- the partner: where headerregistry sees no defect and one address, and we accept, both must see the same

PIECES = st.sampled_from(
    [
        "alice@example.org",
        "admin@example.com",
        "<alice@example.org>",
        "<",
        ">",
        "Alice",
        "Q.",
        '"A, B"',
        '"',
        " ",
        "\t",
        ",",
        ";",
        ":",
        "@",
        "(x)",
        "(",
        ")",
        "=?utf-8?q?A?=",
        "=?utf-8?q?a=40b?=",
        "\\",
        ".",
        "é",
        "[1]",
    ]
)
REGISTRY = HeaderRegistry()
#: Defects of theirs that we accept on purpose, all of them matters of display: a dot in a name, UTF-8 in a
#: local part, encoded words in quotes or without blanks around them.
ACCEPTED = (
    "period in 'phrase'",
    "comment found without atom",
    "local-part contains non-ASCII characters",
    "encoded word inside quoted string",
    "whitespace after encoded-word",
    "whitespace before encoded word",
)


def theirs(text: str) -> list[str] | None:
    """The addresses that headerregistry reads; None when it sees a defect."""
    header = REGISTRY("From", text)
    if any(not any(words in str(defect) for words in ACCEPTED) for defect in header.defects):
        return None
    return [address.addr_spec for address in header.addresses]


def check_agreement(text: str) -> None:
    try:
        ours = parse_mailbox(text.encode()).address
    except Unparsable:
        return
    try:
        other = theirs(text)
    except AttributeError:  # Python 3.11 stumbles over a name that ends with a dot right before the bracket
        assert ".<" in text
        return
    assert other is not None, "we accept what they find defective"
    assert other == [ours]


@given(st.lists(PIECES, min_size=1, max_size=8).map("".join))
@settings(max_examples=2000, deadline=None)
@example("alice@example.org (x)")
@example("Q. Alice<alice@example.org>")
def test_what_we_accept_headerregistry_reads_the_same_way(text: str) -> None:
    check_agreement(text)


@pytest.mark.parametrize("row", ORDINARY, ids=lambda row: row.source)
def test_headerregistry_agrees_about_ordinary_fields(row: Row) -> None:
    unfolded = row.value.replace(b"\n", b"").decode()
    if unfolded.isascii():
        check_agreement(unfolded.strip())
