"""check.yml: what `submitward check` finds is shown, and errors are no success."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.tasks import play
from tests.deploy.variables import ANSIBLE


def tasks(check: Path) -> list[dict[str, Any]]:
    """Those after the probe, with another program in the place of ours."""
    ((_, look, *others),) = (
        each["tasks"] for each in yaml.safe_load((ANSIBLE / "playbooks/check.yml").read_text())
    )
    look["ansible.builtin.command"]["argv"] = look["ansible.builtin.command"]["argv"].replace(
        "/opt/submitward/current/bin/submitward", str(check)
    )
    return [look, *others]


@pytest.mark.parametrize(("status", "ends"), [(0, 0), (1, 2)])
def test_what_is_found_is_shown_and_decides(tmp_path: Path, status: int, ends: int) -> None:
    check = tmp_path / "check"
    check.write_text(f'#!/bin/sh\necho "$@"; echo "error       main.cf: broken" >&2; exit {status}\n')
    check.chmod(0o755)
    done = play(tmp_path, tasks(check))
    assert done.returncode == ends, done.stdout + done.stderr
    assert "check --postfix /etc/postfix" in done.stdout
    assert "main.cf: broken" in done.stdout
    assert (f"ended with {status}" in done.stdout) == (ends != 0)


def test_what_postfix_is_not_to_ask_is_not_missed(tmp_path: Path) -> None:
    check = tmp_path / "check"
    check.write_text('#!/bin/sh\necho "$@"\n')
    check.chmod(0o755)
    done = play(tmp_path, tasks(check), "-e", "submitward_postfix_policy=false submitward_postfix_milter=no")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "check --postfix /etc/postfix --without policyd --without milter" in done.stdout
