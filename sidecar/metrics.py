"""Counters and states for Prometheus, served on loopback or a UNIX socket only.

Knows prometheus_client and the page it is read from. Must not know what is counted; no address and no login
may become a label.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import prometheus_client

from sidecar.gate import Gate
from sidecar.listen import Held

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
        counter = prometheus_client.Counter(PREFIX + name, help, labels, registry=self.registry)
        return Counter(counter, len(labels))

    def gauge(self, name: str, help: str, function: Callable[[], float]) -> None:
        """A value ``submitward_<name>`` that `function` tells when it is asked for."""
        prometheus_client.Gauge(PREFIX + name, help, registry=self.registry).set_function(function)

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        return prometheus_client.generate_latest(self.registry)


def serve(gate: Gate, held: Held, metrics: Metrics, state: Callable[[], str]) -> None:
    """Serve ``/metrics``, and ``/state`` as one line of text, on a held socket behind a gate of its own.

    Not on Twisted's port, which gives a UNIX socket the mode 0666 even when it takes over an open one.
    """
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    class Page(Resource):
        isLeaf = True

        def __init__(self, kind: str, content: Callable[[], bytes]) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self._kind = kind
            self._content = content

        def render_GET(self, request: Any) -> bytes:
            request.setHeader(b"content-type", self._kind.encode())
            return self._content()

    root: Any = Resource()  # type: ignore[no-untyped-call]
    root.putChild(b"metrics", Page(prometheus_client.CONTENT_TYPE_LATEST, metrics.page))
    root.putChild(b"state", Page("text/plain; charset=utf-8", lambda: (state() + "\n").encode()))
    site: Any = Site(root)  # type: ignore[no-untyped-call]
    gate.add(held, site)
