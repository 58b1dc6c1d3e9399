"""The machine that the relays have in common: a slapd with the story's people, and a Redis.

Knows how both are set up on Debian. Must not know who asks them.
"""

from __future__ import annotations

import secrets
from typing import Any

from tests.lab.certificates import fingerprint
from tests.lab.files import Places
from tests.lab.ldap import entries
from tests.ldap.slapd import BASE, CONF, SERVICE, TLS
from tests.machines.machine import Machine

_INSTALL = """
ln -s /dev/null /etc/systemd/system/slapd.service
echo "slapd slapd/no_configuration boolean true" | debconf-set-selections
DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 --yes --no-install-recommends install slapd redis-server
mkdir -p /srv/ldap/db
"""
_START = """
slapadd -q -f /srv/ldap/slapd.conf -l /srv/ldap/people.ldif
systemd-run --quiet --unit=directory slapd -d 0 -f /srv/ldap/slapd.conf -h ldaps://{address}
systemctl restart redis-server.service
"""


class Backend:
    """Directory and Redis on `machine`, whose name in the network is ``backend.example.org``."""

    def __init__(self, machine: Machine, places: Places, logins: dict[str, str]) -> None:
        self.machine, self._places, self._logins = machine, places, logins
        self.secret = secrets.token_hex(12)

    def make(self) -> None:
        """Install, fill and start both."""
        machine, tls = self.machine, self._places.tls
        machine.shell(_INSTALL)
        home = machine.tree / "srv/ldap"
        for name in ("ca.crt", "directory.crt", "directory.key"):
            (home / name).write_bytes((tls / name).read_bytes())
        here = "/srv/ldap"
        secured = TLS.format(ca=f"{here}/ca.crt", cert=f"{here}/directory.crt", key=f"{here}/directory.key")
        (home / "slapd.conf").write_text(CONF.format(home=here, base=BASE, service=SERVICE, tls=secured))
        people = entries(self._logins, fingerprint(tls / "printer.crt"))
        (home / "people.ldif").write_text("".join(people))
        with (machine.tree / "etc/redis/redis.conf").open("a") as redis:
            redis.write(f"bind {machine.place.address}\nrequirepass {self.secret}\n")
        machine.shell(_START.format(address=machine.place.address))

    @property
    def variables(self) -> dict[str, Any]:
        """What the inventory says of them."""
        ldap = {
            "preset": "openldap",
            "servers": ["ldaps://backend.example.org"],
            "ca_file": "/etc/ssl/certs/lab.pem",
            "bind_dn": SERVICE,
            "password": {"credential": "directory"},
            "base": BASE,
            "attributes": {"plan": ["mailPlan"]},
        }
        redis = {"url": "redis://backend.example.org:6379/0", "password": {"credential": "redis"}}
        return {
            "submitward_settings": {
                "directory": {"kind": "ldap", "ldap": ldap},
                "ledger": {"kind": "redis", "redis": redis},
            },
            "submitward_secrets": {"directory": "lab", "redis": self.secret},
            "submitward_backend_networks": [self.machine.place.address],
        }
