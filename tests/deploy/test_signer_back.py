"""A run that fails takes back what it has written of OpenDKIM's, also a key under the name of another."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.tasks import play, stand_in_for_systemctl
from tests.deploy.variables import ROLE

BEFORE = {
    "opendkim.conf": "# as an older role wrote it\n",
    "opendkim/KeyTable": "x  x:s1:/etc/opendkim/keys/x.s1.private\n",
    "opendkim/SigningTable": "*@x  x\n",
    "opendkim/keys/x.s1.private": "the old key",
}


def elsewhere(host: Path) -> Path:
    """The role, with its hands on a private /etc alone."""
    copied = host / "role"
    shutil.copytree(ROLE, copied)
    for path in (copied / "tasks").glob("*opendkim.yml"):
        text = path.read_text().replace(" /etc/", f" {host}/").replace('"/etc/', f'"{host}/')
        text = text.replace("/var/spool/postfix", str(host / "spool"))
        path.write_text(text.replace("        validate: opendkim -n -x %s\n", ""))
    return copied


def files(host: Path) -> dict[str, str]:
    return {name: (host / name).read_text() for name in BEFORE}


def test_what_a_failed_run_wrote_is_taken_back_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("opendkim/keys", "spool/opendkim", "systemd/system", "kept"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "spool/opendkim/opendkim.sock").touch()
    for name, text in BEFORE.items():
        (tmp_path / name).write_text(text)
    noted = hashlib.sha256(BEFORE["opendkim.conf"].encode()).hexdigest()
    (tmp_path / "kept/written").write_text(noted + "\n")
    stand_in_for_systemctl(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    told: dict[str, Any] = {
        "submitward_opendkim_keys": [
            {"domain": "x", "selector": name, "key": f"the new {name}"} for name in ("s1", "s2")
        ],
        "submitward_signer_conf": str(tmp_path / "opendkim.conf"),
        "submitward_signer_kept": str(tmp_path / "kept"),
        "submitward_signer": {"ours": True},
    }

    copied = str(elsewhere(tmp_path))
    wrote, back = (
        {"ansible.builtin.include_role": {"name": copied, "tasks_from": f"{file}.yml"}, "vars": told}
        for file in ("opendkim", "back_opendkim")
    )
    keep = {
        "ansible.builtin.command": {
            "argv": ["cp", "-r", str(tmp_path / "opendkim"), str(tmp_path / "written")]
        }
    }
    tables_alone = {
        **back,
        "vars": {**told, "submitward_signer_configured": {}, "submitward_signer_keys": {}},
    }
    done = play(tmp_path, [wrote, keep, back, tables_alone])
    assert done.returncode == 0, done.stdout + done.stderr
    # It was written, and read...
    assert "x:s2:" in (tmp_path / "written/KeyTable").read_text()
    assert (tmp_path / "written/keys/x.s1.private").read_text() == "the new s1"
    # ...and is as it was, and read again, and the role's own yet.
    assert files(tmp_path) == BEFORE
    assert sorted(path.name for path in (tmp_path / "opendkim/keys").iterdir()) == [
        "x.s1.private",
        "x.s2.private",
    ]
    assert (tmp_path / "opendkim/keys/x.s1.private").stat().st_mode & 0o777 == 0o600
    calls = [call.split()[0] for call in (tmp_path / "asked").read_text().splitlines()]
    assert [call for call in calls if call in {"restart", "kill"}] == ["restart", "restart", "kill"]
    assert noted in (tmp_path / "kept/written").read_text().split()
