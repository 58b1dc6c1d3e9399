"""Policy requests over kept connections, one in flight on each, as fast as they are answered.

Knows the wire and a clock. Must not know who answers.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

CONNECTIONS = 16
LOGINS = 1000
_numbers = count()

ATTRIBUTES = """\
request=smtpd_access_policy
protocol_state={state}
protocol_name=ESMTP
client_address=198.51.100.7
client_name=client.example
client_port=41234
reverse_client_name=client.example
server_address=192.0.2.1
server_port=587
helo_name=client.example
sender={login}@example.org
recipient={recipient}
recipient_count={count}
queue_id={queue_id}
instance={instance}
size=5000
etrn_domain=
stress=
sasl_method=PLAIN
sasl_username={login}
sasl_sender=
ccert_subject=
ccert_issuer=
ccert_fingerprint=
ccert_pubkey_fingerprint=
encryption_protocol=TLSv1.3
encryption_cipher=TLS_AES_256_GCM_SHA384
encryption_keysize=256
policy_context=
compatibility_level=3.6
mail_version=3.7.11

"""


def rcpts() -> Iterator[bytes]:
    """RCPT requests: one recipient in each transaction."""
    while True:
        n = next(_numbers)
        said = {"login": f"user{n % LOGINS}", "instance": f"1f2.{n}.0", "queue_id": "", "count": 0}
        yield ATTRIBUTES.format(state="RCPT", recipient="someone@elsewhere.example", **said).encode()


def messages() -> Iterator[bytes]:
    """DATA and END-OF-MESSAGE of one message after the other."""
    while True:
        n = next(_numbers)
        said = {"login": f"user{n % LOGINS}", "instance": f"1f2.{n}.0", "queue_id": f"4X{n}", "count": 1}
        for state in ("DATA", "END-OF-MESSAGE"):
            yield ATTRIBUTES.format(state=state, recipient="someone@elsewhere.example", **said).encode()


@dataclass(frozen=True, slots=True)
class Result:
    """Requests a second, latencies in ms, CPU of the servers in µs for each request."""

    rate: float
    p50: float
    p99: float
    cpu: float


def measure(
    connect: Callable[[], socket.socket],
    requests: Callable[[], Iterator[bytes]],
    pids: Callable[[], list[int]],
    *,
    seconds: float,
    warm_up: float,
    connections: int = CONNECTIONS,
) -> Result:
    """Ask for `warm_up` and then for `seconds`; every answer must be DUNNO."""
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        lane = connect()
        source = requests()
        selector.register(lane, selectors.EVENT_READ, [source, 0.0])
    now = time.perf_counter()
    begin, end = now + warm_up, now + warm_up + seconds
    for key in selector.get_map().values():
        key.data[1] = now
        key.fileobj.sendall(next(key.data[0]))  # type: ignore[union-attr]
    took: list[float] = []
    spent = -1.0
    while now < end:
        for key, _ in selector.select(5):
            lane = key.fileobj  # type: ignore[assignment]
            answer = lane.recv(4096)
            now = time.perf_counter()
            if answer.strip().lower() != b"action=dunno":
                raise RuntimeError(f"answered {answer!r}")
            if now >= begin:
                if spent < 0:
                    spent = cpu(pids())
                took.append(now - key.data[1])
            key.data[1] = now
            lane.sendall(next(key.data[0]))
    spent = cpu(pids()) - spent
    for key in list(selector.get_map().values()):
        key.fileobj.close()  # type: ignore[union-attr]
    selector.close()
    took.sort()
    n = len(took)
    return Result(n / seconds, 1000 * took[n // 2], 1000 * took[int(n * 0.99)], 1e6 * spent / n)


def cpu(pids: list[int]) -> float:
    """Seconds of CPU that these processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100


def children(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found += children(int(entry.parent.name))
    return found
