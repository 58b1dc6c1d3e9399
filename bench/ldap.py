"""Postfix's own smtpd_sender_login_maps, in a slapd of our own.

Knows slapd and Postfix's LDAP table. Must not know what is measured.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bench import servers
from bench.load import LOGINS

SLAPD = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {home}/slapd.pid
database mdb
maxsize 104857600
suffix dc=example,dc=org
rootdn cn=admin,dc=example,dc=org
directory {home}/db
index mail eq
access to * by * read
"""
TABLE = """\
server_host = ldap://127.0.0.1:{port}
version = 3
bind = no
search_base = dc=example,dc=org
query_filter = (mail=%s)
result_attribute = uid
"""


@contextmanager
def login_maps() -> Iterator[str]:
    """Settings for Postfix: each sender's login is looked up in LDAP."""
    with servers.home() as home:
        port = servers.free_port()
        (home / "db").mkdir()
        (home / "slapd.conf").write_text(SLAPD.format(home=home))
        entries = ["dn: dc=example,dc=org\nobjectClass: domain\ndc: example\n"]
        entries += [
            f"dn: uid=user{n},dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: user{n}\ncn: u\nsn: u\n"
            f"mail: user{n}@example.org\n"
            for n in range(LOGINS)
        ]
        (home / "data.ldif").write_text("\n".join(entries))
        conf = str(home / "slapd.conf")
        subprocess.run(
            ["slapadd", "-q", "-f", conf, "-l", str(home / "data.ldif")], check=True, capture_output=True
        )
        (home / "login.cf").write_text(TABLE.format(port=port))
        command = ["slapd", "-d", "0", "-f", conf, "-h", f"ldap://127.0.0.1:{port}"]
        with servers.child(command, home / "log"):
            servers.Service("slapd", f"inet:127.0.0.1:{port}", list).wait()
            yield (
                f"smtpd_sender_login_maps = ldap:{home}/login.cf\n"
                "smtpd_recipient_restrictions = reject_sender_login_mismatch\n"
            )
