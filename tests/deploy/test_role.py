"""The collection: every variable is specified and documented, and the linter has nothing to say."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.deploy.variables import ANSIBLE, README, ROLE, options, readme

ROOT = ANSIBLE.parent


def test_the_readme_has_every_variable() -> None:
    assert README.read_text() == readme()


def test_the_defaults_are_those_of_the_specification() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    assert defaults == {name: spec["default"] for name, spec in options().items() if "default" in spec}


@pytest.mark.parametrize("name", list(options()))
def test_a_variable_is_specified_and_used(name: str) -> None:
    spec = options()[name]
    assert {"type", "description"} <= spec.keys()
    assert spec.get("required") or "default" in spec
    used = [path for path in ROLE.rglob("*") if path.is_file() and "meta" not in path.parts]
    told = [path for path in used if "defaults" not in path.parts and name in path.read_text()]
    assert told, f"{name} is used nowhere"


def test_what_is_used_is_specified() -> None:
    specified = set(options()) | set(yaml.safe_load((ROLE / "vars/main.yml").read_text()))
    for path in [*ROLE.rglob("*.yml"), *ROLE.rglob("*.j2")]:
        text = path.read_text()
        local = set(re.findall(r"(?:register|loop_var): (submitward_\w+)", text))
        local |= set(re.findall(r"^ +(submitward_\w+):", text, re.MULTILINE))
        specified |= local
    for path in [*(ROLE / "tasks").glob("*.yml"), *(ROLE / "templates").glob("*.j2")]:
        names = set(re.findall(r"(?<![\w/.-])submitward_\w+", path.read_text()))
        assert names - specified == set(), path.name


@pytest.mark.parametrize("name", ["production", "staging"])
def test_an_inventory_names_its_environment(name: str) -> None:
    told = yaml.safe_load((ANSIBLE / f"inventories/{name}/group_vars/all.yml").read_text())
    assert told["submitward_environment"] == name


def test_secrets_are_not_logged() -> None:
    # inventory.yml picks out names alone: test_inventory.py looks at all that it prints.
    for path in set((ROLE / "tasks").glob("*.yml")) - {ROLE / "tasks/inventory.yml"}:
        for task in re.split(r"(?m)^ *- name: ", path.read_text()):
            if re.search(r"submitward_secrets \||item\.key \}\}\"\n|\{\{[^}]*submitward_opendkim_keys", task):
                assert "no_log" in task, f"{path.name}: {task.splitlines()[0]}"


def test_the_units_of_the_role_are_all_installed() -> None:
    listed = (ROLE / "tasks/settings.yml").read_text()
    units = [path.name for path in (ROLE / "files/systemd").iterdir() if path.suffix != ".conf"]
    assert [unit for unit in units if f"- {unit}\n" not in listed] == []


def test_the_version_is_the_packages() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ANSIBLE / "galaxy.yml").read_text())["version"] == version
    assert options()["submitward_version"]["default"] == version


def test_the_lock_has_every_dependency_with_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for wanted in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        name = re.match(r"[\w-]+", wanted)
        assert name
        assert re.search(rf"(?m)^{name[0].lower()}==\S+ \\\n +--hash=sha256:[0-9a-f]{{64}}", lock), name[0]


@pytest.mark.timeout(300)
def test_the_linter_passes_the_production_profile(tmp_path: Path) -> None:
    linter = Path(sys.executable).parent / "ansible-lint"
    assert linter.exists(), "ansible-lint is missing: run script/bootstrap"
    done = subprocess.run(
        [str(linter), "--offline", "--nocolor", "--strict"],
        cwd=ANSIBLE, capture_output=True, text=True, check=False,
        env={"PATH": f"{linter.parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Profile 'production' was required, and it passed" in done.stdout + done.stderr
