"""What is written for a host: the secrets of each unit, the addresses that it may reach, the settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.tasks import play
from tests.deploy.variables import ROLE
from tests.submitward.command import submitward

KINDS = ("policy", "auth", "milter", "export")
TOLD = {
    "submitward_environment": "lab",
    "submitward_secrets": {"directory": "kept to itself", "redis": "kept to itself"},
    "submitward_settings": {
        "directory": {"kind": "ldap", "ldap": {"password": {"credential": "directory"}}},
        "ledger": {"kind": "redis", "redis": {"password": {"credential": "redis"}}},
    },
    "submitward_backend_networks": ["192.0.2.0/24"],
}


@pytest.fixture(scope="module")
def drop_ins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By unit, and the milter's of a host where resolvers are named."""
    here = tmp_path_factory.mktemp("units")
    role: dict[str, Any] = {}
    for part in ("defaults", "vars"):
        role |= yaml.safe_load((ROLE / part / "main.yml").read_text())
    write = {"src": str(ROLE / "templates/host.conf.j2"), "mode": "0644"}
    named = {"submitward_resolvers": ["192.0.2.53", "fe80::53%eth0"]}
    done = play(here, [
        {"name": "facts", "ansible.builtin.setup": {"gather_subset": ["!all", "!min", "dns"]}},
        {"name": "each", "ansible.builtin.template": {**write, "dest": str(here / "{{ item }}")},
         "loop": list(KINDS), "vars": role | TOLD},
        {"name": "named", "ansible.builtin.template": {**write, "dest": str(here / "named")},
         "vars": role | TOLD | named | {"item": "milter"}},
        {"name": "settings", "ansible.builtin.template":
         {"src": str(ROLE / "templates/config.yaml.j2"), "mode": "0644", "dest": str(here / "config.yaml")},
         "vars": role | {"submitward_environment": "lab", "submitward_redis": "local"}},
    ])  # fmt: skip
    assert done.returncode == 0, done.stdout
    return {name: (here / name).read_text() for name in (*KINDS, "named", "config.yaml")}


def test_a_redis_of_this_host_alone_is_the_ledger(drop_ins: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(drop_ins["config.yaml"])
    done = submitward(tmp_path / "config.yaml", "check", "--settings-only")
    assert done.returncode == 0, done.stdout + done.stderr
    ledger = yaml.safe_load(drop_ins["config.yaml"])["ledger"]
    assert ledger == {"kind": "redis", "redis": {"url": "redis://127.0.0.1:6379/0"}}


def allowed(text: str) -> list[str]:
    return re.findall(r"(?m)^IPAddressAllow=(.*)$", text)


def test_the_export_gets_the_directorys_secrets_alone(drop_ins: dict[str, str]) -> None:
    for kind in KINDS:
        given = re.findall(r"(?m)^LoadCredential=(\w+):/etc/submitward/secrets/\1$", drop_ins[kind])
        assert given == ["directory"] + (["redis"] if kind != "export" else [])


def test_the_hosts_resolvers_may_be_asked_without_a_word_in_the_inventory(drop_ins: dict[str, str]) -> None:
    said = Path("/etc/resolv.conf").read_text() if Path("/etc/resolv.conf").exists() else ""
    resolvers = re.findall(r"(?m)^nameserver\s+([^\s%]+)", said)
    for kind in KINDS:
        assert allowed(drop_ins[kind]) == ["192.0.2.0/24", *resolvers]


def test_resolvers_of_the_inventory_take_their_place(drop_ins: dict[str, str]) -> None:
    assert allowed(drop_ins["named"]) == ["192.0.2.0/24", "192.0.2.53", "fe80::53"]
