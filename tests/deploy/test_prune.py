"""What nothing on a host needs any more is deleted, and nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.deploy.tasks import play, role


def test_a_secret_that_nothing_names_is_deleted(tmp_path: Path) -> None:
    home, units = tmp_path / "etc", tmp_path / "units"
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
        "submitward_home": str(home),
        "submitward_units_home": str(units),
    }
    done = play(tmp_path, [role("prune", **told)])
    assert done.returncode == 0, done.stdout
    left = sorted(path.name for path in (home / "secrets").iterdir())
    assert left == ["by-hand", "directory", "in.a.file", "redis"]
