"""A small Postfix of its own: one smtpd that asks on a UNIX socket, and one that asks over TCP."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MAIN = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/maillog
myhostname = mx.example.org
mydestination =
mynetworks =
inet_interfaces = loopback-only
inet_protocols = ipv4
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = submitward/auth
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_delay_reject = no
alias_maps =
smtpd_hard_error_limit = 1000
smtpd_error_sleep_time = 0
"""

MASTER = """\
127.0.0.1:{unix} inet n - n - - smtpd
127.0.0.1:{inet} inet n - n - - smtpd -o smtpd_sasl_path=inet:127.0.0.1:{auth}
postlog unix-dgram n - n - 1 postlogd
anvil unix - - n - 1 anvil
rewrite unix - - n - - trivial-rewrite
proxymap unix - - n - - proxymap
cleanup unix n - n - 0 cleanup
pickup unix n - n 60 1 pickup
qmgr unix n - n 300 1 qmgr
"""


@dataclass
class Postfix:
    """The ports of the two smtpd, the UNIX socket and the TCP port that they ask at."""

    home: Path
    unix: int
    inet: int
    auth: int

    @property
    def socket(self) -> str:
        return str(self.home / "queue" / "submitward" / "auth")

    @property
    def log(self) -> str:
        path = self.home / "maillog"
        return path.read_text("utf-8", "replace") if path.exists() else ""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start() -> tuple[Postfix, subprocess.Popen[bytes]]:
    home = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    home.chmod(0o755)
    here = Postfix(home, *free_ports(3))
    for name in ("conf", "queue", "queue/submitward", "data"):
        (home / name).mkdir()
    (home / "queue" / "submitward").chmod(0o755)
    shutil.chown(home / "data", pwd.getpwnam("postfix").pw_uid)
    (home / "conf" / "main.cf").write_text(MAIN.format(home=home))
    (home / "conf" / "master.cf").write_text(MASTER.format(unix=here.unix, inet=here.inet, auth=here.auth))
    command = ["postfix", "-c", str(home / "conf"), "start-fg"]
    with (home / "out").open("wb") as out:
        master = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    end = time.monotonic() + 20
    while not listens(here.unix):
        assert master.poll() is None and time.monotonic() < end, (home / "out").read_text() + here.log
        time.sleep(0.05)
    return here, master


def listens(port: int) -> bool:
    """Whether somebody does, without a connection that would wait for a SASL server."""
    line = f"0100007F:{port:04X}"
    return any(line in entry and " 0A " in entry for entry in Path("/proc/net/tcp").read_text().splitlines())


def stop(here: Postfix, master: subprocess.Popen[bytes]) -> None:
    """End exactly the processes that `start` began: master's children follow it."""
    pid = int((here.home / "queue" / "pid" / "master.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    try:
        master.wait(10)
    except subprocess.TimeoutExpired:
        os.kill(pid, signal.SIGKILL)
        master.wait(10)
    shutil.rmtree(here.home)


def unlink(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)
