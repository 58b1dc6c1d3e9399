"""What a host adds to its units: the secrets that each needs, and the addresses that it may reach."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.tasks import play
from tests.deploy.variables import ROLE

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
    ])  # fmt: skip
    assert done.returncode == 0, done.stdout
    return {name: (here / name).read_text() for name in (*KINDS, "named")}


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
