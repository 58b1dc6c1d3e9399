"""The Vagrantfile: validated by Vagrant where it is installed, else parsed by Ruby; the output says which."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.machines.vagrant import FILE, PLAYBOOK, VARIABLES, table


def test_vagrant_or_ruby_accepts_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = {
        "vagrant": ["vagrant", "validate", "--ignore-provider"],
        "ruby": ["ruby", "-c", "Vagrantfile"],
    }
    which = next((name for name in commands if shutil.which(name)), None)
    assert which, "neither vagrant nor ruby is here: apt-get install --no-install-recommends vagrant"
    shutil.copy(FILE, tmp_path)
    with capsys.disabled():
        print(f"\nthe Vagrantfile is judged by: {' '.join(commands[which])}")
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "VAGRANT_HOME": str(tmp_path / "v"),
    }
    done = subprocess.run(commands[which], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_table_has_the_five_machines_and_one_playbook() -> None:
    rows = table()
    assert [row.name for row in rows] == ["directory", "redis", "sink", "mta1", "mta2"]
    assert [row.name for row in rows if not row.starts] == ["mta2"]
    text = FILE.read_text()
    assert set(re.findall(r'provision "(\w+)"', text)) == {"ansible_local"}
    assert re.findall(r'playbook = "(.*)"', text) == [PLAYBOOK]
    assert re.findall(r"raw_arguments = (.*)", text) == [f'["{VARIABLES}"]']
