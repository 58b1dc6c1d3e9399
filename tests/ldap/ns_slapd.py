"""A 389 Directory Server of our own: private files, free ports, TLS from a test CA, a handful of people.

dscreate wants systemd and /etc/dirsrv; ns-slapd itself needs only a dse.ldif, which is made here from the
template that the package ships. It runs in the foreground and is ended by its process id.
"""

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.ldap.slapd import BASE, PATH, SERVICE, SERVICE_PASSWORD, dn_of, free_port, ldif, password

SHARE = Path("/usr/share/dirsrv")
CERTMAP = "certmap default default\ndefault:DNComps\ndefault:FilterComps e, uid\n"
ROOT, ROOT_PASSWORD = "cn=Directory Manager", "directory-manager"
SUBMITTERS = f"cn=submitters,ou=groups,{BASE}"
ATTEMPTS = 3  # wrong passwords until the server locks an account
#: What a site adds to the schema of 389ds: attributes that its settings name, and a class that may hold them.
SCHEMA = """dn: cn=schema
attributeTypes: ( 2.25.1 NAME 'mailDelegate' EQUALITY distinguishedNameMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 )
attributeTypes: ( 2.25.2 NAME 'termsAccepted' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributeTypes: ( 2.25.3 NAME 'mailPlan' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectClasses: ( 2.25.4 NAME 'mailUser' AUXILIARY MAY ( mailDelegate $ termsAccepted $ mailPlan ) )
"""
#: What differs from the template: entry, then lines that take the place of the attributes they name.
CHANGES = {
    "dn: cn=config": (
        "nsslapd-listenhost: 127.0.0.1",
        "nsslapd-securelistenhost: 127.0.0.1",
        "nsslapd-security: on",
        "nsslapd-syntaxcheck: on",
        "passwordLockout: on",
        f"passwordMaxFailure: {ATTEMPTS}",
        "passwordExp: on",
        "nsslapd-errorlog-maxlogsperdir: 1",
    ),
    "dn: cn=MemberOf Plugin,cn=plugins,cn=config": (
        "nsslapd-pluginenabled: on",
        "memberofautoaddoc: nsMemberOf",
    ),
    "dn: cn=config,cn=ldbm database,cn=plugins,cn=config": ("nsslapd-cache-autosize: 0",),
}
ACCESS = (
    f'(targetattr != "userPassword")(version 3.0; acl "service"; allow (read, search, compare)'
    f' userdn = "ldap:///{SERVICE}";)'
)


def person(login, mail, **values):
    """Somebody; `mail` may be none, one or a list of addresses."""
    return ldif(
        dn_of(login),
        objectClass=["inetOrgPerson", "mailRecipient", "mailUser", *values.pop("classes", [])],
        uid=login,
        cn=values.pop("cn", login),
        sn=login,
        userPassword=values.pop("secret", password(login)),
        **({"mail": mail} if mail else {}),
        **values,
    )


def people():
    """Everybody, and what makes somebody special."""
    yield ldif(BASE, objectClass=["domain"], dc="example", aci=ACCESS)
    for ou in ("people", "groups", "services", "hosts", "domains"):
        yield ldif(f"ou={ou},{BASE}", objectClass="organizationalUnit", ou=ou)
    yield ldif(
        SERVICE,
        objectClass=["applicationProcess", "simpleSecurityObject"],
        cn="submitward",
        userPassword=SERVICE_PASSWORD,
    )
    yield person("alice", "alice@example.org", mailAlternateAddress=["a.lice@example.org", "ally"])
    yield person("bob", ["bob@example.org", "bob@example.com"], mailDelegate=dn_of("alice"))
    yield person("carol", "carol@example.org", mailPlan="staff", termsAccepted="2026-01")
    yield person("dora", "dora@example.org", nsAccountLock="true")
    yield person("erin", "erin@example.org")
    yield person("lou", "lou@example.org")
    yield person("old", "old@example.org", passwordExpirationTime="20200101000000Z")
    yield person("reset", "reset@example.org")
    yield person("joerg", "joerg@example.org", cn="Jörg Müßig", secret="pässwörd".encode())
    yield person("twin1", "twin@example.org")
    yield person("twin2", "twin@example.org")
    yield person("poor", "")
    yield ldif(
        f"dc=example.net,ou=domains,{BASE}",
        objectClass=["domain", "domainRelatedObject"],
        dc="example.net",
        associatedDomain="example.org",
    )
    classes = ["device", "ipHost", "mailRecipient"]
    address = {"ipHostNumber": "192.0.2.10", "mail": "printer@example.org"}
    yield ldif(f"cn=printer,ou=hosts,{BASE}", objectClass=classes, cn="printer", **address)
    known = {"serialNumber": "AB" * 32, "associatedDomain": "example.org"}
    classes = ["device", "domainRelatedObject"]
    yield ldif(f"cn=web,ou=hosts,{BASE}", objectClass=classes, cn="web", **known)
    for name, members, more in (
        ("north", [dn_of("carol")], {"mail": "north@example.org"}),
        ("sales", [dn_of("alice"), f"cn=north,ou=groups,{BASE}"], {"mail": "sales@example.org"}),
        (
            "staff",
            [dn_of(one) for one in ("alice", "bob", "dora", "lou", "old", "reset", "joerg", "poor")],
            {},
        ),
        ("submitters", [f"cn=staff,ou=groups,{BASE}", f"cn=north,ou=groups,{BASE}"], {}),
    ):
        classes = ["groupOfNames", "mailGroup"]
        yield ldif(f"cn={name},ou=groups,{BASE}", objectClass=classes, cn=name, member=members, **more)


