"""Logins per second and CPU per login: slapd itself, Dovecot before it, and our saslauthd before it.

    python -m bench.ldap_auth [--rounds 3] [--seconds 1] [--only socket|smtp] [--connections N]

One interleaved run: every round measures everything once, in the same order, at the auth socket and through a
Postfix (connect, EHLO, AUTH PLAIN, QUIT). Needs slapd, dovecot-core, dovecot-ldap, postfix and python-ldap.
Knows what is compared with what. Must not know how a server is begun, nor how it is asked.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import lateness
from bench.auth_load import Asking, everybody, raw, through_smtp, through_socket
from bench.auth_servers import Postfix, Server, dovecot, saslauthd
from bench.load import cpu
from tests.ldap.certificates import Authority
from tests.ldap.slapd import Slapd

CONNECTIONS = (1, 8, 64)
WRONG = everybody()[:200]


class Bench:
    """The servers and their figures."""

    def __init__(self, home: Path, seconds: float, only: str, connections: tuple[int, ...]) -> None:
        self.home, self.seconds, self.only, self.connections = home, seconds, only, connections
        (home / "tls").mkdir()
        self.slapd = Slapd(home / "slapd", Authority(home / "tls"), certificate="").make().start()
        self.slapd.add_groups()
        self.postfix = Postfix(home / "postfix")
        self.rows: dict[tuple[str, str, int], list[tuple[float, ...]]] = {}
        self.running: list[Server] = []
        self.count = 0
        self.dovecot = self.begin(dovecot(home / "dovecot", self.slapd, cache=False))
        self.dovecot_cache = self.begin(dovecot(home / "dovecot-cache", self.slapd, cache=True))

    def begin(self, server: Server) -> Server:
        self.running.append(server)
        return server

    def end(self, server: Server) -> None:
        self.running.remove(server)
        server.end()
        shutil.rmtree(server.home)

    def ours(self, **options: object) -> Server:
        """A saslauthd that has never been asked."""
        self.count += 1
        return self.begin(saslauthd(self.home / f"ours{self.count}", self.slapd, **options))  # type: ignore[arg-type]

    def measure(
        self, way: str, name: str, connections: int, server: Server | None, run: Callable[[], list[float]]
    ) -> None:
        pids = server.pids() if server else []
        before, served = cpu(pids), cpu([self.slapd.pid])
        began = time.perf_counter()
        times = sorted(run())
        took = time.perf_counter() - began
        n = len(times)
        own, theirs = (cpu(pids) - before) / n, (cpu([self.slapd.pid]) - served) / n
        late = lateness.samples(server.late, time.monotonic() - took) if server else []
        lag = 1e3 * late[int(len(late) * 0.99)] if late else 0.0
        row = (n / took, own * 1e6, theirs * 1e6, times[n // 2] * 1e3, times[int(n * 0.99)] * 1e3, lag)
        self.rows.setdefault((way, name, connections), []).append(row)
        print(
            f"{way:8}{name:40}{connections:3} {row[0]:7.0f}/s {row[1]:6.0f} +{row[2]:4.0f} µs "
            f"p50 {row[3]:.2f} p99 {row[4]:.2f} late {lag:.1f} ms",
            file=sys.stderr,
            flush=True,
        )

    def both(
        self, name: str, server: Server, connections: int, asking: Asking, before: Asking | None
    ) -> None:
        """At the socket and through Postfix. `before` is asked first, unmeasured; without it a new server is cold."""
        if before is not None:
            through_socket(server.socket, 8, before)
        if self.only in ("", "socket"):
            run = lambda: through_socket(server.socket, connections, asking)  # noqa: E731
            self.measure("socket", name, connections, server, run)
        if before is not None:
            self.smtp(name, server, connections, asking)

    def smtp(self, name: str, server: Server, connections: int, asking: Asking) -> None:
        if self.only in ("", "smtp"):
            with self.postfix.asking(server) as port:
                through_smtp(port, connections, Asking(("alice",) * 3 * connections))  # every smtpd is there
                run = lambda: through_smtp(port, connections, asking)  # noqa: E731
                self.measure("smtp", name, connections, server, run)

    def round(self) -> None:
        once, often = Asking(everybody()), Asking(everybody(), self.seconds)
        for n in self.connections:
            if self.only in ("", "socket"):
                for name, search in (
                    ("slapd, search + bind (libldap)", True),
                    ("slapd, bind (libldap)", False),
                ):
                    self.measure(
                        "socket", name, n, None, lambda: raw(self.slapd, n, self.seconds, search=search)
                    )
            self.both("Dovecot, search + auth_bind", self.dovecot, n, often, Asking(everybody()[:8]))
            for cold in (self.both, self.smtp):
                server = self.ours()
                cold("saslauthd, cold", server, n, once, *([None] if cold == self.both else []))
                if cold == self.smtp:
                    self.both("saslauthd, cached DN", server, n, often, once)
                self.end(server)
            if n == 8 and self.only in ("", "socket"):
                server = self.ours(threads=True)
                through_socket(server.socket, 8, once)
                run = lambda: through_socket(server.socket, n, often)  # noqa: E731
                self.measure("socket", "saslauthd, ldap3 in threads, cached DN", n, server, run)
                self.end(server)
            self.both("Dovecot, its cache", self.dovecot_cache, n, often, once)
            server = self.ours(successes="120 s", guard=", floor: 0 s, delay: 0 s")
            self.both("saslauthd, positive-cached", server, n, often, once)
            if n == 64:
                self.wrong(server, n)
            self.end(server)

    def wrong(self, server: Server, n: int) -> None:
        """Remembered failures: with answers put off as shipped, and at once."""
        asking, once = Asking(WRONG, max(1.5, self.seconds), right=False), Asking(WRONG, right=False)
        self.both("saslauthd, negative-cached, at once", server, n, asking, once)
        shipped = self.ours()
        self.both("saslauthd, negative-cached", shipped, n, asking, once)
        self.end(shipped)
        self.both("Dovecot, its cache, wrong password", self.dovecot_cache, n, asking, once)

    def table(self, way: str) -> str:
        lines = [
            "| | connections | logins/s median [min-max] | CPU µs own + slapd | p50 / p99 ms | reactor late, p99 ms |",
            "|---|---|---|---|---|---|",
        ]
        for (path, name, connections), rows in self.rows.items():
            if path != way:
                continue
            rate, own, theirs, p50, p99, late = (statistics.median(one) for one in zip(*rows, strict=True))
            rates = [row[0] for row in rows]
            lines.append(
                f"| {name} | {connections} | {rate:,.0f} [{min(rates):,.0f}-{max(rates):,.0f}] |"
                f" {own:.0f} + {theirs:.0f} | {p50:.2f} / {p99:.2f} | {f'{late:.1f}' if late else ''} |"
            )
        return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.ldap_auth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--connections", type=int, action="append", default=[])
    parser.add_argument("--only", choices=("", "socket", "smtp"), default="")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="swbench", dir="/var/tmp"))
    home.chmod(0o755)
    bench = Bench(home, options.seconds, options.only, tuple(options.connections) or CONNECTIONS)
    try:
        for _ in range(options.rounds):
            bench.round()
    finally:
        for way, title in (("socket", "At the auth socket"), ("smtp", "Through Postfix")):
            print(f"\n### {title}\n\n{bench.table(way)}", flush=True)
        for server in list(bench.running):
            server.end()
        bench.slapd.stop()
        shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
