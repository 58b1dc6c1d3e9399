"""Which acceptance of the terms counts."""

import pytest

from directory.drafts import Reading
from directory.ldap_settings import preset
from directory.people import Around, Entry, person
from directory.shape import merge
from directory.terms import covers

# what is wanted, what was accepted, whether it counts
ACCEPTED = [
    ("", "yes", True),
    ("2026-06-01", "2026-06-01", True),
    ("2026-06-01", "2026-06-02", True),
    ("2026-06-01", "2026-05-31", False),
    ("2026-06-01", "20260101000000Z", False),
    ("2026-06-01", "20260601000000Z", True),
    ("2026-06-01", "20260601080000.123Z", True),
    ("2026-06-01", "2026060108Z", True),
    ("2026-06-01", "20261231", True),
    ("20260601000000Z", "2026-05-31T23:59:59Z", False),
    ("20260601120000Z", "2026-06-01", False),  # at noon: who knows
    ("2026-01", "2026-01-15", True),
    ("2026-01", "2024-01", False),
    ("2026", "2026-01-01", True),
    ("2026", "2027", True),
    ("2026-06-01", "2026", False),
    ("2026-06-01", "20260601000000+0200", False),
    ("2026-06-01", "2026-13-01", False),
    ("2026-06-01", "pending", False),
    ("2026-06-01", "no", False),
    ("2026-06-01", "", False),
    ("10", "9", False),
    ("10", "10", True),
    ("10", "11", True),
    ("9", "10", True),
    ("2", "1.9", False),
    ("1.10", "1.9", False),
    ("1.9", "1.10", True),
    ("2.0", "2", True),
    ("v2", "3", True),
    ("10", "2026-06-01", False),
    ("10", "20260601000000Z", False),
    ("10", "pending", False),
    ("2", "\u0663", False),
    ("2", "9" * 5000, False),
    ("autumn", "autumn", True),
    ("autumn", "winter", False),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "accepted", "counts"), ACCEPTED)
def test_what_was_accepted_counts_when_it_is_what_is_wanted_or_later(wanted, accepted, counts):
    assert covers(accepted, wanted) is counts


@pytest.mark.parametrize(("texts", "counts"), [(("9",), False), (("9", "10"), True), ((), False)])
def test_one_value_of_an_entry_that_counts_is_enough(texts, counts):
    values = {"uid": (b"a",), "mail": (b"a@example.org",), "t": tuple(text.encode() for text in texts)}
    shape = merge(preset("openldap"), {}, {"terms": ("t",)})
    found = person(Entry("uid=a,dc=x", values), Around(), shape, Reading(terms_version="10"), {}, 0.0)
    assert found.terms_accepted is counts
