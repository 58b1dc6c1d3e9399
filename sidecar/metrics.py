"""Counters and states for Prometheus, served on loopback or a UNIX socket only.

Knows prometheus_client. Must not know what is counted; no address and no login may become a label.
"""

from __future__ import annotations

from collections.abc import Callable

import prometheus_client

PREFIX = "submitward_"
MOST_LABELS = 500  # combinations per counter; what comes after them is counted as "other"


class Counter:
    """A number that only grows, one for each combination of label values."""

    def __init__(self, counter: prometheus_client.Counter, labels: int) -> None:
        self._counter = counter
        self._labels = labels
        self._children: dict[tuple[str, ...], prometheus_client.Counter] = {}

    def count(self, *values: str, by: float = 1) -> None:
        """Add `by` to the counter of these label values (as many as it has labels)."""
        child = self._children.get(values)
        if child is None:
            child = self._child(values)
        child.inc(by)

    def _child(self, values: tuple[str, ...]) -> prometheus_client.Counter:
        if len(values) != self._labels:
            raise TypeError(f"{self._labels} label values are needed, not {len(values)}")
        if len(self._children) >= MOST_LABELS:
            values = ("other",) * self._labels
        child = self._counter.labels(*values) if values else self._counter
        self._children[values] = child
        return child


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()

    def counter(self, name: str, help: str, *labels: str) -> Counter:
        """A counter ``submitward_<name>_total``."""
        return Counter(
            prometheus_client.Counter(PREFIX + name, help, labels, registry=self.registry), len(labels)
        )

    def gauge(self, name: str, help: str, function: Callable[[], float]) -> None:
        """A value ``submitward_<name>`` that `function` tells when it is asked for."""
        prometheus_client.Gauge(PREFIX + name, help, registry=self.registry).set_function(function)
