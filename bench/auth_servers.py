"""The servers that are compared: Dovecot's auth and our saslauthd before one slapd, and a Postfix that asks them.

Knows how each is begun, ended and reached. Must not know what is measured. Plain LDAP on loopback for all.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import lateness
from bench.load import children
from tests.ldap.slapd import BASE, SERVICE, SERVICE_PASSWORD, Slapd
from tests.saslauthd.postfix import free_ports, listens

ROOT = Path(__file__).resolve().parents[1]
DOVECOT = """base_dir = {home}/run
state_dir = {home}/run
log_path = {home}/log
protocols =
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
{cache}
service auth {{
  client_limit = 500
  unix_listener auth-client {{
    mode = 0666
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
passdb {{
  driver = ldap
  args = {home}/ldap.conf
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
"""
CACHE = "auth_cache_size = 10M\nauth_cache_ttl = 1 hour\nauth_cache_negative_ttl = 1 hour"
DOVECOT_LDAP = """hosts = 127.0.0.1:{port}
dn = {service}
dnpass = {secret}
auth_bind = yes
ldap_version = 3
base = {base}
pass_filter = (&(objectClass=inetOrgPerson)(uid=%u))
pass_attrs = uid=user
"""
SETTINGS = """version: 1
listen: {{auth: [{{address: "unix:{home}/auth", mode: "0660"}}]}}
directory:
  kind: ldap
  ldap:
    servers: ["{url}"]
    insecure: true
    bind_dn: {service}
    password: {{file: {home}/secret}}
    base: {base}
  cache: {{ttl: 1 h}}
ledger: {{kind: sqlite, sqlite: {{path: {home}/ledger.sqlite}}}}
auth: {{require_tls: false, guard: {{pair: 1000000, network: 1000000, login: 1000000, binds: 1000000{guard}}}, cache: {cache}}}
log: {{level: {level}}}
"""


class Server:
    """One that answers at an auth socket."""

    def __init__(self, home: Path, process: subprocess.Popen[bytes]) -> None:
        self.home = home
        self.process = process
        self.socket = str(next(iter(home.glob("run/auth-client")), home / "auth"))
        self.late = home / "late"

    def pids(self) -> list[int]:
        """Its processes, now."""
        return children(self.process.pid)

    def end(self) -> None:
        """End it, and its children with it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def dovecot(home: Path, slapd: Slapd, *, cache: bool) -> Server:
    """Dovecot's auth: search + auth_bind, with or without its own cache."""
    (home / "run").mkdir(parents=True)
    (home / "ldap.conf").write_text(
        DOVECOT_LDAP.format(port=slapd.port, service=SERVICE, secret=SERVICE_PASSWORD, base=BASE)
    )
    (home / "dovecot.conf").write_text(DOVECOT.format(home=home, cache=CACHE if cache else ""))
    process = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", str(home / "dovecot.conf")])
    wait(home / "run" / "auth-client")
    return Server(home, process)


def saslauthd(
    home: Path, slapd: Slapd, *, successes: str = "0 s", guard: str = "", threads: bool = False
) -> Server:
    """Ours, with the guard's bounds out of the way; `threads`: passwords are checked by ldap3 too."""
    home.mkdir()
    (home / "secret").write_text(SERVICE_PASSWORD)
    (home / "secret").chmod(0o600)
    words = {"home": home, "url": slapd.url, "service": SERVICE, "base": BASE, "guard": guard}
    cache = f"{{failures: 60 s, successes: {successes}}}"
    (home / "config.yaml").write_text(SETTINGS.format(**words, cache=cache, level="warning"))
    command = [sys.executable, "-W", "ignore", "-m", "bench.lateness", str(home / "late"), str(int(threads))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, "--settings", str(home / "config.yaml")], cwd=ROOT, env=environment)
    wait(home / "auth")
    (home / "auth").chmod(0o666)  # smtpd is not root
    server = Server(home, process)
    until = time.monotonic() + 20
    while not lateness.samples(server.late):  # it turns
        if time.monotonic() > until:
            raise RuntimeError("saslauthd does not come up")
        time.sleep(0.05)
    time.sleep(0.5)  # the blocks are read
    return server


def wait(path: Path) -> None:
    """Wait until a socket is there."""
    until = time.monotonic() + 20
    while not path.exists():
        if time.monotonic() > until:
            raise RuntimeError(f"{path} does not appear")
        time.sleep(0.05)


MAIN = """compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/maillog
myhostname = mx.example.org
mydestination =
mynetworks =
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
"""
MASTER = """{services}postlog unix-dgram n - n - 1 postlogd
anvil unix - - n - 1 anvil
rewrite unix - - n - - trivial-rewrite
proxymap unix - - n - - proxymap
cleanup unix n - n - 0 cleanup
pickup unix n - n 60 1 pickup
qmgr unix n - n 300 1 qmgr
"""


class Postfix:
    """A Postfix with one smtpd service for each auth socket that it is told of."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name in ("conf", "queue", "data"):
            (home / name).mkdir(parents=True)
        shutil.chown(home / "data", pwd.getpwnam("postfix").pw_uid)

    @contextmanager
    def asking(self, server: Server) -> Iterator[int]:
        """A Postfix that asks this server; gives its port. A new one each time: smtpd keeps its connections."""
        (port,) = free_ports(1)
        line = f"127.0.0.1:{port} inet n - n - 200 smtpd -o smtpd_sasl_path={server.socket}\n"
        (self.home / "conf" / "main.cf").write_text(MAIN.format(home=self.home))
        (self.home / "conf" / "master.cf").write_text(MASTER.format(services=line))
        command = ["postfix", "-c", str(self.home / "conf"), "start-fg"]
        with (self.home / "out").open("ab") as out:
            master = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        until = time.monotonic() + 20
        while not listens(port):
            if time.monotonic() > until or master.poll() is not None:
                raise RuntimeError((self.home / "out").read_text())
            time.sleep(0.05)
        try:
            yield port
        finally:
            pid = int((self.home / "queue" / "pid" / "master.pid").read_text())
            os.kill(pid, signal.SIGTERM)
            master.wait(15)
