"""How a sidecar is, as its metrics listener says.

Knows that listener: a line of text at ``/state``, numbers at ``/metrics``. Must not know what they mean.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field

from sidecar.endpoints import split_host_port

SECONDS = 3.0
_MOST = 1 << 20  # octets of an answer
_NUMBER = re.compile(
    rb"^submitward_(?:policy_|milter_)?(\w*(?:waiting|lost|failed)(?:_total)?) ([0-9.e+]+)$", re.M
)


@dataclass(frozen=True, slots=True)
class State:
    """`state` is ``ok``, ``degraded``, ``unavailable`` (it does not answer) or ``not asked`` (it has no
    metrics listener); `detail` says which part is how, `numbers` what waits or was lost, if anything."""

    state: str
    detail: str = ""
    numbers: dict[str, float] = field(default_factory=dict)


def ask(address: str) -> State:
    """The state of the sidecar whose metrics listener is at `address`, ``""`` for none."""
    if not address:
        return State("not asked", "(no listen.metrics for it)")
    try:
        word, _, detail = _get(address, "/state").decode("utf-8", "replace").strip().partition(" ")
        page = _get(address, "/metrics")
    except (OSError, ValueError) as wrong:
        return State("unavailable", f"({address}: {wrong})")
    found = {name.decode(): float(number) for name, number in _NUMBER.findall(page) if float(number)}
    return State(word if word in ("ok", "degraded") else "degraded", detail, found)


def _get(address: str, path: str) -> bytes:
    """The body of a page (HTTP/1.0, RFC 1945). Raises OSError, or ValueError for what is no 200."""
    with _connect(address) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        while len(answer) < _MOST and (more := connection.recv(65536)):
            answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ")[1:2] != [b"200"]:
        raise ValueError("it gives no such page: is it a sidecar of ours?")
    return body


def _connect(address: str) -> socket.socket:
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SECONDS)
        try:
            connection.connect(address.removeprefix("unix:"))
        except OSError:
            connection.close()
            raise
        return connection
    host, port = split_host_port(address)
    return socket.create_connection((str(host), port), SECONDS)
