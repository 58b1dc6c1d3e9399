"""Single task files of the role, played against this machine.

Knows ansible-playbook and where the role is. Must not know what a task file does: whoever calls names
variables and places such that nothing outside of a test's directory is touched.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.variables import ANSIBLE

_ENVIRONMENT = {
    "ANSIBLE_COLLECTIONS_PATH": str(ANSIBLE / "playbooks/collections"),
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_LOCALHOST_WARNING": "0",
    "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
    "LC_ALL": "C.UTF-8",
}


def play(directory: Path, tasks: list[dict[str, Any]], *options: str) -> subprocess.CompletedProcess[str]:
    """Run `tasks` without facts and without another host; `directory` is for the playbook."""
    book = directory / "book.yml"
    book.write_text(
        yaml.safe_dump(
            [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}],
            sort_keys=False,
        )
    )
    ansible = os.environ.get("SUBMITWARD_ANSIBLE") or str(Path(sys.executable).parent / "ansible-playbook")
    return subprocess.run(
        [ansible, str(book), *options], capture_output=True, text=True, check=False, cwd=directory,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT, "HOME": str(directory)},
    )  # fmt: skip


def role(file: str, **variables: Any) -> dict[str, Any]:
    """The task that plays one file of the role."""
    told = {"name": "submitward.relay.submitward", "tasks_from": f"{file}.yml"}
    return {"name": file, "ansible.builtin.include_role": told, "vars": variables}


def stand_in_for_systemctl(directory: Path) -> None:
    """A `systemctl` in `directory` that notes in ``asked`` what it is asked; there is no systemd here."""
    program = directory / "systemctl"
    program.write_text(
        f"""#!/bin/sh
echo "$@" >>{directory}/asked
case $1 in show) printf 'LoadState=loaded\\nActiveState=active\\nUnitFileState=enabled\\n' ;; esac
"""
    )
    program.chmod(0o755)
