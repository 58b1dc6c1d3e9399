"""What stands in Redis, read by the script itself, at any time to come."""

from __future__ import annotations

import time

import redis

from ledger import script
from ledger.limits import parse_limit
from ledger.redis import SCRIPT
from tests.redis.server import Server


class Books:
    """Runs verbs, one call each. `now` tells the time; without, the server's counts."""

    def __init__(self, prefix: str, server: Server) -> None:
        self.client = redis.Redis(unix_socket_path=str(server.socket))
        self.meta = f"{prefix}meta"

    def run(self, now: float | None, *verb: bytes, sweep: int = 1000):
        at = "" if now is None else repr(now)
        _at, answer = self.client.eval(SCRIPT, 1, self.meta, at, sweep, *verb)
        assert not (isinstance(answer, bytes) and answer.startswith(b"!")), answer
        return answer

    def used(self, subject: str, limit: str = "100 recipients per hour", *, later: float = 0.0) -> int:
        """What `subject` has used, now or `later` seconds from now."""
        pair = (subject, parse_limit(limit))
        now = time.time() + later if later else None
        answer = self.run(now, *script.standing((pair,)))
        return script.read_outcome(answer, ((*pair, True),), script.Clock()).standings[0].used

    def close(self) -> None:
        self.client.close()
