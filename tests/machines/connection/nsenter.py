"""Ansible's way into a machine that is not on any network: nsenter(1) into its namespaces."""

from __future__ import annotations

DOCUMENTATION = """
    name: nsenter
    short_description: run in the namespaces of a booted machine
    description:
      - Runs commands in the namespaces of a process of this host.
    author: The Submitward authors
    options:
      leader:
        description: The process whose namespaces are entered.
        vars:
          - name: machine_leader
"""

import subprocess

from ansible.errors import AnsibleError
from ansible.plugins.connection import ConnectionBase

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}


class Connection(ConnectionBase):
    """One machine; nothing is kept between two commands."""

    transport = "nsenter"
    has_pipelining = True

    def _connect(self):
        self._connected = True
        return self

    def close(self):
        """There is nothing to close."""
        self._connected = False

    def _run(self, command, data):
        leader = str(self.get_option("leader"))
        enter = ["nsenter", "-t", leader, "-m", "-u", "-i", "-n", "-p", "--", "/bin/sh", "-c", command]
        done = subprocess.run(
            enter, input=data or b"", capture_output=True, check=False, env=ENVIRONMENT, cwd="/"
        )
        return done.returncode, done.stdout, done.stderr

    def exec_command(self, cmd, in_data=None, sudoable=True):
        """Run a command."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._run(cmd, in_data)

    def put_file(self, in_path, out_path):
        """Copy a file into the machine."""
        with open(in_path, "rb") as file:
            status, _, said = self._run(f"cat > '{out_path}'", file.read())
        if status:
            raise AnsibleError(f"{out_path}: {said.decode(errors='replace')}")

    def fetch_file(self, in_path, out_path):
        """Copy a file out of the machine."""
        status, content, said = self._run(f"cat '{in_path}'", b"")
        if status:
            raise AnsibleError(f"{in_path}: {said.decode(errors='replace')}")
        with open(out_path, "wb") as file:
            file.write(content)
