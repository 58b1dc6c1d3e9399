"""A slapd of our own: private files, free ports, TLS from a test CA, ppolicy and memberOf, 1,000 users.

Not a system service: it is started in the foreground and ended by its process id.
"""

import base64
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

BASE = "dc=example,dc=org"
SERVICE = f"cn=submitward,ou=services,{BASE}"
SERVICE_PASSWORD = "service-password"
USERS = 1000
DOMAINS = ("example.org", "example.com", "example.edu")
SUBMITTERS = f"cn=submitters,ou=groups,{BASE}"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

CONF = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/misc.schema
attributetype ( 1.3.6.1.4.1.7914.1.2.1.4 NAME 'mailAlternateAddress' EQUALITY caseIgnoreIA5Match
  SUBSTR caseIgnoreIA5SubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.26{{256}} )
attributetype ( 2.25.1 NAME 'mailDelegate' EQUALITY distinguishedNameMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 )
attributetype ( 2.25.2 NAME 'termsAccepted' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 2.25.3 NAME 'mailPlan' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 2.25.4 NAME 'mailUser' AUXILIARY
  MAY ( mail $ mailAlternateAddress $ mailDelegate $ termsAccepted $ mailPlan ) )
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
moduleload memberof
pidfile {home}/slapd.pid
argsfile {home}/slapd.args
threads 4
allow bind_v2
{tls}
database mdb
suffix "{base}"
rootdn "cn=root,{base}"
rootpw root
directory {home}/db
maxsize 268435456
dbnosync
index objectClass,uid,mail,mailAlternateAddress,member,memberOf,associatedDomain eq
overlay ppolicy
ppolicy_default "cn=default,ou=policies,{base}"
ppolicy_use_lockout
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{service}" read by self read by * none
limits dn.exact="{service}" size=unlimited
"""
TLS = """TLSCACertificateFile {ca}
TLSCertificateFile {cert}
TLSCertificateKeyFile {key}
"""


def user(index):
    """The login of the user with this number."""
    return f"user{index:04d}"


def password(login):
    """The password of a login."""
    return f"secret-{login}".encode()


def dn_of(login):
    return f"uid={login},ou=people,{BASE}"


def ldif(dn, **values):
    """An LDIF record; values are texts, bytes or lists of them."""
    lines = [f"dn: {dn}" if dn.isascii() else f"dn:: {base64.b64encode(dn.encode()).decode()}"]
    for name, value in values.items():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            raw = one if isinstance(one, bytes) else one.encode()
            lines.append(f"{name}:: {base64.b64encode(raw).decode()}")
    return "\n".join(lines) + "\n\n"


def person(login, mail, *, secret=None, **values):
    classes = ["inetOrgPerson", "mailUser", *values.pop("classes", [])]
    return ldif(
        dn_of(login),
        objectClass=classes,
        uid=values.pop("uid", login),
        cn=login,
        sn=login,
        userPassword=password(login) if secret is None else secret,
        **({"mail": mail} if mail else {}),
        **values,
    )


def people():
    """Everybody, and what makes somebody special."""
    yield ldif(BASE, objectClass=["dcObject", "organization"], dc="example", o="Example")
    for ou in ("people", "groups", "services", "hosts", "domains", "policies"):
        yield ldif(f"ou={ou},{BASE}", objectClass="organizationalUnit", ou=ou)
    yield ldif(
        SERVICE,
        objectClass=["device", "simpleSecurityObject"],
        cn="submitward",
        userPassword=SERVICE_PASSWORD,
    )
    yield ldif(
        f"cn=default,ou=policies,{BASE}",
        objectClass=["device", "pwdPolicy"],
        cn="default",
        pwdAttribute="userPassword",
        pwdLockout="TRUE",
        pwdMaxFailure="5",
        pwdLockoutDuration="600",
        pwdMustChange="TRUE",
    )
    for index in range(USERS):
        domain = DOMAINS[index % 3]
        login = user(index)
        yield person(login, f"{login}@{domain}", mailAlternateAddress=f"u{index}@{domain}")
    yield person(
        "alice",
        "alice@example.org",
        mailAlternateAddress=["a.lice@example.org", "ally"],
        termsAccepted="2026-01",
        mailPlan="staff",
    )
    yield person("bob", "bob@example.com", mailDelegate=dn_of("alice"), termsAccepted="2024-01")
    yield person("erin", "erin@example.org")
    yield person("dora", "dora@example.org", pwdAccountLockedTime="000001010000Z")
    yield person("egon", "egon@example.org", classes=["shadowAccount"], shadowExpire="1000")
    yield person("reset", "reset@example.org", pwdReset="TRUE")
    yield person("poor", "")
    yield person("jörg", "joerg@example.org", secret="pässwörd".encode())
    yield person("latin", "latin@example.org", secret="pässwörd".encode("latin-1"))
    yield person("twin1", "twin@example.org")
    yield person("twin2", "twin@example.org")
    yield person("fred", "Fred@EXAMPLE.org", mailDelegate=[dn_of("bob")])
    yield person("lead", "lead@example.edu", classes=["domainRelatedObject"], associatedDomain="example.edu")
    yield ldif(
        f"dc=example.net,ou=domains,{BASE}",
        objectClass="dNSDomain",
        dc="example.net",
        cNAMERecord="example.org",
    )
    yield ldif(
        f"dc=example.info,ou=domains,{BASE}",
        objectClass="dNSDomain",
        dc="example.info",
        cNAMERecord="example.com",
    )
    yield host("printer", ipHostNumber="192.0.2.10", mailLocalAddress="printer@example.org")
    yield host("net", ipHostNumber="198.51.100.0/24", associatedDomain="example.com any")
    yield host("web", serialNumber="AB" * 32, associatedDomain="example.org")


def host(name, **values):
    classes = ["device"]
    if "ipHostNumber" in values:
        classes.append("ipHost")
    if "mailLocalAddress" in values:
        classes.append("inetLocalMailRecipient")
    if "associatedDomain" in values:
        classes.append("domainRelatedObject")
    return ldif(f"cn={name},ou=hosts,{BASE}", objectClass=classes, cn=name, **values)


def groups():
    """After the start, so that the memberOf overlay sees them."""
    everyone = [user(index) for index in range(USERS)]
    some = ["alice", "bob", "dora", "egon", "reset", "jörg", "latin", "fred", "lead", "poor", *everyone]
    yield ldif(
        SUBMITTERS, objectClass="groupOfNames", cn="submitters", member=[dn_of(login) for login in some]
    )
    yield ldif(
        f"cn=sales,ou=groups,{BASE}",
        objectClass=["groupOfNames", "mailUser"],
        cn="sales",
        mail="sales@example.org",
        member=[dn_of("alice"), dn_of("bob"), dn_of("poor")],
    )


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Slapd:
    """One slapd in `home`; `certificate` is the label of what the authority issued, "" for no TLS at all."""

    def __init__(self, home: Path, authority, *, certificate="good", stats=False):
        self.home = home
        self.stats = home / "stats" if stats else None  # where it says what it is asked
        self.authority = authority
        self.port, self.tls_port = free_port(), free_port()
        self.ldapi = f"ldapi://{str(home / 'ldapi').replace('/', '%2F')}"
        self.url = f"ldap://127.0.0.1:{self.port}"
        self.tls_url = f"ldaps://127.0.0.1:{self.tls_port}"
        self._process = None
        self.certificate = certificate

    def make(self):
        """Fill the database."""
        if not shutil.which("slapd", path=PATH):
            raise RuntimeError("slapd is missing: apt-get install slapd ldap-utils (script/bootstrap does)")
        (self.home / "db").mkdir(parents=True)
        self.configure(self.certificate)
        self._run("slapadd", "-q", "-f", self.conf, stdin="".join(people()))
        return self

    @property
    def conf(self):
        return str(self.home / "slapd.conf")

    def reconfigure(self, old, new):
        """Restart with `new` in place of `old` in slapd.conf."""
        self.stop()
        path = Path(self.conf)
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        self.start()

    def configure(self, certificate):
        """Write slapd.conf with this certificate; it counts from the next start on."""
        self.certificate = certificate
        tls = ""
        if certificate:
            place = self.authority.directory / certificate
            tls = TLS.format(
                ca=self.authority.ca, cert=place.with_suffix(".crt"), key=place.with_suffix(".key")
            )
        Path(self.conf).write_text(CONF.format(home=self.home, base=BASE, service=SERVICE, tls=tls))

    def start(self):
        urls = [self.url, self.ldapi, *([self.tls_url] if self.certificate else [])]
        with open(self.stats or os.devnull, "ab") as said:
            self._process = subprocess.Popen(
                ["slapd", "-f", self.conf, "-h", " ".join(urls), "-d", "256" if self.stats else "0"],
                env={**os.environ, "PATH": PATH},
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"slapd does not start in {self.home}") from None
                time.sleep(0.02)

    def add_groups(self):
        self.change("ldapadd", "".join(groups()))

    def change(self, command, text):
        """ldapadd, ldapmodify or ldapdelete as root."""
        self._run(command, "-H", self.ldapi, "-x", "-D", f"cn=root,{BASE}", "-w", "root", stdin=text)

    def modify(self, dn, *lines):
        self.change("ldapmodify", "\n".join([f"dn: {dn}", "changetype: modify", *lines, ""]))

    def operational(self, dn):
        """What slapd itself keeps with an entry, as LDIF."""
        asked = ("ldapsearch", "-LLL", "-H", self.ldapi, "-x", "-D", f"cn=root,{BASE}", "-w", "root")
        return self._run(*asked, "-s", "base", "-b", dn, "+")

    def _run(self, *command, stdin=""):
        done = subprocess.run(
            command,
            input=stdin,
            text=True,
            capture_output=True,
            env={**os.environ, "PATH": PATH},
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr[-2000:]}")
        return done.stdout

    @property
    def pid(self):
        return self._process.pid

    def stop(self):
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def freeze(self):
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self._process.send_signal(signal.SIGCONT)
