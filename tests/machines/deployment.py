"""The playbooks, run against machines; and the mail host that they find there.

Knows ansible-playbook and what a plain Debian Postfix looks like. Must not know what is tested.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.machines.machine import Machine

ROOT = Path(__file__).resolve().parents[2]
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
#: What an operator has before us: Debian's Postfix with names of its own, a certificate, and nobody trusted.
_MAIL_HOST = """
debconf-set-selections <<EOF
postfix postfix/main_mailer_type select Internet Site
postfix postfix/mailname string relay.example.org
EOF
export DEBIAN_FRONTEND=noninteractive
apt-get --quiet=2 --yes --no-install-recommends install postfix ca-certificates
install -d -m 755 /etc/postfix/tls
"""


@dataclass(frozen=True)
class Played:
    """A run of a playbook: its output, and ``{host: changed}``."""

    status: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """How many tasks changed something, by host."""
        return {found[1]: int(found[3]) for found in _RECAP.finditer(self.output)}


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What differs between two snapshots."""
    names = sorted(before.keys() | after.keys())
    pairs = {name: (before.get(name, "not there"), after.get(name, "not there")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def make_mail_host(machine: Machine, tls: Path, sink: str) -> None:
    """Install Postfix in a machine and set it up as somebody would who does not know us.

    `sink`: where all its mail goes, ``[address]:port``.
    """
    machine.shell(_MAIL_HOST)
    (machine.tree / "etc/ssl/certs/lab.pem").write_bytes((tls / "ca.crt").read_bytes())
    for name in ("server.crt", "server.key"):
        (machine.tree / "etc/postfix/tls" / name).write_bytes((tls / name).read_bytes())
    main = machine.tree / "etc/postfix/main.cf"
    text = main.read_text()
    values = {
        "myhostname": "relay.example.org",
        "mydestination": "localhost",
        "relay_domains": "example.org, example.net",
        "mynetworks": "192.0.2.0/24",
        "relayhost": sink,
        # What could not go out at once goes a moment later: nobody waits five minutes for a queue run here.
        "queue_run_delay": "3s",
        "minimal_backoff_time": "3s",
        "inet_protocols": "ipv4",
        "smtpd_tls_security_level": "may",  # Debian 13 sets it only beside a snakeoil key
        "smtpd_tls_cert_file": "/etc/postfix/tls/server.crt",
        "smtpd_tls_key_file": "/etc/postfix/tls/server.key",
        "smtpd_relay_restrictions": "permit_mynetworks permit_sasl_authenticated reject_unauth_destination",
        "smtpd_helo_required": "yes",
        "smtpd_data_restrictions": (
            "reject_unauth_pipelining,\n    # bounces have one recipient\n    reject_multi_recipient_bounce"
        ),
        "smtp_dns_support_level": "disabled",
        "smtpd_peername_lookup": "no",
        "append_dot_mydomain": "no",
        "smtp_tls_security_level": "none",
        "notify_classes": "",
    }
    for name in values:
        text = re.sub(rf"(?m)^{name}\s*=.*\n", "", text)
    text += "".join(f"{name} = {value}\n" for name, value in values.items())
    main.write_text(text)
    machine.run("systemctl", "restart", "postfix.service")


def play(
    playbook: str, machines: list[Machine], variables: Mapping[str, Any], directory: Path, *options: str
) -> Played:
    """Run one of the playbooks against machines."""
    hosts = {
        machine.name: {
            "machine_leader": machine.leader,
            "ansible_connection": "nsenter",
            "ansible_become": False,  # we are root there, and it has no sudo
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        for machine in machines
    }
    inventory = directory / "inventory.yml"
    inventory.write_text(yaml.safe_dump({"mtas": {"hosts": hosts, "vars": dict(variables)}}))
    environment = {
        **os.environ,
        "ANSIBLE_CONNECTION_PLUGINS": str(Path(__file__).parent / "connection"),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "LC_ALL": "C.UTF-8",
    }
    ansible = os.environ.get("SUBMITWARD_ANSIBLE") or str(Path(sys.executable).parent / "ansible-playbook")
    command = [ansible, "-i", str(inventory), str(ROOT / f"ansible/playbooks/{playbook}.yml"), *options]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, check=False
    )
    return Played(done.returncode, done.stdout + done.stderr)
