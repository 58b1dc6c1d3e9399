"""Password hashes; what may stand in the file is tried in test_entries."""

import pytest

from directory.passwords import Unjudged, dummy_hash, hash_password, is_acceptable, matches, parse_hash

CHEAP = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b+dWRWJTmaaJObGRdescudvJCs"


def test_password_has_the_hash_that_was_made_of_it():
    encoded = hash_password("pässword".encode())
    assert parse_hash(encoded) == encoded
    assert matches(encoded, "pässword".encode())
    assert not matches(encoded, b"password")
    assert hash_password("pässword".encode()) != encoded


def test_dummy_costs_what_most_hashes_cost_and_no_password_has_it():
    dummy = dummy_hash([CHEAP, CHEAP, hash_password(b"x")])
    assert dummy.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert parse_hash(dummy) == dummy
    assert not matches(dummy, b"x")
    assert len(dummy) == len(CHEAP)


def test_dummy_without_an_example_costs_what_a_new_hash_costs():
    assert dummy_hash([]).split("$")[3] == hash_password(b"x").split("$")[3]


@pytest.mark.parametrize(
    ("password", "acceptable"),
    [(b"x", True), (b"x" * 4096, True), (b"", False), (b"x" * 4097, False), (b"a\0b", False)],
)
def test_password_is_one_to_4096_octets_without_nul(password, acceptable):
    assert is_acceptable(password) is acceptable


def test_hash_that_cannot_be_computed_says_nothing_about_the_password():
    with pytest.raises(Unjudged):
        matches(CHEAP.replace("c29tZXNhbHRzb21lc2FsdA", "c29tZ"), b"x")
