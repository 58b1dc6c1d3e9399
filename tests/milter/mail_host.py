"""A Postfix of its own with one submission port, that asks policyd and the milter of this process.

Knows how to begin and end one, on loopback. The SASL server is a stand-in that believes every password.
"""

from __future__ import annotations

import base64
import pwd
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from smtplib import SMTP
from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.protocols.basic import LineReceiver

from policyd.service import PolicyService
from policyd.settings import load_settings
from sidecar.listen import Listener
from sidecar.log import Log
from sidecar.metrics import Metrics
from tests.milter.stage import Stage, stage
from tests.saslauthd.postfix import free_ports, listens

MAIN = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/maillog
myhostname = mx1.example.org
mydestination =
mynetworks =
inet_interfaces = loopback-only
inet_protocols = ipv4
import_environment = MAIL_CONFIG
alias_maps =
default_transport = discard:
relay_transport = discard:
smtputf8_enable = yes
strict_rfc821_envelopes = yes
message_reject_characters = \\0
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {home}/auth
smtpd_relay_restrictions = permit_sasl_authenticated, reject
policy = check_policy_service {{ unix:{home}/policy, timeout=10s }}
smtpd_recipient_restrictions = $policy
smtpd_data_restrictions = $policy
smtpd_end_of_data_restrictions = $policy
smtpd_milters = {{ unix:{home}/milter, default_action=tempfail, content_timeout=60s }}
local_header_rewrite_clients =
smtpd_hard_error_limit = 1000
smtpd_error_sleep_time = 0
"""

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
anvil unix - - n - 1 anvil
rewrite unix - - n - - trivial-rewrite
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
discard unix - - n - - discard
"""


class Believer(LineReceiver):
    """The Dovecot auth protocol, as far as Postfix asks; every PLAIN password is right."""

    delimiter = b"\n"

    def connectionMade(self) -> None:
        self.sendLine(
            b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t" + b"0" * 32 + b"\nDONE"
        )

    def lineReceived(self, line: bytes) -> None:
        words = line.split(b"\t")
        if words[0] == b"AUTH":
            (response,) = (word[5:] for word in words if word.startswith(b"resp="))
            login = base64.b64decode(response).split(b"\0")[1]
            self.sendLine(b"OK\t" + words[1] + b"\tuser=" + login)


class MailHost:
    """A stage with a Postfix before it."""

    def __init__(self, played: Stage, port: int) -> None:
        self.stage = played
        self.port = port

    def connect(self, login: str = "alice") -> SMTP:
        """A client that has logged in (blocking, for a thread)."""
        client = SMTP("127.0.0.1", self.port, local_hostname="client.example", timeout=20)
        client.ehlo()
        code, text = client.docmd("AUTH PLAIN", base64.b64encode(f"\0{login}\0x".encode()).decode())
        assert code == 235, text
        return client

    @property
    def maillog(self) -> str:
        return (self.stage.home / "maillog").read_text("utf-8", "replace")


def send(
    client: SMTP, author: str, *fields: str, sender: str = "alice@example.org", options: tuple[str, ...] = ()
) -> tuple[int, str]:
    """One message; what was answered at its end."""
    for code, text in (client.mail(sender, list(options)), client.rcpt("someone@elsewhere.example")):
        assert code == 250, text
    lines = [f"From: {author}" if author else "X-Nothing: here", *fields, "Subject: test", "", "Hello.", ""]
    code, text = client.data("\r\n".join(lines).encode("utf-8", "surrogateescape"))
    return code, text.decode("ascii")


async def threaded(function: Any, *arguments: Any, **named: Any) -> Any:
    """Run blocking client code beside the reactor."""
    return await deferToThread(function, *arguments, **named)


@asynccontextmanager
async def mail_host(reactor: Any) -> AsyncIterator[MailHost]:
    """A running Postfix whose message checks are ours."""
    async with stage(reactor) as played:
        home = played.home
        home.chmod(0o755)
        text = played.config.read_text("utf-8").replace("restrictions: {", "restrictions: {tls: off, ")
        played.config.write_text(text, encoding="utf-8")
        settings = load_settings(played.config)
        log = Log(played.out, program="policyd", level="debug")
        policy = PolicyService(settings, reactor=reactor, log=log, metrics=Metrics(), load=lambda: settings)
        policy.start()
        ports = [
            reactor.listenUNIX(str(home / "policy"), policy.factory(Listener(f"unix:{home}/policy"))),
            reactor.listenUNIX(str(home / "auth"), Factory.forProtocol(Believer)),
        ]
        (port,) = free_ports(1)
        master = begin(home, port)
        try:
            while not listens(port):
                assert master.poll() is None, (home / "out").read_text()
                await played.pause(0.05)
            yield MailHost(played, port)
        finally:
            await threaded(end, home, master)
            for one in ports:
                await one.stopListening()
            await policy.drain()


def begin(home: Path, port: int) -> subprocess.Popen[bytes]:
    for name in ("conf", "queue", "data"):
        (home / name).mkdir()
    shutil.chown(home / "data", pwd.getpwnam("postfix").pw_uid)
    (home / "conf" / "main.cf").write_text(MAIN.format(home=home))
    (home / "conf" / "master.cf").write_text(MASTER.format(port=port))
    with (home / "out").open("wb") as out:
        command = ["postfix", "-c", str(home / "conf"), "start-fg"]
        return subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)


def end(home: Path, master: subprocess.Popen[bytes]) -> None:
    subprocess.run(["postfix", "-c", str(home / "conf"), "abort"], capture_output=True, timeout=30)
    master.wait(10)
