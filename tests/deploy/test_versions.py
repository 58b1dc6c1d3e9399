"""A version that sidecars may run from is never written over, whatever comes under its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.deploy.tasks import play, role
from tests.deploy.variables import ROLE

#: A Python that says which one it is, and makes environments in which pip notes what it was asked for.
PYTHON = """#!/bin/sh
case $1 in
-c) echo {version} ;;
-m) rm -rf "$4"; mkdir -p "$4/bin"
    printf '#!/bin/sh\\necho "$@" >%s/asked\\n' "$4" >"$4/bin/pip"; chmod +x "$4/bin/pip" ;;
esac
"""


def test_other_wheels_or_another_python_get_a_directory_of_their_own(tmp_path: Path) -> None:
    versions = tmp_path / "versions"
    versions.mkdir()
    tasks: list[dict[str, Any]] = []
    runs = [("3.11", "first"), ("3.13", "first"), ("3.13", "rebuilt"), ("3.11", "first")]
    for at, (python, lock) in enumerate(runs):
        program, wheels = tmp_path / f"python{python}", tmp_path / lock
        program.write_text(PYTHON.format(version=python))
        program.chmod(0o755)
        wheels.mkdir(exist_ok=True)
        (wheels / "requirements.lock").write_text(lock)
        told = {"python": str(program), "wheelhouse": str(wheels), "versions": str(versions)}
        tasks += [
            role("version", **{f"submitward_{name}": value for name, value in told.items()}),
            {"name": "told", "ansible.builtin.debug": {"msg": f"run {at}: {{{{ submitward_release }}}}"}},
        ]
    done = play(tmp_path, tasks)
    assert done.returncode == 0, done.stdout
    named = re.findall(r'"msg": "run \d: (\S+)"', done.stdout)
    assert (named[0], named[3]) == ("0.1.0", "0.1.0")
    assert len({*named}) == 3
    assert all(re.fullmatch(r"0\.1\.0\+[0-9a-f]{8}", name) for name in named[1:3])
    for name in {*named}:
        assert f"wheelhouse/{name}/requirements.lock" in (versions / name / "asked").read_text()
    installed = re.findall(r"(?s)TASK \[\S+ : Make its virtual environment\] \*+\n(\w+)", done.stdout)
    assert installed == ["changed", "changed", "changed", "skipping"]


def test_what_runs_is_called_by_the_name_of_its_directory() -> None:
    for path in (ROLE / "tasks").glob("*.yml"):
        if path.name not in {"version.yml", "inventory.yml"}:
            assert "submitward_version " not in path.read_text().replace("}}", " "), path.name
