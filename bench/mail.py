"""The same through a real Postfix: RCPT/s and messages/s with each service asked, and with none.

Knows Postfix's side and an SMTP client. Must not know how a policy service is begun.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from smtplib import SMTP

from bench import servers
from bench.ldap import login_maps
from bench.load import cpu
from tests.milter import mail_host
from tests.redis.hosts import MAIN, listens, log_in, serve_sasl
from tests.saslauthd.postfix import free_ports

SESSIONS = 8
#: RSET counts as a junk command: after 100 of them Postfix waits a second before each answer.
PATIENT = "smtpd_junk_command_limit = 100000000\nsmtpd_error_sleep_time = 0\n"
BODY = "Subject: x\r\n\r\n" + ("x" * 70 + "\r\n") * 70 + ".\r\n"
NONE = "no policy"
PIDS: list[int] = []  # the processes of the service that is asked


@contextmanager
def nothing() -> Iterator[str]:
    """No question at all."""
    yield ""


def asked(begin: Callable[[], AbstractContextManager[servers.Service]], *lists: str):
    """Postfix asks a policy service in these restriction lists."""

    @contextmanager
    def settings() -> Iterator[str]:
        with begin() as service:
            words = f"check_policy_service {{{{ {service.address}, timeout=10s }}}}"  # for str.format
            PIDS[:] = service.pids()
            yield "".join(f"smtpd_{name}_restrictions = {words}\n" for name in lists)
            PIDS.clear()

    return settings


EVERYWHERE = ("recipient", "data", "end_of_data")
CASES: dict[str, Callable[[], AbstractContextManager[str]]] = {
    NONE: nothing,
    "a service that says DUNNO to everything": asked(servers.echo, *EVERYWHERE),
    "submitward, Redis by UNIX socket": asked(lambda: servers.redis(tcp=False), *EVERYWHERE),
    "submitward, SQLite": asked(servers.sqlite, *EVERYWHERE),
    "sender_login_maps over LDAP": login_maps,
    "postfwd1": asked(servers.postfwd, "recipient"),
    "policyd-rate-limit": asked(servers.policyd_rate_limit, "recipient"),
}


def run(rounds: int, seconds: float) -> None:
    """Measure all cases in turn, and print a table."""
    rates: dict[tuple[str, str], list[float]] = {}
    costs: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, settings in CASES.items():
            with settings() as text, running(text) as port:
                for kind, step in (("RCPT/s", _recipients), ("messages/s", _message)):
                    rate, cost = measure(port, step, seconds)
                    rates.setdefault((kind, name), []).append(rate)
                    costs.setdefault((kind, name), []).append(cost)
                    print(kind, name, round(rate), round(cost), file=sys.stderr, flush=True)
    for kind in ("RCPT/s", "messages/s"):
        print(
            f"\n| {kind} | median [min-max] | ratio to none | CPU µs of the service for each |\n|---|---|---|---|"
        )
        for name in CASES:
            got = rates[kind, name]
            ratio = statistics.median(a / b for a, b in zip(got, rates[kind, NONE], strict=True))
            print(
                f"| {name} | {statistics.median(got):,.0f} [{min(got):,.0f}-{max(got):,.0f}] | {ratio:.2f} |"
                f" {statistics.median(costs[kind, name]):.0f} |"
            )


@contextmanager
def running(text: str) -> Iterator[int]:
    """A Postfix with these lines in its main.cf; gives its port."""
    with servers.home() as home:
        (port,) = free_ports(1)
        bare = [line for line in MAIN.splitlines() if not line.startswith(("policy =", "smtpd_", "#"))]
        sasl = [line for line in MAIN.splitlines() if line.startswith(("smtpd_sasl", "smtpd_relay"))]
        kept, mail_host.MAIN = mail_host.MAIN, "\n".join((*bare, *sasl, PATIENT + text))
        with serve_sasl(home):
            try:
                master = mail_host.begin(home, port)
            finally:
                mail_host.MAIN = kept
            try:
                while not listens(port):
                    time.sleep(0.05)
                yield port
            finally:
                mail_host.end(home, master)


def measure(
    port: int, step: Callable[[SMTP, str], int], seconds: float, warm_up: float = 2.0
) -> tuple[float, float]:
    """How often a second `step` counts, over all sessions, after a warm-up; and the CPU of the service for each
    in µs."""
    counts = [0] * SESSIONS
    begin = time.monotonic() + warm_up
    end = begin + seconds

    def session(lane: int) -> None:
        login = f"user{lane}"
        client = log_in(port, login)
        while (now := time.monotonic()) < end:
            done = step(client, login)
            if now >= begin:
                counts[lane] += done
        client.close()

    lanes = [threading.Thread(target=session, args=(n,)) for n in range(SESSIONS)]
    for lane in lanes:
        lane.start()
    time.sleep(warm_up)
    spent = cpu(PIDS)
    for lane in lanes:
        lane.join()
    return sum(counts) / seconds, 1e6 * (cpu(PIDS) - spent) / max(1, sum(counts))


def _recipients(client: SMTP, login: str) -> int:
    _expect(250, client.mail(f"{login}@example.org"))
    for n in range(20):
        _expect(250, client.rcpt(f"r{n}@elsewhere.example"))
    _expect(250, client.rset())
    return 20


def _message(client: SMTP, login: str) -> int:
    _expect(250, client.mail(f"{login}@example.org"))
    _expect(250, client.rcpt("r@elsewhere.example"))
    _expect(354, client.docmd("DATA"))
    client.send(BODY)
    _expect(250, client.getreply())
    return 1


def _expect(code: int, got: tuple[int, bytes]) -> None:
    if got[0] != code:
        raise RuntimeError(f"answered {got}")
