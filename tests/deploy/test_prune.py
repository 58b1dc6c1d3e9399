"""What nothing on a host needs any more is deleted, and nothing else."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from tests.deploy.tasks import play, role


def noted(text: str) -> dict[str, str]:
    """What the role reads of its note on the last good run."""
    return {"content": base64.b64encode(f"{text}\n".encode()).decode()}


def test_what_nothing_needs_is_deleted(tmp_path: Path) -> None:
    versions = tmp_path / "versions"
    for at, name in enumerate(["0.1", "0.2", "0.3", "0.4", "0.5", "0.6"]):
        (versions / name).mkdir(parents=True)
        os.utime(versions / name, (1_000_000 + at, 1_000_000 + at))
    (versions / "wheelhouse/0.2").mkdir(parents=True)
    home, units = tmp_path / "etc", tmp_path / "units"
    for place in (home / "secrets", units / "submitward-policy.service.d"):
        place.mkdir(parents=True)
    for name in ("directory", "redis", "gone", "by-hand", "in.a.file", "in.a"):
        (home / "secrets" / name).write_text("kept to itself")
    (home / "config.yaml").write_text(
        "directory: {kind: ldap}\nx: {file: /etc/submitward/secrets/in.a.file}\n"
    )
    for name in ("config.yaml.1~", "config.yaml.2~", "mine.yaml.3~"):
        (home / name).write_text("gone")
        if name != "config.yaml.2~":
            os.utime(home / name, (1_000_000, 1_000_000))
    (units / "submitward-policy.service.d/mine.conf").write_text(
        "LoadCredential=b:/etc/submitward/secrets/by-hand\n"
    )
    (units / "submitward-policy.service.d/host.conf.1~").write_text(
        "LoadCredential=gone:/etc/submitward/secrets/gone\n"
    )
    told = {
        "submitward_secrets": {"directory": "kept to itself", "redis": "kept to itself"},
        "submitward_release": "0.2",
        "submitward_working": noted("0.1 run read 0.0"),
        "submitward_versions": str(versions),
        "submitward_home": str(home),
        "submitward_units_home": str(units),
    }
    done = play(tmp_path, [role("prune", **told)])
    assert done.returncode == 0, done.stdout
    left = sorted(path.name for path in (home / "secrets").iterdir())
    assert left == ["by-hand", "directory", "in.a.file", "redis"]
    assert sorted(path.name for path in versions.iterdir()) == [
        "0.1",
        "0.2",
        "0.4",
        "0.5",
        "0.6",
        "wheelhouse",
    ]
    assert list((versions / "wheelhouse").iterdir()) == []
    assert sorted(path.name for path in home.iterdir()) == [
        "config.yaml",
        "config.yaml.2~",
        "mine.yaml.3~",
        "secrets",
    ]
    again = play(tmp_path, [role("prune", **{**told, "submitward_working": noted("0.2 run read 0.1")})])
    assert "changed=0" in again.stdout, again.stdout
    assert (versions / "0.1").is_dir()
