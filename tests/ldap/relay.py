"""The lab with its people in a slapd, and many more: mail clients that ask while that slapd comes and goes.

One Postfix and three sidecars serve all tests; the settings may be changed, which starts the sidecars anew.
"""

import smtplib
import socket
import ssl
import time

import yaml

from tests.lab import Lab
from tests.ldap.certificates import Authority
from tests.ldap.proxy import Proxy
from tests.ldap.slapd import BASE, dn_of, password, person

LOGINS = 240
TTL = 1.0
FRIEND = "friend@elsewhere.example"


class Relay:
    """Users are called u000 to u239; a terms of use of 2025 or later must have been accepted."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.slapd = lab.slapd
        place = lab.places.directory / "ldap-tls"
        place.mkdir()
        self.authority = Authority(place)
        self.proxy = Proxy(self.slapd.port)
        self._ways = {
            "ldaps": f"ldaps://127.0.0.1:{self.slapd.port}",
            "proxy": f"ldaps://127.0.0.1:{self.proxy.port}",
            "starttls": f"ldap://127.0.0.1:{self.slapd.plain_port}",
        }
        self._way = ""
        self._standard = lab.places.settings.read_text()
        self._next = 0
        users = (
            person(f"u{index:03}", f"u{index:03}@example.org", termsAccepted="2026-01")
            for index in range(LOGINS)
        )
        self.slapd.change("ldapadd", "".join(users))

    # ---- the directory

    def reach(self, way):
        """Let the sidecars ask over ldaps, through the proxy or with starttls, unless they do so already; the
        certificates are those of `authority`, and answers are remembered for TTL seconds."""
        if self._way == way:
            return
        self._way = way
        settings = yaml.safe_load(self._standard)
        directory = settings["directory"]
        directory["ldap"] |= {"servers": [self._ways[way]], "start_tls": way == "starttls"}
        directory["ldap"] |= {"ca_file": str(self.authority.ca)}
        directory["ldap"]["attributes"] |= {"terms": ["termsAccepted"]}
        directory["ldap"]["filters"] = {"delegates": "(mailDelegate={dn})"}
        directory |= {"cache": {"ttl": f"{TTL:g} s", "negative_ttl": "1 s"}}
        settings["listen"]["metrics"] = {"policyd": f"unix:{self.lab.places.run / 'metrics'}"}
        directory |= {"terms": {"url": "https://example.org/terms", "version": "2025"}}
        for login in ("alice", "bob"):
            self.modify(login, "replace: termsAccepted", "termsAccepted: 2026-01")
        self.restart_slapd("good")
        self.lab.places.settings.write_text(yaml.safe_dump(settings, sort_keys=False))
        self.restart_sidecars()

    def leave(self):
        """Everything as the demo has it."""
        if not self._way:
            return
        self._way = ""
        self.lab.places.settings.write_text(self._standard)
        tls = self.lab.places.tls
        self.lab.stop_slapd()
        self.slapd.configure(tls / "ca.crt", tls / "server")
        self.lab.start_slapd()
        self.restart_sidecars()

    def restart_sidecars(self):
        self.lab.stop_sidecars()
        self.lab.start_sidecars()

    def restart_slapd(self, certificate):
        """`certificate` is the label of one of `authority`'s, "" for no TLS at all."""
        self.lab.stop_slapd()
        self.slapd.configure(
            self.authority.ca, self.authority.directory / certificate if certificate else None
        )
        self.lab.start_slapd()

    def modify(self, login, *lines):
        self.slapd.change("ldapmodify", "\n".join([f"dn: {dn_of(login)}", "changetype: modify", *lines, ""]))

    def set_service_password(self, secret):
        dn = f"cn=submitward,ou=services,{BASE}"
        lines = (
            "replace: userPassword",
            f"userPassword: {secret}",
            "-",
            "replace: pwdReset",
            "pwdReset: FALSE",
        )
        self.slapd.change("ldapmodify", "\n".join([f"dn: {dn}", "changetype: modify", *lines, ""]))

    def metric(self, name):
        """A value of policyd's, as a number."""
        with socket.socket(socket.AF_UNIX) as peer, peer.makefile() as page:
            peer.connect(str(self.lab.places.run / "metrics"))
            peer.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return next(float(line.split()[1]) for line in page if line.startswith(f"submitward_{name} "))

    # ---- mail clients

    def fresh(self):
        """A login that nobody has asked for yet."""
        self._next += 1
        return f"u{self._next - 1:03}"

    def secret(self, login):
        return self.lab.logins.get(login) or password(login).decode()

    def session(self, source="", certificate=None):
        """Connected, EHLO said, TLS begun."""
        host, _, port = self.lab.submission.rpartition(":")
        context = ssl.create_default_context(cafile=str(self.lab.places.tls / "ca.crt"))
        context.check_hostname = False
        if certificate is not None:
            context.load_cert_chain(certificate.with_suffix(".crt"), certificate.with_suffix(".key"))
        client = smtplib.SMTP(host, int(port), timeout=30, source_address=(source, 0) if source else None)
        client.starttls(context=context)
        client.ehlo("client.example.org")
        return client

    def auth(self, login, secret=None):
        """The code of AUTH and the seconds it took."""
        with self.session() as client:
            return self.auth_in(client, login, secret)

    def auth_in(self, client, login, secret=None):
        client.user, client.password = login, secret or self.secret(login)
        began = time.monotonic()
        try:
            code, _ = client.auth("PLAIN", client.auth_plain)
        except smtplib.SMTPAuthenticationError as refused:
            code = refused.smtp_code
        return code, time.monotonic() - began

    def rcpt_in(self, client, sender):
        """The code and text of RCPT, and the seconds it took; the session stays as it was."""
        client.rset()
        client.mail(sender)
        began = time.monotonic()
        code, text = client.rcpt(FRIEND)
        took = time.monotonic() - began
        client.rset()
        return code, text.decode(), took

    def submitter(self, login):
        """A session in which this login was let in."""
        client = self.session()
        code, _ = self.auth_in(client, login)
        assert code == 235
        return client
