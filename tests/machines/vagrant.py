"""The Vagrantfile's table, and what Vagrant would do with it in machines that have no hypervisor.

Knows the file and Vagrant's provisioner ansible_local. Must not know what is tested.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.machines.deployment import ROOT
from tests.machines.machine import Machine, MachineError

FILE = ROOT / "Vagrantfile"
PLAYBOOK = "ansible/playbooks/lab.yml"
VARIABLES = "--extra-vars=@/vagrant/ansible/playbooks/lab/variables.yml"

_ROW = re.compile(r'name: "(\w+)", +ip: "([\d.]+)",.*autostart: (\w+),.*group: "(\w+)"')


@dataclass(frozen=True)
class Row:
    """One machine of the table."""

    name: str
    address: str
    starts: bool
    group: str


def table() -> list[Row]:
    """Every machine, in the order of the file."""
    found = _ROW.findall(FILE.read_text())
    return [Row(name, address, starts == "true", group) for name, address, starts, group in found]


def provision(machine: Machine, row: Row) -> None:
    """What ansible_local does: Ansible from Debian, an inventory of the machine alone, and the playbook.

    Raises MachineError when that fails.
    """
    machine.shell("apt-get --quiet=2 --yes --no-install-recommends install ansible-core sudo")
    inventory = "/tmp/vagrant-ansible/inventory"
    lines = f"{row.name} ansible_connection=local\n\n[{row.group}]\n{row.name}\n"
    machine.shell(f"mkdir -p {inventory}")
    machine.run("tee", f"{inventory}/vagrant_ansible_local_inventory", stdin=lines)
    said = machine.shell(
        "cd /vagrant; PYTHONUNBUFFERED=1 LC_ALL=C.UTF-8 ansible-playbook"
        f" --limit={row.name} --inventory-file={inventory} '{VARIABLES}' {PLAYBOOK} 2>&1"
    )
    if f"{row.name} " not in said.partition("PLAY RECAP")[2]:
        raise MachineError(f"{row.name} was not provisioned:\n{said}")  # no host matched: that is status 0
