"""An Exim of our own, which asks our socket as Exim does: unpacked, since its package removes Postfix."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.debian import libraries, unpacked
from tests.saslauthd.postfix import free_ports

PACKAGES = ("exim4-daemon-heavy", "exim4-base", "libidn12", "libmariadb3", "libspf2-2", "libnss-wrapper")

CONFIG = """\
primary_hostname = mx.example.org
spool_directory = {home}/spool
log_file_path = {home}/log-%s
pid_file_path = {home}/pid
exim_user = nobody
exim_group = nogroup
never_users =
keep_environment =
local_interfaces = 127.0.0.1
tls_advertise_hosts =
auth_advertise_hosts = *
host_lookup =
smtp_max_synprot_errors = 1000
smtp_accept_max_nonmail = 1000
begin acl
begin routers
begin transports
begin authenticators
plain:
  driver = dovecot
  public_name = PLAIN
  server_socket = {home}/auth
  server_set_id = $auth1
login:
  driver = dovecot
  public_name = LOGIN
  server_socket = {home}/auth
  server_set_id = $auth1
"""


class Exim:
    """Listens on `port`, asks at `socket`."""

    def __init__(self) -> None:
        root = unpacked(*PACKAGES)
        self.home = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
        self.home.chmod(0o755)
        (self.home / "spool").mkdir()
        nobody = pwd.getpwnam("nobody")
        shutil.chown(self.home / "spool", "nobody", nobody.pw_gid)
        shutil.chown(self.home, "nobody", nobody.pw_gid)
        self.socket = str(self.home / "auth")
        self.port = free_ports(1)[0]
        (self.home / "config").write_text(CONFIG.format(home=self.home))
        self._known_user()
        (wrapper,) = root.rglob("libnss_wrapper.so*")
        self._out = (self.home / "out").open("wb")
        self._process = subprocess.Popen(
            [root / "usr/sbin/exim4", "-C", self.home / "config", "-bdf", "-oX", f"127.0.0.1.{self.port}"],
            stdout=self._out,
            stderr=self._out,
            env={
                **os.environ,
                "LD_LIBRARY_PATH": libraries(root),
                "LD_PRELOAD": str(wrapper),
                "NSS_WRAPPER_PASSWD": str(self.home / "passwd"),
                "NSS_WRAPPER_GROUP": str(self.home / "group"),
            },
            start_new_session=True,
        )
        self._wait()

    def _known_user(self) -> None:
        """Debian's Exim does not start without its user, whom only the package's installation makes."""
        nobody = pwd.getpwnam("nobody")
        ids = f"{nobody.pw_uid}:{nobody.pw_gid}"
        line = f"Debian-exim:x:{ids}:Exim:{self.home}:/bin/false\n"
        (self.home / "passwd").write_text(Path("/etc/passwd").read_text() + line)
        group = f"Debian-exim:x:{nobody.pw_gid}:\n"
        (self.home / "group").write_text(Path("/etc/group").read_text() + group)

    def _wait(self) -> None:
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < end, self.log
                time.sleep(0.05)

    @property
    def log(self) -> str:
        return "".join(
            path.read_text("utf-8", "replace") for path in (self.home / "out", *self.home.glob("log-*"))
        )

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._out.close()
        shutil.rmtree(self.home)
