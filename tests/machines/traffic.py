"""Mail that goes on while something happens to a relay: bob, message after message, each tried until taken.

Knows what a mail client may meet: temporary trouble is tried again, a closed port and a 5xx are wrong. Runs
in the relay's network, as a process of its own that is told to stop by the end of its standard input.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tests.lab import recovery
from tests.lab.client import Client
from tests.lab.recovery import Run
from tests.machines.hardening import assert_always_offered_auth

if TYPE_CHECKING:
    from tests.machines.machine import Machine
    from tests.machines.scene import Scene

PORT = "127.0.0.1:587"
#: A deployment restarts sidecars one after the other, on machines that have two cores between them.
PATIENCE = 240.0


class Traffic:
    """``with Traffic(scene, relay) as traffic``: mail flows until the block ends; then it is counted."""

    def __init__(self, scene: Scene, relay: Machine, sender: str = "bob@example.org") -> None:
        self.scene, self.relay, self.sender = scene, relay, sender
        self.words: list[str] = []
        self.wrong: list[str] = []
        self.seen: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Traffic:
        told = {"directory": str(self.scene.directory), "logins": self.scene.logins, "sender": self.sender}
        self._process = subprocess.Popen(
            [*self.relay.place.enter(), sys.executable, "-m", "tests.machines.traffic", json.dumps(told)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.wait_for_one()
        return self

    def wait_for_one(self) -> None:
        """Until a message that is begun after this call has been taken."""
        assert self._process
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("tell\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "taken\n"

    def may_close_once(self) -> None:
        """The relay is about to go: its port may be closed, until the first time that it is open again."""
        assert self._process
        assert self._process.stdin
        self._process.stdin.write("down\n")
        self._process.stdin.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._process
        output, _ = self._process.communicate("", timeout=PATIENCE + 60)
        found = json.loads(output)
        self.words, self.wrong, self.seen = found["words"], found["wrong"], found["seen"]

    @property
    def taken(self) -> int:
        """How many messages there were."""
        return len(self.words)

    def arrived(self, *, once: bool = True) -> int:
        """How many of them are in the sink, each for both of its recipients, after waiting for the last.

        Not `once`: those count too that came twice, since their answer was lost with the connection.
        """
        deadline = time.monotonic() + 120
        while True:
            mail = [path.read_bytes() for path in (self.scene.places.sink / "new").iterdir()]
            counts = [sum(word.encode() in message for message in mail) for word in self.words]
            found = sum(count == 2 or (count > 2 and not once) for count in counts)
            if found == len(self.words) or time.monotonic() > deadline:
                return found
            time.sleep(0.5)


@contextlib.contextmanager
def refuses_nobody(scene: Scene, relay: Machine, sender: str = "bob@example.org") -> Iterator[Traffic]:
    """Mail flows while the block does something to the relay, and all of it arrives, once each."""
    with Traffic(scene, relay, sender) as traffic:
        yield traffic
        traffic.wait_for_one()
    assert traffic.wrong == []
    assert traffic.arrived() == traffic.taken > 0


def assert_refuses_nobody_over_a_reboot(scene: Scene, relay: Machine) -> None:
    """While it is down its port may be closed; before and after that all is as ever."""
    with Traffic(scene, relay) as traffic:
        traffic.may_close_once()
        relay.reboot()
        traffic.wait_for_one()
    assert traffic.wrong == []
    assert traffic.arrived(once=False) == traffic.taken > 0
    assert_always_offered_auth(relay)
    assert relay.failed_units() == ""


class _Run(Run):
    """A run that also knows of a relay that goes down and comes back."""

    down = was_closed = False

    def _attempt(self, word: str, hooks: Mapping[str, Callable[[], object]]) -> bool:
        known = len(self.wrong)
        over = super()._attempt(word, hooks)
        closed = any(text.startswith("the port is closed") for text in self.wrong[known:])
        if closed and self.down:
            self.was_closed = True
            self.seen += self.wrong[known:]
            del self.wrong[known:]
        elif self.was_closed and not closed:
            self.down = self.was_closed = False
        return over


def main(told: dict[str, object]) -> None:
    """Send until standard input ends; print what came of it. A line asks to be told of the next message."""

    class Relay:
        logins = told["logins"]

    recovery.BOB, recovery.PATIENCE = str(told["sender"]), PATIENCE
    ended, asked = threading.Event(), threading.Event()
    ca = Path(str(told["directory"])) / "postfix/tls/ca.crt"
    run = _Run(Relay(), Client(PORT, ca))  # type: ignore[arg-type]

    def listen() -> None:
        for line in sys.stdin:
            if line == "down\n":
                run.down = True
            else:
                asked.set()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    while not ended.is_set():
        waiting = asked.is_set()
        asked.clear()
        run.deliver()
        if waiting:
            print("taken", flush=True)
    print(json.dumps({"words": run.words, "wrong": run.wrong, "seen": run.seen}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
