"""What an inventory says is looked at before a host is touched."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.tasks import play, role
from tests.deploy.variables import ROLE

GOOD: dict[str, Any] = {
    "submitward_version": "0.2.0rc1+local.1",
    "submitward_secrets": {"directory": "secret", "redis-2.old_one": "secret"},
    "submitward_backend_networks": ["192.0.2.7", "192.0.2.0/24", "::1", "2001:db8::/32", "::ffff:192.0.2.1"],
    "submitward_resolvers": ["192.0.2.53", "fe80::53%eth0"],
    "submitward_opendkim_keys": [{"domain": "example.org", "selector": "s2026._a", "key": "k"}],
}
BAD: dict[str, Any] = {
    "submitward_version": "",
    "submitward_python": "python3",
    "submitward_postfix_directory": "etc/postfix",
    "submitward_secrets": {"../../x y\nExecStart=": "kept to itself", "a:b": "kept to itself", ".": ""},
    "submitward_backend_networks": ["ldap.example.org", "192.0.2.1\nExecStart=/bin/true", "192.0.2.1\n", ""],
    "submitward_resolvers": ["ns.example.org"],
    "submitward_opendkim_keys": [{"domain": "../x", "selector": "a b", "key": "kept to itself"}],
}


def test_names_that_would_end_up_elsewhere_are_all_refused_at_once(tmp_path: Path) -> None:
    good = play(tmp_path, [role("inventory", **GOOD)])
    assert good.returncode == 0, good.stdout
    bad = play(tmp_path, [role("inventory", **BAD)])
    assert bad.returncode == 2, bad.stdout
    for name in BAD:
        assert f"failed: [localhost] (item={name})" in bad.stdout
    for wrong in ("ExecStart=", "a:b", "ldap.example.org", "../x", "a b"):
        assert wrong in bad.stdout
    assert "kept to itself" not in bad.stdout + bad.stderr


@pytest.mark.parametrize("version", ["current", "wheelhouse", "..", "1/../..", "0.1.0\n", " 0.1.0"])
def test_a_version_is_never_another_directory(version: str) -> None:
    """The pattern itself: each of these would be emptied by `venv --clear`, or is none of ours."""
    (task,) = yaml.safe_load((ROLE / "tasks/inventory.yml").read_text())
    pattern = task["vars"]["submitward_is_version"]
    assert not re.match(pattern, version)
    assert re.match(pattern, "0.1.0")


def test_nothing_is_done_before_the_inventory_is_looked_at() -> None:
    """Of the head of the role, by its modules."""
    tasks = yaml.safe_load((ROLE / "tasks/main.yml").read_text())
    names = [next(key for key in task if key.startswith("ansible.builtin.")) for task in tasks]
    files = [task.get("ansible.builtin.include_tasks") for task in tasks]
    before = tasks[: files.index("inventory.yml")]
    assert set(names[: len(before)]) == {"ansible.builtin.assert", "ansible.builtin.command"}
    assert all(task["changed_when"] is False for task in before if "ansible.builtin.command" in task)
    assert files.index("inventory.yml") < files.index("present.yml")


def test_a_host_is_known_by_its_environment_whatever_its_name(tmp_path: Path) -> None:
    """As config.yaml.j2 writes it, and as main.yml reads it."""
    tasks = yaml.safe_load((ROLE / "tasks/main.yml").read_text())
    task = next(task for task in tasks if "submitward_belongs" in task.get("vars", {}))

    def told(written: str, environment: str) -> dict[str, Any]:
        known = {"submitward_known": {"stdout": written}, "submitward_settings": {}}
        return {**task, "vars": {**task["vars"], **known, "submitward_environment": environment}}

    names = ["production", "on", "123", "a: b"]
    written = [yaml.safe_dump({"environment": name}).partition(": ")[2].strip() for name in names]
    done = play(tmp_path, [told(text, name) for text, name in zip(written, names, strict=True)])
    assert done.returncode == 0, done.stdout
    assert play(tmp_path, [told("staging", "production")]).returncode == 2
