"""The signer itself, asked whether it signs for an author: it may not have read what its tables say by now.

Knows for how long an answer holds. Must not know what the tables mean, nor what is said to the sender.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThreadPool

from directory.address import Malformed, parse_domain
from milter.probe import signature_of

HOLDS = 60.0  # seconds; a change of the tables ends it at once
MOST = 10_000  # authors that are remembered
TIMEOUT = 2.0  # seconds for each of its answers


class Signer:
    """OpenDKIM at the UNIX socket `path`."""

    def __init__(self, path: Path, *, reactor: Any) -> None:
        self.path = path
        self._reactor = reactor
        self._version: object = None
        self._until: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    async def signs(self, author: str, domain: str, selector: str, version: object) -> bool:
        """Whether it signs mail From `author` with this d= and s=; `version` tells one state of the tables'
        files from another. Raises NoAnswer."""
        if version != self._version:
            self._version = version
            self._until.clear()
        key = (author.lower(), domain, selector)
        if self._reactor.seconds() < self._until.get(key, 0.0):
            return True
        pool = self._reactor.getThreadPool()
        found = await deferToThreadPool(self._reactor, pool, signature_of, self.path, author, TIMEOUT)
        if found is None or found[1] != selector or _normal(found[0]) != domain:
            return False
        if version == self._version:
            self._until[key] = self._reactor.seconds() + HOLDS
            self._until.move_to_end(key)
            if len(self._until) > MOST:
                self._until.popitem(last=False)
        return True


def _normal(domain: str) -> str:
    try:
        return parse_domain(domain)
    except Malformed:
        return ""
