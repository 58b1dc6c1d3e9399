"""Logins per second through a real Postfix: connect with TLS, EHLO, AUTH, QUIT; Dovecot and saslauthd in turn.

    python -m bench.ldap_postfix [--rounds 3] [--seconds 3]

One lab (script/demo's, with its people in a slapd over ldaps); only smtpd_sasl_path changes between measurements.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import ssl
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.ldap_auth import DOVECOT, children, cpu, wait
from tests.lab import Lab
from tests.ldap.slapd import BASE, SERVICE
from tests.postfix.conftest import free_port_base

DOVECOT_LDAP = """uris = ldaps://127.0.0.1:{port}
tls_ca_cert_file = {ca}
dn = {service}
dnpass = lab
auth_bind = yes
ldap_version = 3
base = {base}
pass_filter = (&(objectClass=inetOrgPerson)(uid=%u))
pass_attrs = uid=user
"""


async def session(host: str, port: int, context: ssl.SSLContext, response: bytes) -> None:
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="localhost")

    async def reply() -> bytes:
        while (line := await reader.readline())[3:4] == b"-":
            pass
        return line

    await reply()
    for command, wanted in (
        (b"EHLO bench\r\n", b"250"),
        (b"AUTH PLAIN " + response + b"\r\n", b"235"),
        (b"QUIT\r\n", b"221"),
    ):
        writer.write(command)
        line = await reply()
        if not line.startswith(wanted):
            raise RuntimeError(f"{command[:10]!r}: {line!r}")
    writer.close()


def load(lab: Lab, connections: int, seconds: float) -> list[float]:
    host, _, port = lab.submissions.rpartition(":")
    context = ssl.create_default_context(cafile=str(lab.places.tls / "ca.crt"))
    secret = b"\0bob\0" + lab.logins["bob"].encode()
    response = base64.b64encode(secret)
    times: list[float] = []

    async def one(until: float) -> None:
        while time.perf_counter() < until:
            began = time.perf_counter()
            await session(host, int(port), context, response)
            times.append(time.perf_counter() - began)

    async def run() -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(one(until) for _ in range(connections)))

    asyncio.run(run())
    return times


def dovecot(lab: Lab) -> tuple[str, list[int], subprocess.Popen[bytes]]:
    home = lab.places.directory / "dovecot"
    (home / "run").mkdir(parents=True)
    port = next(part for part in lab.places.settings.read_text().split() if "ldaps://" in part).rpartition(
        ":"
    )[2]
    ca = lab.places.tls / "ca.crt"
    (home / "ldap.conf").write_text(DOVECOT_LDAP.format(port=port, ca=ca, service=SERVICE, base=BASE))
    (home / "dovecot.conf").write_text(DOVECOT.format(home=home))
    process = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", str(home / "dovecot.conf")])
    wait(str(home / "run" / "auth-client"))
    return str(home / "run" / "auth-client"), children(process.pid), process


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    rows: dict[tuple[str, int], list[tuple[float, float, float, float]]] = {}
    announce = Path("/var/tmp/swbench-announce")
    with Lab(port_base=free_port_base(45000), announce=announce, directory="ldap") as lab:
        path, pids, process = dovecot(lab)
        try:
            targets = (("Dovecot", path), ("saslauthd, cached DN", str(lab.places.socket("auth"))))
            for _ in range(options.rounds):
                for connections in (1, 8, 64):
                    for name, socket in targets:
                        config = str(lab.places.postfix)
                        subprocess.run(
                            ["postconf", "-c", config, "-e", f"smtpd_sasl_path={socket}"], check=True
                        )
                        lab.running.postfix("reload")
                        time.sleep(1)
                        load(lab, connections, 0.5)
                        mine = children(process.pid) if name == "Dovecot" else [lab.pid("saslauthd")]
                        before = cpu(mine)
                        began = time.perf_counter()
                        times = sorted(load(lab, connections, options.seconds))
                        took = time.perf_counter() - began
                        row = (
                            len(times) / took,
                            (cpu(mine) - before) / len(times) * 1e6,
                            times[len(times) // 2] * 1e3,
                            times[int(len(times) * 0.99)] * 1e3,
                        )
                        rows.setdefault((name, connections), []).append(row)
                        print(name, connections, row, flush=True)
        finally:
            process.terminate()
            process.wait(10)
    print("| through Postfix | connections | logins/s median [min-max] | CPU µs own | p50 / p99 ms |")
    print("|---|---|---|---|---|")
    for (name, connections), found in rows.items():
        rate, own, p50, p99 = (statistics.median(values) for values in zip(*found, strict=True))
        rates = [row[0] for row in found]
        print(
            f"| {name} | {connections} | {rate:,.0f} [{min(rates):,.0f}-{max(rates):,.0f}] | {own:.0f} |"
            f" {p50:.1f} / {p99:.1f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
