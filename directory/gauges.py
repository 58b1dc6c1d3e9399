"""How a directory is doing, for the metrics of whoever asks it.

Knows the states of a directory. Must not know why it is in one.
"""

from __future__ import annotations

from collections.abc import Callable

from directory.identity import Directory
from sidecar.metrics import Metrics


def tell_state(metrics: Metrics, directory: Callable[[], Directory]) -> None:
    """Two gauges for the directory in use: whether answers are old, and whether there are none."""
    metrics.gauge(
        "directory_stale",
        "1 while the directory is away, or its file broken, and older answers stand in.",
        lambda: float(directory().state() == "stale"),
    )
    metrics.gauge(
        "directory_unavailable",
        "1 while the directory does not answer.",
        lambda: float(directory().state() == "unavailable"),
    )
