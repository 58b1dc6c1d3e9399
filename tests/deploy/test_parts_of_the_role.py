"""Single tasks of the role, played or read by themselves: what half a run has left stops no other run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.tasks import play
from tests.deploy.variables import ROLE


def task(file: str, name: str) -> dict[str, Any]:
    """The task of that name, also in a block."""
    found = yaml.safe_load((ROLE / f"tasks/{file}.yml").read_text())
    inner = [one for each in found for one in each.get("block", [])]
    return next(one for one in (*found, *inner) if one["name"] == name)


def test_what_is_there_is_stopped_and_a_socket_that_waits_is_told(tmp_path: Path) -> None:
    units = ["submitward-policy.service", "submitward-policy.socket", "submitward-reload.service"]
    paths = [f"/etc/systemd/system/{unit}" for unit in (*units, "submitward-policy.service.d")]
    known = {
        "submitward_installed": {"files": [{"path": path} for path in paths], "matched": len(paths)},
        "submitward_units": {"results": [{"item": unit, "changed": True} for unit in units]},
        "submitward_before": "0.1.0",
    }
    stop, tell = task("absent", "Stop them"), task("current", "Say which sockets wait for a quiet hour")
    stop["ansible.builtin.debug"] = {"msg": str(stop.pop("ansible.builtin.systemd_service")["state"])}
    done = play(tmp_path, [{"ansible.builtin.set_fact": known}, stop, tell])
    assert done.returncode == 0, done.stdout
    told = re.findall(r"\(item=(\S+)\)", done.stdout)
    assert told == ["submitward-policy.socket", "submitward-policy.service", "submitward-policy.socket"]
    assert "systemctl restart submitward-policy.socket submitward-policy.service" in done.stdout


def test_users_and_directories_are_made_in_every_run() -> None:
    """A run that broke off between a file and its handler, or before Postfix was there, has made neither."""
    for name, program in (("Make the users", "systemd-sysusers"),
                          ("Make the directories of the sidecars", "systemd-tmpfiles")):  # fmt: skip
        one = task("users", name)
        assert one["ansible.builtin.command"]["argv"][0] == program
        assert (one["when"], one["changed_when"]) == ("not ansible_check_mode", False)


def test_a_host_without_postfix_is_told_so(tmp_path: Path) -> None:
    group = {"ansible.builtin.set_fact": {"submitward_postfix_group": {"rc": 2}}}
    done = play(tmp_path, [group, task("users", "Refuse a host without Postfix")])
    assert done.returncode == 2
    assert "install Postfix first" in done.stdout
