"""A real name server: nsd on loopback, with zones that a test writes.

Knows how nsd is configured, started, and made to read a zone again. Must not know what is in the zones.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, SOCK_STREAM, socket

import dns.exception
import dns.message
import dns.query
import dns.rcode

CONF = """server:
  ip-address: 127.0.0.1@{port}
  username: ""
  zonesdir: "{home}"
  database: ""
  pidfile: "{home}/pid"
  xfrdfile: "{home}/xfrd.state"
  zonelistfile: "{home}/zone.list"
  logfile: "{home}/log"
  server-count: 1
  hide-version: yes
  rrl-ratelimit: 0
remote-control:
  control-enable: no
"""
HEAD = """$ORIGIN {zone}.
$TTL 300
@ SOA ns hostmaster 1 3600 600 86400 {negative}
@ NS ns
ns A 192.0.2.53
"""


def free_port() -> int:
    """A port that is free now, over UDP and TCP; below those that the kernel gives to who asks, since the
    server comes back to it after each change."""
    while True:
        port = random.randrange(12_000, 19_000)
        with socket(AF_INET, SOCK_DGRAM) as one, socket(AF_INET, SOCK_STREAM) as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Nsd:
    """A name server in `home`; `zones` maps a zone's name to its lines, without SOA and NS."""

    def __init__(self, home: Path, zones: Mapping[str, str]) -> None:
        self.home = home
        self.port = free_port()
        self.server = f"127.0.0.1:{self.port}"
        self.zones = dict(zones)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Write everything and answer questions."""
        text = CONF.format(port=self.port, home=self.home)
        for zone, lines in self.zones.items():
            self._write(zone, lines)
            text += f'zone:\n  name: "{zone}"\n  zonefile: "{zone}.zone"\n'
        (self.home / "conf").write_text(text)
        self._process = subprocess.Popen(
            ["/usr/sbin/nsd", "-d", "-c", str(self.home / "conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait(lambda: all(self._serves(zone) for zone in self.zones))

    def stop(self) -> None:
        """End it; what is asked then gets no answer."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None

    def change(self, zone: str, lines: str, negative: int = 60) -> None:
        """Have it serve another content of a zone."""
        self.stop()
        self.zones[zone] = lines
        self._write(zone, lines, negative)
        self.start()

    def freeze(self) -> None:
        """Let it answer nobody, its sockets open."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def _write(self, zone: str, lines: str, negative: int = 60) -> None:
        (self.home / f"{zone}.zone").write_text(HEAD.format(zone=zone, negative=negative) + lines)

    def _serves(self, zone: str) -> bool:
        try:
            said = dns.query.udp(dns.message.make_query(zone, "SOA"), "127.0.0.1", 0.5, self.port)
        except (dns.exception.DNSException, OSError):
            return False
        return said.rcode() in (dns.rcode.NOERROR, dns.rcode.SERVFAIL)

    def _wait(self, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not ready():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > end:
                raise RuntimeError((self.home / "log").read_text())
            time.sleep(0.05)


@contextmanager
def name_server(zones: Mapping[str, str]) -> Iterator[Nsd]:
    """A running name server, ended and removed with all that it wrote."""
    home = Path(tempfile.mkdtemp(prefix="swns", dir="/var/tmp"))
    server = Nsd(home, zones)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home)
