"""A version that sidecars may run from is never written over, whatever comes under its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

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


def test_another_build_gets_a_directory_of_its_own(tmp_path: Path) -> None:
    versions = tmp_path / "versions"
    versions.mkdir()
    tasks: list[dict[str, Any]] = []
    for python, lock in (("3.11", "first"), ("3.13", "rebuilt"), ("3.11", "first")):
        program, wheels = tmp_path / f"python{python}", tmp_path / lock
        program.write_text(PYTHON.format(version=python))
        program.chmod(0o755)
        wheels.mkdir(exist_ok=True)
        (wheels / "requirements.lock").write_text(lock)
        told = {"python": str(program), "wheelhouse": str(wheels), "versions": str(versions)}
        tasks += [
            role("version", **{f"submitward_{name}": value for name, value in told.items()}),
            {"name": "told", "ansible.builtin.debug": {"msg": "it is {{ submitward_release }}"}},
        ]
    done = play(tmp_path, tasks)
    assert done.returncode == 0, done.stdout
    first, other, again = re.findall(r'"msg": "it is (\S+)"', done.stdout)
    assert first == again == "0.1.0"
    assert re.fullmatch(r"0\.1\.0\+[0-9a-f]{8}", other)
    for name in (first, other):
        assert f"wheelhouse/{name}/requirements.lock" in (versions / name / "asked").read_text()
    installed = re.findall(r"(?s)TASK \[\S+ : Make its virtual environment\] \*+\n(\w+)", done.stdout)
    assert installed == ["changed", "changed", "skipping"]


def test_a_build_is_another_by_its_python_or_by_its_wheels(tmp_path: Path) -> None:
    build = yaml.safe_load((ROLE / "vars/main.yml").read_text())["submitward_build"]
    builds = [("3.11", "first"), ("3.13", "first"), ("3.11", "rebuilt"), ("3.11", "first")]
    tasks: list[dict[str, Any]] = []
    for python, lock in builds:
        (tmp_path / lock).mkdir(exist_ok=True)
        (tmp_path / lock / "requirements.lock").write_text(lock)
        told = {"submitward_python_here": {"stdout": python}, "submitward_wheelhouse": str(tmp_path / lock)}
        message = {"msg": "it is {{ submitward_build }}"}
        tasks.append(
            {"name": "b", "ansible.builtin.debug": message, "vars": {**told, "submitward_build": build}}
        )
    done = play(tmp_path, tasks)
    named = re.findall(r'"msg": "it is (3\.\d+ \w{64})"', done.stdout)
    assert (len(named), len({*named[:3]}), named[3]) == (4, 3, named[0]), done.stdout


def test_what_runs_is_called_by_the_name_of_its_directory() -> None:
    for path in (ROLE / "tasks").glob("*.yml"):
        if path.name not in {"version.yml", "inventory.yml"}:
            assert "submitward_version " not in path.read_text().replace("}}", " "), path.name
