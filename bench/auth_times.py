"""Does the time of a refusal tell an unknown login from a wrong password?

    python -m bench.auth_times [--tries 1000]

Tries of both kinds in turn, each with a password and from an address of its own, at a saslauthd as shipped
(but for the guard's bounds) before slapd. The area under the ROC curve is the chance that a wrong password took
longer than an unknown login: 0.5 tells nothing. Knows the tries and the area. Must not know how servers begin.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.auth_servers import Server, saslauthd
from tests.ldap.certificates import Authority
from tests.ldap.slapd import USERS, Slapd, user

LANES = 16
REGIMES = {
    "as shipped (answers at a multiple of 0.25 s)": "",
    "without floor and delay, to see what they hide": ", floor: 0 s, delay: 0 s",
}


def area(one: list[float], other: list[float]) -> float:
    """How often one of `other` is larger than one of `one`; equal ones count half."""
    ranked = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    total, at = 0.0, 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        total += sum(kind for _, kind in ranked[at:end]) * (at + end + 1) / 2
        at = end
    n = len(other)
    return (total - n * (n + 1) / 2) / (len(one) * n)


def tries(count: int) -> Iterator[tuple[int, str, bytes]]:
    """(kind, login, password): an unknown login and a wrong password in turn, each login as often as the other."""
    for n in range(count // 2):
        yield 0, f"nouser{n % (USERS // 2):04d}", b"guess%d" % n
        yield 1, user(n % (USERS // 2)), b"guess%d" % n


def run(server: Server, count: int) -> tuple[list[float], list[float]]:
    """Seconds of each kind's answers."""
    times: tuple[list[float], list[float]] = ([], [])
    source, lock = enumerate(tries(count)), threading.Lock()

    def lane(number: int) -> None:
        one = socket.socket(socket.AF_UNIX)
        one.connect(server.socket)
        said = one.makefile("rb")
        one.sendall(b"VERSION\t1\t2\nCPID\t%d\n" % (1 + number))
        while said.readline() != b"DONE\n":
            pass
        while True:
            with lock:
                n, (kind, login, secret) = next(source, (0, (2, "", b"")))
            if kind == 2:
                return
            response = base64.b64encode(b"\0" + login.encode() + b"\0" + secret)
            rip = b"10.%d.%d.1" % (n // 250, n % 250)
            began = time.perf_counter()
            one.sendall(b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\trip=%s\tresp=%s\n" % (rip, response))
            answer = said.readline()
            times[kind].append(time.perf_counter() - began)
            if not answer.startswith(b"FAIL\t") or b"temp" in answer:
                raise RuntimeError(f"answered {answer!r}")

    lanes = [threading.Thread(target=lane, args=(n,)) for n in range(LANES)]
    for one in lanes:
        one.start()
    for one in lanes:
        one.join()
    return times


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.auth_times", description=__doc__)
    parser.add_argument("--tries", type=int, default=1000)
    count = parser.parse_args().tries
    home = Path(tempfile.mkdtemp(prefix="swbench", dir="/var/tmp"))
    (home / "tls").mkdir()
    slapd = Slapd(home / "slapd", Authority(home / "tls"), certificate="").make().start()
    print(
        "| regime | tries | unknown login, median ms | wrong password, median ms | area under the ROC curve |"
    )
    print("|---|---|---|---|---|")
    try:
        for n, (title, guard) in enumerate(REGIMES.items()):
            server = saslauthd(home / f"ours{n}", slapd, guard=guard)
            try:
                unknown, wrong = run(server, count)
            finally:
                server.end()
            one, other = (1e3 * statistics.median(times) for times in (unknown, wrong))
            tried = len(unknown) + len(wrong)
            print(f"| {title} | {tried} | {one:.2f} | {other:.2f} | {area(unknown, wrong):.3f} |", flush=True)
    finally:
        slapd.stop()
        shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
