"""A unit gets the secrets that its sections name, and what nothing names any more is deleted."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.deploy.tasks import play, role
from tests.deploy.variables import ROLE

SETTINGS = {
    "directory": {"kind": "ldap", "ldap": {"password": {"credential": "directory"}}},
    "ledger": {"kind": "redis", "redis": {"password": {"credential": "redis"}}},
}


def test_secrets_go_where_they_are_needed_and_nowhere_else(tmp_path: Path) -> None:
    home, units = tmp_path / "etc", tmp_path / "units"
    kinds = ["policy", "auth", "milter", "export"]
    for place in (home / "secrets", units / "submitward-policy.service.d"):
        place.mkdir(parents=True)
    for name in ("directory", "redis", "gone", "by-hand", "in.a.file", "in.a"):
        (home / "secrets" / name).write_text("kept to itself")
    (home / "config.yaml").write_text(
        "directory: {kind: ldap}\nx: {file: /etc/submitward/secrets/in.a.file}\n"
    )
    (units / "submitward-policy.service.d/mine.conf").write_text(
        "LoadCredential=b:/etc/submitward/secrets/by-hand\n"
    )
    (units / "submitward-policy.service.d/host.conf.1~").write_text(
        "LoadCredential=gone:/etc/submitward/secrets/gone\n"
    )
    told = {
        "submitward_secrets": {"directory": "kept to itself", "redis": "kept to itself"},
        "submitward_settings": SETTINGS,
        "submitward_environment": "lab",
        "submitward_home": str(home),
        "submitward_units_home": str(units),
    }
    role_vars = [yaml.safe_load((ROLE / part / "main.yml").read_text()) for part in ("defaults", "vars")]
    drop_ins = {
        "name": "drop-ins",
        "ansible.builtin.template": {
            "src": str(ROLE / "templates/host.conf.j2"), "dest": str(tmp_path / "{{ item }}"), "mode": "0644",
        },
        "loop": kinds,
        "vars": {**role_vars[0], **role_vars[1], **told},
    }  # fmt: skip
    done = play(tmp_path, [role("prune", **told), drop_ins])
    assert done.returncode == 0, done.stdout
    left = sorted(path.name for path in (home / "secrets").iterdir())
    assert left == ["by-hand", "directory", "in.a.file", "redis"]
    written = {kind: (tmp_path / kind).read_text() for kind in kinds}
    assert all(
        "LoadCredential=directory:/etc/submitward/secrets/directory\n" in text for text in written.values()
    )
    assert [kind for kind in kinds if "LoadCredential=redis:" in written[kind]] == kinds[:3]
