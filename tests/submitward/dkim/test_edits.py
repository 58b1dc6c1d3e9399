"""A new key in the two tables: everything else stays, and each moment of the change signs."""

import pytest

from milter.tables import TableError, parse_tables
from submitward.dkim.edits import Texts, lead

KEYS = "# ours\na.example  a.example:s1:/k/s1   # made in 2025\n\nall %:s0:/k/s0\nb b.example:s1:/k/b"
SIGNS = "news@a.example all\n*@a.example a.example # all of it\n*@*.example all\n"
#: domain, the other spelling, expected KeyTable and SigningTable
CASES = {
    "a line of its own": (
        ("a.example",),
        KEYS.replace("a.example:s1:/k/s1", "a.example:s2:/k/s2"),
        SIGNS,
    ),
    "a line for everybody": (
        ("b.example",),
        KEYS + "\nb.example b.example:s2:/k/s2\n",
        SIGNS.replace("*@*.example", "*@b.example b.example\n*@*.example"),
    ),
    "no line": (
        ("c.test",),
        KEYS + "\nc.test c.test:s2:/k/s2\n",
        SIGNS + "*@c.test c.test\n",
    ),
    "two spellings": (
        ("xn--bcher-kva.test", "bücher.test"),
        KEYS + "\nxn--bcher-kva.test xn--bcher-kva.test:s2:/k/s2\n",
        SIGNS + "*@xn--bcher-kva.test xn--bcher-kva.test\n*@bücher.test xn--bcher-kva.test\n",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_key_gets_its_lines_and_the_others_stay_as_they_are(name: str) -> None:
    spellings, keys, signs = CASES[name]
    new, lines = lead(Texts(KEYS, SIGNS), f"postmaster@{spellings[0]}", "s2", "/k/s2", spellings)
    assert new == Texts(keys, signs)
    assert lines.key in " ".join(keys.split()).replace("  ", " ")
    for spelling in spellings:
        found = new.tables.key_name(f"x@{spelling}")
        assert found is not None
        assert new.tables.keys[found].selector == "s2"
    # Between the two renames the new KeyTable stands beside the old SigningTable.
    between = parse_tables(new.key_table, SIGNS)
    for author in ("x@a.example", "news@a.example", "x@b.example"):
        assert between.signing_domain(author) == author.rpartition("@")[2]
    assert lead(new, f"postmaster@{spellings[0]}", "s2", "/k/s2", spellings)[0] == new


def test_a_name_that_is_taken_by_another_key_is_not_taken_again() -> None:
    new, _ = lead(
        Texts("c.test d.test:s1:/k/d\n", "*@d.test c.test\n"), "p@c.test", "s2", "/k/s2", ("c.test",)
    )
    assert new.tables.signing_domain("x@c.test") == "c.test"
    assert new.tables.signing_domain("x@d.test") == "d.test"


def test_empty_tables_get_their_first_lines() -> None:
    new, _ = lead(Texts("", ""), "p@c.test", "s2", "/k/s2", ("c.test",))
    assert new == Texts("c.test c.test:s2:/k/s2\n", "*@c.test c.test\n")


def test_tables_with_a_mistake_are_not_touched() -> None:
    with pytest.raises(TableError):
        lead(Texts(KEYS, SIGNS + "*@x.example\n"), "p@a.example", "s2", "/k/s2", ("a.example",))
