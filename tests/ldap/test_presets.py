"""Presets against entries written after the schemas, and every preset against the grammar of filters."""

from pathlib import Path

import pytest
import yaml

from directory.drafts import Reading
from directory.filters import fill_filter, names_of
from directory.ldap_settings import PRESETS, LdapSettings, parse_preset, preset
from directory.people import Around, Entry, person
from directory.settings import load_directory_settings
from directory.shape import FILTERS, StatusTest
from directory.troubles import Puzzling

HERE = Path(__file__).parent / "written"
NOW = 1_790_000_000.0
WRITTEN = [
    (name, title, case)
    for name in ("active-directory", "freeipa")
    for title, case in yaml.safe_load((HERE / f"{name}.yaml").read_text()).items()
]


def entry(case):
    values = {
        name.lower(): tuple(str(value).encode() for value in values) for name, values in case["entry"].items()
    }
    return Entry(case["dn"], values)


@pytest.mark.parametrize(("name", "title", "case"), WRITTEN, ids=[f"{n}: {t}" for n, t, _ in WRITTEN])
def test_a_written_entry_comes_to_what_is_wanted(name, title, case):
    wanted = case["wanted"]
    around = Around(*(tuple(map(entry, case.get(kind, ()))) for kind in ("groups", "delegators")))
    if "login" not in wanted:
        with pytest.raises(Puzzling, match=wanted["puzzle"]):
            person(entry(case), around, preset(name), Reading(), {}, NOW)
        return
    found = person(entry(case), around, preset(name), Reading(), {}, NOW)
    assert found.name == wanted["login"]
    assert found.stopped == wanted.get("stopped")
    assert found.disabled == ("stopped" in wanted)
    assert sorted(found.addresses) == sorted(wanted["addresses"])
    assert wanted.get("puzzle", "") in found.puzzle
    assert bool(found.puzzle) == ("puzzle" in wanted)


KINDS = (
    "enabled",
    "disabled",
    "locked",
    "expired",
    "two mailboxes",
    "alias",
    "member of a group with mail",
    "group in a group",
    "delegate",
    "duplicate mail",
    "not ASCII",
    "no address at all",
)


@pytest.mark.parametrize("name", ["active-directory", "freeipa"])
def test_every_kind_of_entry_is_written(name):
    titles = [title for one, title, _ in WRITTEN if one == name]
    assert [kind for kind in KINDS if not any(kind in title for title in titles)] == []


@pytest.mark.parametrize("name", ["active-directory", "freeipa"])
def test_there_are_twelve_written_entries_at_least(name):
    assert len([1 for one, _, _ in WRITTEN if one == name]) >= 12


@pytest.mark.parametrize("name", ["openldap", "389ds", "active-directory", "freeipa"])
def test_a_preset_can_be_read_and_its_filters_filled_in(name):
    shape = preset(name)
    places = {**names_of("a*@b"), "dn": "cn=a(b),dc=x", "group": "cn=g", "groups": ("cn=a(b)", "cn=c")}
    assert set(shape.filters) == set(FILTERS)
    for template in shape.filters.values():
        assert "*@b" not in fill_filter(template, places).replace("\\2a@b", "")


def test_a_preset_may_be_a_file_of_ones_own(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text((PRESETS / "openldap.yaml").read_text().replace("login: [uid]", "login: [userName]"))
    given = LdapSettings(preset=str(mine), servers=(), base="dc=x")
    assert given.shape.names("login") == ("userName",)
    mine.write_text("filters: {user: (uid={login}}\n")
    with pytest.raises(ValueError, match="the preset"):
        LdapSettings(preset=str(mine), base="dc=x")
    with pytest.raises(ValueError, match="openldap, 389ds"):
        parse_preset("openldp")


def test_tests_of_an_account_may_stand_in_the_settings(tmp_path):
    path = tmp_path / "config.yaml"
    status = "[{state: disabled, attribute: accountStatus, equals: disabled}]"
    path.write_text(f"directory: {{ldap: {{base: dc=x, status: {status}}}}}\n")
    shape = load_directory_settings(path).ldap.shape
    made = Entry("uid=a,dc=x", {"uid": (b"a",), "mail": (b"a@example.org",), "accountstatus": (b"Disabled",)})
    assert "accountStatus" in shape.wanted
    assert person(made, Around(), shape, Reading(), {}, NOW).stopped == "disabled"


@pytest.mark.parametrize(
    ("test", "value", "holds"),
    [
        (StatusTest("disabled", "a", equals="TRUE"), "true", True),
        (StatusTest("disabled", "a", bit=2), "514", True),
        (StatusTest("disabled", "a", bit=2), "512", False),
        (StatusTest("expired", "a", past="generalized"), "20200101000000Z", True),
        (StatusTest("expired", "a", past="generalized"), "20200101000000.0Z", True),
        (StatusTest("expired", "a", past="generalized"), "22000101000000Z", False),
        (StatusTest("disabled", "a", future="generalized"), "22000101000000Z", True),
        (StatusTest("expired", "a", past="filetime"), "0", False),
        (StatusTest("expired", "a", past="filetime"), "9223372036854775807", False),
        (StatusTest("expired", "a", past="filetime"), "131000000000000000", True),
        (StatusTest("expired", "a", past="days"), "-1", False),
        (StatusTest("expired", "a", past="days"), "1", True),
        (StatusTest("expired", "a", past="days"), "99999", False),
    ],
)
def test_a_state_is_told_from_a_value(test, value, holds):
    assert test.holds(value, NOW) is holds


@pytest.mark.parametrize("value", ["", "never", "20200101", "2020010100000Z", "99999999999999Z"])
def test_a_time_that_is_none_is_refused(value):
    with pytest.raises(ValueError):
        StatusTest("expired", "a", past="generalized").holds(value, NOW)
