"""What the host allows a process: descriptors, and the length of a listener's queue.

Knows getrlimit(2) and net.core.somaxconn. Must not know who connects, nor why.
"""

from __future__ import annotations

import resource
from pathlib import Path

from sidecar.binding import BACKLOG
from sidecar.log import Log

RESERVE = 64  # descriptors kept for files, the store, the log and the metrics
WANTED = 4096  # descriptors; with fewer a busy Postfix may have to wait


def raise_descriptors(log: Log) -> int:
    """Raise the soft limit of descriptors to the hard one; returns how many connections fit below it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 20
    if soft < WANTED:
        log.warning("descriptors", text=f"only {soft} may be open; set LimitNOFILE={WANTED} or more")
    return soft - min(RESERVE, soft // 2)


def check_backlog(log: Log) -> None:
    """Warn when the kernel keeps the queue of a listener shorter than we ask for (listen(2))."""
    try:
        longest = int(Path("/proc/sys/net/core/somaxconn").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return  # no /proc, as in a hardened unit; nothing depends on it
    if longest < BACKLOG:
        log.warning("backlog", text=f"at most {longest} connections wait; set net.core.somaxconn={BACKLOG}")
