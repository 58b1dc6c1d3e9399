"""Mail that goes on while something happens to a machine: bob, message after message, each tried until taken.

Knows what a mail client may meet: temporary trouble is tried again, a closed port and a 5xx are wrong. Runs
in the machine's network, as a process of its own that is told to stop by the end of its standard input.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tests.lab.client import Client
from tests.lab.recovery import Run

if TYPE_CHECKING:
    from tests.machines.scene import Scene


class Traffic:
    """``with Traffic(scene) as traffic``: mail flows until the block ends; then it is counted."""

    def __init__(self, scene: Scene, sender: str = "bob@example.org") -> None:
        self.scene, self.sender = scene, sender
        self.words: list[str] = []
        self.wrong: list[str] = []
        self.seen: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Traffic:
        told = {"directory": str(self.scene.directory), "logins": self.scene.logins, "sender": self.sender}
        enter = self.scene.machine.enter("-n")
        self._process = subprocess.Popen(
            [*enter, "--", sys.executable, "-m", "tests.machines.traffic", json.dumps(told)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._process
        output, _ = self._process.communicate("", timeout=120)
        found = json.loads(output)
        self.words, self.wrong, self.seen = found["words"], found["wrong"], found["seen"]

    @property
    def taken(self) -> int:
        """How many messages there were."""
        return len(self.words)

    def arrived(self) -> int:
        """How many of them are in the sink, each for both of its recipients, after waiting for the last."""
        deadline = time.monotonic() + 30
        while True:
            mail = [path.read_bytes() for path in (self.scene.places.sink / "new").iterdir()]
            found = sum(sum(word.encode() in message for message in mail) == 2 for word in self.words)
            if found == len(self.words) or time.monotonic() > deadline:
                return found
            time.sleep(0.5)


def main(told: dict[str, object]) -> None:
    """Send until standard input ends; print what came of it."""
    import tests.lab.recovery as recovery

    class Relay:
        logins = told["logins"]

    recovery.BOB = str(told["sender"])
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    ca = Path(str(told["directory"])) / "postfix/tls/ca.crt"
    run = Run(Relay(), Client("127.0.0.1:587", ca))  # type: ignore[arg-type]
    while not ended.is_set():
        run.deliver()
    print(json.dumps({"words": run.words, "wrong": run.wrong, "seen": run.seen}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
