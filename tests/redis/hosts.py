"""Mail hosts for tests: policyd processes that share one Redis, and a Postfix before one of them."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from smtplib import SMTP

from tests.milter import mail_host
from tests.policyd.house import ROOT, Client, Process
from tests.redis.server import Server
from tests.saslauthd.postfix import free_ports, listens

LOGINS = 12
CONFIG = """\
version: 1
mta: {mta}
listen:
  policy: ["unix:{home}/policy"]
  milter: ["unix:{home}/milter"]
  metrics: {{policyd: "unix:{home}/metrics"}}
author: {{mode: enforce}}
directory: {{file: {{path: "{home}/directory.yaml"}}}}
ledger:
  kind: redis
  sqlite: {{path: "{home}/ledger.sqlite"}}
  redis: {{url: "{url}", prefix: "{prefix}"{more}}}
  unavailable: {unavailable}
plans: {{default: [{plan}]}}
policy: {{restrictions: {{tls: "off"}}, contact: postmaster@example.org}}
log: {{level: info}}
"""
MAIN = (
    mail_host.MAIN.replace("smtpd_milters", "# smtpd_milters")
    + """\
in_flow_delay = 0
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 100000
smtpd_hard_error_limit = 100000
"""
)


class Host:
    """One host: its directory, its settings, and its policyd."""

    def __init__(
        self,
        server: Server,
        prefix: str,
        mta: str,
        *,
        plan: str = "100 recipients per hour",
        url: str = "",
        more: str = "",
        unavailable: str = "defer",
        sections: str = "",
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
        self.home.chmod(0o755)
        self.mta = mta
        self.settings = self.home / "config.yaml"
        said = {"url": url or server.url, "prefix": prefix, "plan": plan, "more": more}
        text = CONFIG.format(home=self.home, mta=mta, unavailable=unavailable, **said)
        self.settings.write_text(text + sections)
        names = ["alice", *(f"user{n}" for n in range(LOGINS))]
        logins = "".join(f"  {name}: {{mailboxes: [{name}@example.org]}}\n" for name in names)
        (self.home / "directory.yaml").write_text(f"logins:\n{logins}")
        self.policyd: Process | None = None

    def start(self, *, ready: str = "store=redis state=ok") -> Host:
        self.policyd = Process(self.home)
        if ready:
            self.policyd.wait_for(ready)
        return self

    def client(self) -> Client:
        return Client(self.home / "policy")

    @property
    def log(self) -> str:
        return (self.home / "log").read_text()

    def stop(self) -> None:
        if self.policyd is not None:
            self.policyd.end()

    def remove(self) -> None:
        if self.policyd is not None and self.policyd.child.poll() is None:
            self.policyd.child.kill()
            self.policyd.child.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def request(login: str, number: object, recipients: int = 1, **more: object) -> dict[str, object]:
    """The DATA request of one message."""
    return {
        "protocol_state": "DATA",
        "sasl_username": login,
        "sender": f"{login}@example.org",
        "instance": f"i.{number}",
        "queue_id": f"Q{number}",
        "recipient_count": recipients,
        "recipient": "",
        "size": 100,
        **more,
    }


def end(asked: dict[str, object]) -> dict[str, object]:
    """The END-OF-MESSAGE request of the same message."""
    return {**asked, "protocol_state": "END-OF-MESSAGE"}


def send(client: Client, login: str, number: object, recipients: int = 1) -> bool:
    """One message as Postfix would ask about it; whether it was let through."""
    asked = request(login, number, recipients)
    answer = client.ask(**asked)
    assert answer is not None
    if answer != "DUNNO":
        assert answer.startswith(("450 4.7.1", "DEFER_IF_PERMIT 4.3.0", "554 5.7.1")), answer
        return False
    assert client.ask(**end(asked)) == "DUNNO"
    return True


class _Believer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(
            b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t" + b"0" * 32 + b"\nDONE\n"
        )
        for line in self.rfile:
            words = line.rstrip(b"\n").split(b"\t")
            if words[0] == b"AUTH":
                (response,) = (word[5:] for word in words if word.startswith(b"resp="))
                login = base64.b64decode(response).split(b"\0")[1]
                self.wfile.write(b"OK\t" + words[1] + b"\tuser=" + login + b"\n")


class Milter:
    """The milter of `host`, as a process; with `doom` one that dies there (see `tests.redis.killer`)."""

    def __init__(self, host: Host, *doom: str) -> None:
        program = ["tests.redis.killer", "milter", *doom] if doom else ["milter"]
        command = [sys.executable, "-m", *program, "--settings", str(host.settings)]
        self.log = host.home / f"milter{'.'.join(('', *doom))}.log"
        with self.log.open("wb") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            self.child = subprocess.Popen(command, stderr=log, cwd=ROOT, env=environment)
        until = time.monotonic() + 60
        while "store=redis state=ok" not in (said := self.log.read_text()):
            if doom and self.child.poll() is not None:
                return
            assert self.child.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.05)
        (host.home / "milter").chmod(0o666)

    def end(self) -> None:
        self.child.terminate()
        self.child.wait(10)


@contextlib.contextmanager
def milter(host: Host) -> Iterator[Milter]:
    """The milter of `host` for a while."""
    running = Milter(host)
    try:
        yield running
    finally:
        running.end()


@contextlib.contextmanager
def serve_sasl(home: Path) -> Iterator[None]:
    """The SASL server of a Postfix in `home`: every password is right."""
    server = socketserver.ThreadingUnixStreamServer(str(home / "auth"), _Believer)
    server.daemon_threads = True
    (home / "auth").chmod(0o666)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def open_to_postfix(host: Host) -> None:
    """Let Postfix reach policyd."""
    (host.home / "policy").chmod(0o666)


@contextlib.contextmanager
def postfix(host: Host, *, main: str = MAIN) -> Iterator[int]:
    """A Postfix before `host`; gives the port of its submission service. Every password is right."""
    open_to_postfix(host)
    (port,) = free_ports(1)
    kept, mail_host.MAIN = mail_host.MAIN, main
    with serve_sasl(host.home):
        try:
            master = mail_host.begin(host.home, port)
        finally:
            mail_host.MAIN = kept
        try:
            while not listens(port):
                assert master.poll() is None, (host.home / "out").read_text()
                time.sleep(0.05)
            yield port
        finally:
            mail_host.end(host.home, master)


def log_in(port: int, login: str) -> SMTP:
    """A client of Postfix that has logged in."""
    client = SMTP("127.0.0.1", port, local_hostname="client.example", timeout=30)
    client.ehlo()
    code, text = client.docmd("AUTH PLAIN", base64.b64encode(f"\0{login}\0x".encode()).decode())
    assert code == 235, text
    return client


def mail(client: SMTP, login: str, recipients: int = 1) -> bool:
    """One message over SMTP; whether it was taken. Anything but 250 and 450 fails the test."""
    code, text = client.mail(f"{login}@example.org")
    assert code == 250, text
    codes = [client.rcpt(f"r{n}@elsewhere.example")[0] for n in range(recipients)]
    if set(codes) == {250}:
        code, text = client.docmd("DATA")
        if code == 354:
            client.send("Subject: x\r\n\r\nHello.\r\n.\r\n")
            code, text = client.getreply()
            assert code == 250, text
            return True
        codes = [code]
    assert set(codes) <= {250, 450}, (codes, text)
    client.rset()
    return False
