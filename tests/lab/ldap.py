"""The lab's people in a slapd instead of a YAML file: the same logins, aliases, printer and application host.

Knows slapd's files and command line. Must not know the story.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.lab.certificates import fingerprint
from tests.lab.files import APPLICATION_HOST, Places
from tests.ldap.slapd import BASE, CONF, PATH, SERVICE, TLS, free_port, host, ldif, person


class Slapd:
    """The slapd of the lab at `places`: over TLS, in plain text for StartTLS, and a socket for its keeper."""

    def __init__(self, places: Places) -> None:
        self.home: Path = places.directory / "ldap"
        self.port, self.plain_port = free_port(), free_port()
        self.keeper = f"ldapi://{str(self.home / 'ldapi').replace('/', '%2F')}"
        self._places = places
        self._has_tls = True

    @property
    def command(self) -> list[str]:
        """What starts it, in the foreground."""
        urls = [f"ldap://127.0.0.1:{self.plain_port}", self.keeper]
        urls += [f"ldaps://127.0.0.1:{self.port}"] if self._has_tls else []
        return ["slapd", "-f", str(self.home / "slapd.conf"), "-h", " ".join(urls), "-d", "0"]

    def make(self, logins: dict[str, str]) -> dict[str, Any]:
        """Write configuration and entries; returns the section ``directory`` of the settings."""
        tls = self._places.tls
        (self.home / "db").mkdir(parents=True)
        self.configure(tls / "ca.crt", tls / "server")
        people = "".join(entries(logins, fingerprint(tls / "printer.crt")))
        self._run("slapadd", "-q", "-f", str(self.home / "slapd.conf"), text=people)
        secret = self.home / "secret"
        secret.write_text("lab\n")
        secret.chmod(0o600)
        ldap = {
            "preset": "openldap",
            "servers": [f"ldaps://127.0.0.1:{self.port}"],
            "ca_file": str(tls / "ca.crt"),
            "bind_dn": SERVICE,
            "password": {"file": str(secret)},
            "base": BASE,
            "attributes": {"plan": ["mailPlan"]},
        }
        return {"kind": "ldap", "ldap": ldap}

    def configure(self, ca: Path, certificate: Path | None) -> None:
        """Write slapd.conf with a certificate (its .crt and .key), None for no TLS; it counts at a start."""
        tls = ""
        if certificate is not None:
            cert, key = certificate.with_suffix(".crt"), certificate.with_suffix(".key")
            tls = TLS.format(ca=ca, cert=cert, key=key)
        self._has_tls = certificate is not None
        conf = CONF.format(home=self.home, base=BASE, service=SERVICE, tls=tls)
        (self.home / "slapd.conf").write_text(conf)

    def change(self, command: str, text: str) -> None:
        """ldapadd, ldapmodify or ldapdelete as its keeper."""
        self._run(command, "-H", self.keeper, "-x", "-D", f"cn=root,{BASE}", "-w", "root", text=text)

    def _run(self, *command: str, text: str) -> None:
        environ = {**os.environ, "PATH": PATH}
        subprocess.run(command, input=text.encode(), stdout=subprocess.DEVNULL, env=environ, check=True)


def entries(logins: dict[str, str], printer: str) -> list[str]:
    """The story's people and hosts as LDIF; `printer` is the fingerprint of its certificate."""
    top = [ldif(BASE, objectClass=["dcObject", "organization"], dc="example", o="Example")]
    units = [
        ldif(f"ou={ou},{BASE}", objectClass="organizationalUnit", ou=ou)
        for ou in ("people", "services", "hosts", "domains")
    ]
    service = ldif(
        SERVICE, objectClass=["device", "simpleSecurityObject"], cn="submitward", userPassword="lab"
    )
    alias = ldif(
        f"dc=example.net,ou=domains,{BASE}",
        objectClass="dNSDomain",
        dc="example.net",
        cNAMERecord="example.org",
    )
    alice = person(
        "alice",
        "alice@example.org",
        secret=logins["alice"],
        mailAlternateAddress="alice_lastname",
        mailPlan="small",
    )
    bob = person("bob", "bob@example.org", secret=logins["bob"])
    hosts = [
        host("printer", serialNumber=printer, mailLocalAddress="printer@example.org"),
        host("application", ipHostNumber=APPLICATION_HOST, mailLocalAddress="app@example.org"),
    ]
    return [*top, *units, service, alias, alice, bob, *hosts]