class NsSlapd:
    """One 389ds in `home`, whose path must be short enough for a UNIX socket."""

    def __init__(self, home: Path, authority):
        self.home = home
        self.authority = authority
        self.port, self.tls_port = free_port(), free_port()
        self.url = f"ldap://127.0.0.1:{self.port}"
        self.tls_url = f"ldaps://127.0.0.1:{self.tls_port}"
        self._process = None

    def make(self):
        """Write its configuration, certificates and schema."""
        if not shutil.which("ns-slapd", path=PATH):
            raise RuntimeError("ns-slapd is missing: apt-get install 389-ds-base (script/bootstrap does)")
        for name in ("config/schema", "db", "log", "run", "lock", "ldif", "bak", "tmp"):
            (self.home / name).mkdir(parents=True)
        config = self.home / "config"
        (config / "dse.ldif").write_text(self._dse())
        (config / "certmap.conf").write_text(CERTMAP)
        shutil.copy("/etc/dirsrv/config/slapd-collations.conf", config)
        (config / "schema" / "99user.ldif").write_text(SCHEMA)
        self._keep_certificates(config)
        return self

    def _dse(self):
        """The template of the package with our places in it."""
        places = {
            "schema_dir": self.home / "config" / "schema",
            "config_dir": self.home / "config",
            "cert_dir": self.home / "config",
            "inst_dir": self.home,
            "db_home_dir": self.home / "db",
            **{
                f"{name}_dir": self.home / name for name in ("db", "log", "run", "lock", "ldif", "bak", "tmp")
            },
            "fqdn": "localhost",
            "ds_port": self.port,
            "ds_user": "root",
            "rootdn": ROOT,
            "ds_passwd": "{SSHA}" + _hashed(ROOT_PASSWORD),
            "ds_suffix": BASE,
            "ds_bename": "userRoot",
            "ldapi_enabled": "off",
            "ldapi": self.home / "ldapi",
            "ldapi_autobind": "off",
            "db_lib": "bdb",
        }
        templates = ("template-dse.ldif", "template-suffix-db.ldif")
        text = "\n".join((SHARE / "data" / name).read_text() for name in templates)
        for name, value in places.items():
            text = text.replace(f"%{name}%", str(value))
        changes = {dn: list(lines) for dn, lines in CHANGES.items()}
        changes["dn: cn=config"].append(f"nsslapd-securePort: {self.tls_port}")
        return "\n\n".join(_changed(entry, changes) for entry in text.split("\n\n"))

    def _keep_certificates(self, config):
        """NSS has a store of its own for keys and CAs."""
        place, store = self.authority.directory / "good", f"sql:{config}"
        bundle = str(config / "server.p12")
        self._run("certutil", "-N", "--empty-password", "-d", store)
        self._run("certutil", "-A", "-d", store, "-n", "CA", "-t", "CT,,", "-i", str(self.authority.ca))
        pair = ("-in", f"{place}.crt", "-inkey", f"{place}.key")
        self._run(
            "openssl", "pkcs12", "-export", *pair, "-name", "Server-Cert", "-passout", "pass:", "-out", bundle
        )
        self._run("pk12util", "-i", bundle, "-d", store, "-W", "")

    def start(self):
        """Returns when it answers."""
        self._process = subprocess.Popen(
            ["ns-slapd", "-D", str(self.home / "config"), "-i", str(self.home / "run" / "pid"), "-d", "0"],
            env={**os.environ, "PATH": PATH},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                said = (self.home / "log" / "errors").read_text()[-3000:]
                raise RuntimeError(f"ns-slapd does not start in {self.home}: {said}")
            time.sleep(0.1)
        return self

    def _answers(self):
        asked = ("ldapsearch", "-x", "-H", self.url, "-s", "base", "-b", "", "1.1")
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    def fill(self):
        """Add everybody, over the wire: so that the memberOf plug-in sees them."""
        self.change("ldapadd", "".join(people()))
        self.modify("cn=config", "replace: passwordMustChange", "passwordMustChange: on")
        self.modify(dn_of("reset"), "replace: userPassword", "userPassword: " + password("reset").decode())
        return self

    def change(self, command, text):
        """ldapadd, ldapmodify or ldapdelete as the directory manager."""
        self._run(command, "-H", self.url, "-x", "-D", ROOT, "-w", ROOT_PASSWORD, stdin=text)

    def modify(self, dn, *lines):
        self.change("ldapmodify", "\n".join([f"dn: {dn}", "changetype: modify", *lines, ""]))

    def _run(self, *command, stdin=""):
        environ = {**os.environ, "PATH": PATH}
        done = subprocess.run(command, input=stdin, text=True, capture_output=True, env=environ, check=False)
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr[-2000:]}")

    def stop(self):
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None


def _hashed(secret, salt=b"saltsalt"):
    """As dse.ldif wants it: not in clear text."""
    return base64.b64encode(hashlib.sha1(secret.encode() + salt).digest() + salt).decode()


def _changed(entry, changes):
    """An entry of dse.ldif with other values for some attributes."""
    lines = entry.strip().splitlines()
    head = next((line for line in lines if line.startswith("dn:")), "")
    new = changes.get(head, [])
    names = tuple(f"{line.partition(':')[0].lower()}:" for line in new)
    return "\n".join([*(line for line in lines if not names or not line.lower().startswith(names)), *new])
