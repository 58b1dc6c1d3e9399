"""`python -m bench policy|mail`: interleaved rounds, medians and ratios as Markdown.

Knows what is compared with what. Must not know how a server is begun.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from bench import load, servers
from bench.load import Result

SERVICES: tuple[Callable[[], AbstractContextManager[servers.Service]], ...] = (
    servers.sqlite,
    lambda: servers.redis(tcp=False),
    lambda: servers.redis(tcp=True),
    servers.postfwd,
    servers.policyd_rate_limit,
)
LOADS: dict[str, Callable[[], Iterator[bytes]]] = {
    "RCPT (ownership and standing)": load.rcpts,
    "DATA and END-OF-MESSAGE (four limits; others are asked at RCPT, where they count)": load.messages,
}


def policy(rounds: int, seconds: float) -> None:
    """Policy requests alone."""
    results: dict[tuple[str, str], list[Result]] = {}
    for _ in range(rounds):
        for kind, requests in LOADS.items():
            for begin in SERVICES:
                with begin() as service:
                    # Others count at RCPT, whatever ours is asked.
                    asked = requests if service.name.startswith("submitward") else load.rcpts
                    got = load.measure(
                        service.connect, asked, service.pids, seconds=seconds, warm_up=seconds / 3
                    )
                results.setdefault((kind, service.name), []).append(got)
                print(kind, service.name, got, file=sys.stderr, flush=True)
    for kind in LOADS:
        print(
            f"\n### {kind}\n\n| service | requests/s, median [min-max] | times postfwd1"
            " | times policyd-rate-limit | CPU µs/request | p50 / p99 ms |\n|---|---|---|---|---|---|"
        )
        rows = {name: got for (k, name), got in results.items() if k == kind}
        for name, got in rows.items():
            rates = [one.rate for one in got]
            ratios = [
                statistics.median(mine / theirs.rate for mine, theirs in zip(rates, other, strict=True))
                for title, other in rows.items()
                if title.startswith("p")
            ]
            cpu = statistics.median(one.cpu for one in got)
            p50, p99 = (statistics.median(getattr(one, p) for one in got) for p in ("p50", "p99"))
            print(
                f"| {name} | {statistics.median(rates):,.0f} [{min(rates):,.0f}-{max(rates):,.0f}] | "
                f"{ratios[0]:.1f} | {ratios[1]:.1f} | {cpu:.0f} | {p50:.2f} / {p99:.1f} |"
            )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", choices=("policy", "mail"))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    if options.what == "mail":
        from bench import mail

        mail.run(options.rounds, options.seconds)
    else:
        policy(options.rounds, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
