"""The graft on a configuration directory: a plan is a look, files are replaced with a backup, links stay."""

from __future__ import annotations

import argparse
import functools
import os
import struct
from pathlib import Path

import pytest

from submitward import grafting
from submitward.graft import applying, host
from submitward.graft.applying import carry_out
from submitward.graft.files import MAIN, MASTER, Refused
from submitward.graft.plan import plan, remove
from submitward.graft.wish import Wish
from tests.deploy.existing import placed
from tests.deploy.mail_host import let_cool, replace_cold
from tests.deploy.tasks import play


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(applying, "replace_files", replace_cold)
    place = placed("multi_line_lists", "before", tmp_path)
    (tmp_path / "queue").mkdir()
    with (place / MAIN).open("a") as main:
        main.write(f"queue_directory = {tmp_path}/queue\ndata_directory = {tmp_path}/data\n")
    (place / MASTER).chmod(0o640)
    let_cool([place / MAIN])
    return place


def planned(directory: Path) -> host.Outcome:
    wished = functools.partial(plan, wish=Wish())
    return host.try_out(directory, wished, directory.parents[1] / "queue/submitward")


def test_a_directory_is_changed_with_a_backup_and_given_back(directory: Path, tmp_path: Path) -> None:
    before = {name: (directory / name).read_bytes() for name in (MAIN, MASTER)}
    there = sorted(tmp_path.rglob("*"))
    outcome = planned(directory)
    assert sorted(tmp_path.rglob("*")) == there, "`postfix check` has made what was missing"
    assert {name: (directory / name).read_bytes() for name in before} == before
    assert "+++ main.cf as it will be" in outcome.difference
    kept = carry_out(outcome, tmp_path / "backups")
    assert kept
    assert {name: (kept / name).read_bytes() for name in before} == before
    assert (directory / MASTER).stat().st_mode & 0o777 == 0o640
    again = planned(directory)
    assert (again.changed, carry_out(again, tmp_path / "backups")) == ((), None)
    carry_out(host.try_out(directory, remove), tmp_path / "backups")
    assert {name: (directory / name).read_bytes() for name in before} == before


def test_a_file_that_is_a_link_stays_one(directory: Path, tmp_path: Path) -> None:
    (directory / MAIN).rename(tmp_path / "elsewhere")
    (directory / MAIN).symlink_to(tmp_path / "elsewhere")
    outcome = planned(directory)
    carry_out(outcome, tmp_path / "backups")
    assert (directory / MAIN).is_symlink()
    assert "submitward" in (tmp_path / "elsewhere").read_text()


def test_a_file_keeps_its_acl(directory: Path, tmp_path: Path) -> None:
    entries = ((0x01, 6, -1), (0x02, 4, 1234), (0x04, 4, -1), (0x10, 4, -1), (0x20, 0, -1))  # acl(5)
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(directory / MASTER, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"no ACL on this file system: {error}")
    carry_out(planned(directory), tmp_path / "backups")
    assert b"submitward" in (directory / MASTER).read_bytes()
    assert os.getxattr(directory / MASTER, "system.posix_acl_access") == acl


def test_a_warning_of_postfix_stops_it(directory: Path) -> None:
    def careless(main: str, master: str):
        return type(remove(main, master))(main + "no_such_parameter = 1\n", master)

    with pytest.raises(Refused, match="unused parameter: no_such_parameter"):
        host.try_out(directory, careless)


def test_a_file_that_changes_meanwhile_is_not_overwritten(directory: Path, tmp_path: Path) -> None:
    outcome = planned(directory)
    with (directory / MAIN).open("a") as main:
        main.write("biff = no\n")
    with pytest.raises(Refused, match="has changed"):
        carry_out(outcome, tmp_path / "backups")


def test_what_is_shown_of_utf_8_is_utf_8(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    cyrillic = "вход здесь"
    master = (directory / MASTER).read_text()
    (directory / MASTER).write_text(master.replace("# and that is all", f"# {cyrillic}"))
    before = {name: (directory / name).read_bytes() for name in (MAIN, MASTER)}
    places = {"sockets": str(tmp_path / "queue/submitward"), "backups": str(tmp_path / "backups")}
    graft = {"submitward.relay.graft": {"directory": str(directory), **places}}
    done = play(tmp_path, [{"name": "graft", **graft}], "--check", "--diff")
    assert done.returncode == 0, done.stdout
    assert f"    # {cyrillic}\n" in done.stdout
    assert "changed=1" in done.stdout
    run("plan", "--postfix", directory, *(f"--{name}={place}" for name, place in places.items()))
    assert f"    # {cyrillic}\n" in capsys.readouterr().out
    run("plan", "--postfix", directory, f"--service={cyrillic}/inet")
    assert f"{cyrillic}/inet" in capsys.readouterr().err
    assert {name: (directory / name).read_bytes() for name in before} == before


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    grafting.arguments(parser)
    return grafting.run(parser.parse_args([str(word) for word in words]))
