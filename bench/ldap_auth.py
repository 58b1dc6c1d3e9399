"""Logins per second and CPU per login: slapd itself, Dovecot before it, and our saslauthd before it.

    python -m bench.ldap_auth [--rounds 3] [--seconds 3]

One interleaved run: every round measures everything once, in the same order. Needs slapd, dovecot-core,
dovecot-ldap and python-ldap. Plain LDAP on loopback for all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.ldap.certificates import Authority
from tests.ldap.slapd import BASE, SERVICE, SERVICE_PASSWORD, USERS, Slapd, dn_of, password, user

CONNECTIONS = (1, 8, 64)
TICKS = os.sysconf("SC_CLK_TCK")
DOVECOT = """base_dir = {home}/run
state_dir = {home}/run
log_path = {home}/log
protocols =
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
service auth {{
  client_limit = 500
  unix_listener auth-client {{
    mode = 0666
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
log: {{level: warning}}
"""


def cpu(pids: list[int]) -> float:
    """Seconds of CPU that these processes have used."""
    total = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def children(pid: int) -> list[int]:
    found = [pid]
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return found + [int(one) for one in listed.stdout.split()]


async def one_client(path: str, number: int, logins: Iterator[str], until: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"VERSION\t1\t2\nCPID\t%d\n" % (os.getpid() * 1000 + number))
    while not (await reader.readline()).startswith(b"DONE"):
        pass
    for index, login in enumerate(logins, 1):
        if time.perf_counter() > until:
            break
        response = base64.b64encode(b"\0" + login.encode() + b"\0" + password(login)).decode()
        began = time.perf_counter()
        writer.write(f"AUTH\t{index}\tPLAIN\tservice=smtp\tsecured\tresp={response}\n".encode())
        answer = await reader.readline()
        if not answer.startswith(b"OK\t"):
            raise RuntimeError(f"{login}: {answer!r}")
        times.append(time.perf_counter() - began)
    writer.close()


def endless(number: int) -> Iterator[str]:
    index = number * 37
    while True:
        yield user(index % USERS)
        index += 1


def through_socket(
    path: str, connections: int, seconds: float, logins: list[str] | None = None
) -> list[float]:
    """Closed loop over the auth socket; with `logins` each of them once."""

    async def run() -> list[float]:
        times: list[float] = []
        shared = iter(logins) if logins is not None else None
        until = time.perf_counter() + (seconds if logins is None else 600)
        await asyncio.gather(
            *(
                one_client(path, number, shared or endless(number), until, times)
                for number in range(connections)
            )
        )
        return times

    return asyncio.run(run())


def raw(server: Slapd, connections: int, seconds: float, *, search: bool) -> list[float]:
    """python-ldap (libldap) in threads on kept connections."""
    import ldap

    times: list[float] = []
    until = time.perf_counter() + seconds

    def work(number: int) -> None:
        binder, searcher = ldap.initialize(server.url), ldap.initialize(server.url)
        searcher.simple_bind_s(SERVICE, SERVICE_PASSWORD)
        for login in endless(number):
            began = time.perf_counter()
            if began > until:
                break
            dn = dn_of(login)
            if search:
                dn = searcher.search_s(BASE, ldap.SCOPE_SUBTREE, f"(uid={login})", ["uid"])[0][0]
            binder.simple_bind_s(dn, password(login).decode())
            times.append(time.perf_counter() - began)
        binder.unbind_s()
        searcher.unbind_s()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


class Bench:
    """The three servers and their figures."""

    def __init__(self, home: Path, seconds: float) -> None:
        self.home, self.seconds = home, seconds
        (home / "tls").mkdir()
        self.slapd = Slapd(home / "slapd", Authority(home / "tls"), certificate="").make().start()
        self.slapd.add_groups()
        self.rows: dict[tuple[str, int], list[tuple[float, float, float, float, float]]] = {}
        self._processes: list[subprocess.Popen[bytes]] = []

    def dovecot(self) -> tuple[str, list[int]]:
        home = self.home / "dovecot"
        (home / "run").mkdir(parents=True)
        self.home.chmod(0o755)
        (home / "ldap.conf").write_text(
            DOVECOT_LDAP.format(port=self.slapd.port, service=SERVICE, secret=SERVICE_PASSWORD, base=BASE)
        )
        conf = DOVECOT.format(home=home).replace("driver = static", "driver = static")
        (home / "dovecot.conf").write_text(conf)
        process = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", str(home / "dovecot.conf")])
        self._processes.append(process)
        socket = str(home / "run" / "auth-client")
        wait(socket)
        through_socket(socket, 1, 0.2)
        return socket, children(process.pid)

    def saslauthd(self, name: str, *, threads: bool = False) -> tuple[str, list[int]]:
        home = self.home / name
        home.mkdir()
        (home / "secret").write_text(SERVICE_PASSWORD)
        (home / "secret").chmod(0o600)
        settings = SETTINGS.format(home=home, url=self.slapd.url, service=SERVICE, base=BASE)
        (home / "config.yaml").write_text(settings)
        self._ledger(home)
        door = (
            "import directory.ldap_directory as d; d.own_checker = d.ThreadChecker; " if threads else ""
        ) + "import sys; from saslauthd.__main__ import main; sys.exit(main())"
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", door, "--settings", str(home / "config.yaml")]
        )
        self._processes.append(process)
        wait(str(home / "auth"))
        time.sleep(1)
        return str(home / "auth"), [process.pid]

    def _ledger(self, home: Path) -> None:
        """policyd makes the ledger; here it is made by nobody else."""

    def end(self, count: int = 1) -> None:
        for _ in range(count):
            process = self._processes.pop()
            process.send_signal(signal.SIGTERM)
            process.wait(15)

    def measure(self, name: str, connections: int, pids: list[int], run: Callable[[], list[float]]) -> None:
        before, served = cpu(pids), cpu([self.slapd.pid])
        began = time.perf_counter()
        times = sorted(run())
        took = time.perf_counter() - began
        count = len(times)
        own, theirs = (cpu(pids) - before) / count, (cpu([self.slapd.pid]) - served) / count
        row = (count / took, own * 1e6, theirs * 1e6, times[count // 2] * 1e3, times[int(count * 0.99)] * 1e3)
        self.rows.setdefault((name, connections), []).append(row)
        print(
            f"{name:34} {connections:3} {row[0]:8.0f}/s {row[1]:6.0f} {row[2]:6.0f} µs  p50 {row[3]:.2f} p99 {row[4]:.2f} ms"
        )

    def round(self, number: int, dovecot: tuple[str, list[int]]) -> None:
        everybody = [user(index) for index in range(USERS)]
        for connections in CONNECTIONS:
            few = self.seconds
            self.measure(
                "slapd, search + bind (libldap)",
                connections,
                [],
                lambda: raw(self.slapd, connections, few, search=True),
            )
            self.measure(
                "slapd, bind (libldap)",
                connections,
                [],
                lambda: raw(self.slapd, connections, few, search=False),
            )
            self.measure(
                "Dovecot, search + auth_bind",
                connections,
                dovecot[1],
                lambda: through_socket(dovecot[0], connections, few),
            )
            for label, threads in (("saslauthd", False), ("saslauthd, ldap3 in threads", True)):
                socket, pids = self.saslauthd(f"s{number}.{connections}.{threads}", threads=threads)
                self.measure(
                    f"{label}, cold",
                    connections,
                    pids,
                    lambda: through_socket(socket, connections, 0, everybody),
                )
                self.measure(
                    f"{label}, cached DN", connections, pids, lambda: through_socket(socket, connections, few)
                )
                self.end()

    def table(self) -> str:
        lines = [
            "| | connections | logins/s median [min-max] | CPU µs own + slapd | p50 / p99 ms |",
            "|---|---|---|---|---|",
        ]
        for (name, connections), rows in self.rows.items():
            rate, own, theirs, p50, p99 = (statistics.median(values) for values in zip(*rows, strict=True))
            rates = [row[0] for row in rows]
            lines.append(
                f"| {name} | {connections} | {rate:,.0f} [{min(rates):,.0f}-{max(rates):,.0f}] |"
                f" {own:.0f} + {theirs:.0f} | {p50:.2f} / {p99:.2f} |"
            )
        return "\n".join(lines)


def wait(path: str) -> None:
    until = time.monotonic() + 20
    while not Path(path).exists():
        if time.monotonic() > until:
            raise RuntimeError(f"{path} does not appear")
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="swbench", dir="/var/tmp"))
    bench = Bench(home, options.seconds)
    try:
        dovecot = bench.dovecot()
        for number in range(options.rounds):
            bench.round(number, dovecot)
        print(bench.table())
    finally:
        while bench._processes:
            bench.end()
        bench.slapd.stop()
        shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
