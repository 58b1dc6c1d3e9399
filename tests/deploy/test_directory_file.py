"""A directory.yaml of the inventory is read before it is put in place, and what is wrong with it is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.tasks import play
from tests.deploy.variables import ROLE

GOOD = "logins:\n  alice: {mailboxes: [alice@example.org]}\n"
BROKEN = "logins:\n  alice: {mailboxs: [alice@example.org], password: kept-to-itself}\n"


def reading(settings: Path) -> dict[str, Any]:
    """The task of the role, with this tree in the place of what is installed."""
    tasks = yaml.safe_load((ROLE / "tasks/settings.yml").read_text())
    task: dict[str, Any] = next(task for task in tasks if task["name"].startswith("Read the directory"))
    command = task["block"][0]["ansible.builtin.command"]
    command["argv"][:1] = [sys.executable, "-m", "submitward", "--settings", str(settings)]
    command["chdir"] = str(ROLE.parents[2])
    return task


@pytest.mark.parametrize(("text", "ends"), [(GOOD, 0), (BROKEN, 2)])
def test_a_broken_directory_is_told_and_the_settings_go_back(tmp_path: Path, text: str, ends: int) -> None:
    settings, file, back = (tmp_path / name for name in ("config.yaml", "people.yaml", "went-back"))
    settings.write_text("version: 1\nmta: mx1.example.org\n")
    file.write_text(text)
    going = {"name": "Go back", "ansible.builtin.copy": {"content": "", "dest": str(back), "mode": "0644"}}
    (tmp_path / "back_settings.yml").write_text(yaml.safe_dump([going]))
    known = {
        "submitward_directory_file": str(file),
        "submitward_complete": {"stat": {"exists": True}},
        "submitward_configured": {"changed": True},
        "submitward_release": "0",
        "submitward_no_log": True,
    }
    done = play(tmp_path, [{**reading(settings), "vars": known}])
    assert done.returncode == ends, done.stdout + done.stderr
    assert back.exists() == (ends != 0)
    assert (f"{file}:2:11: logins.alice.mailboxs" in done.stdout) == (ends != 0), done.stdout
    assert "kept-to-itself" not in done.stdout + done.stderr
