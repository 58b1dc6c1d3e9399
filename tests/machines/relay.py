"""A deployed machine as the story sees it: the same people, the same steps, other processes.

Run in the machine's network as ``python -m tests.machines.relay LEADER DIRECTORY LOGIN=PASSWORD…``, so that
loopback is the machine's and the files are ours. Knows how a deployed Submitward is stopped, killed and
asked. Must not know what is expected.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.lab import story
from tests.lab.__main__ import STEPS, tell
from tests.lab.files import Places
from tests.machines.machine import ENVIRONMENT

UNITS = {"policyd": "policy", "saslauthd": "auth", "milter": "milter"}
PORTS = {"submission": 587, "submissions": 465, "mx": 25}


class Relay:
    """What `tests.lab.story` asks of a lab."""

    def __init__(
        self, leader: int, directory: Path, logins: dict[str, str], address: str = "127.0.0.1"
    ) -> None:
        self.leader, self.logins, self.places = leader, logins, Places(directory)
        self.submission, self.submissions, self.mx = (f"{address}:{port}" for port in PORTS.values())

    def inside(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine."""
        enter = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "--"]
        return subprocess.run(
            [*enter, *command], capture_output=True, text=True, check=check, cwd="/", env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def submitward(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The operator's command."""
        return self.inside("/opt/submitward/current/bin/submitward", *arguments, check=check)

    def stop_sidecars(self) -> None:
        """Services and sockets."""
        names = [f"submitward-{unit}.{kind}" for unit in UNITS.values() for kind in ("socket", "service")]
        self.inside("systemctl", "stop", *names)

    def start_sidecars(self) -> None:
        self.inside("systemctl", "start", *[f"submitward-{unit}.socket" for unit in UNITS.values()])
        self.inside("systemctl", "start", *[f"submitward-{unit}.service" for unit in UNITS.values()])

    def pid(self, name: str) -> int:
        """In the machine's own numbers."""
        unit = f"submitward-{UNITS[name]}.service"
        return int(self.inside("systemctl", "show", "--property=MainPID", "--value", unit).stdout)

    def wait_pid(self, name: str, old: int, seconds: float = 60) -> bool:
        deadline = time.monotonic() + seconds
        while (back := self.pid(name) not in (0, old)) is False and time.monotonic() < deadline:
            time.sleep(0.2)
        return back

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        pid = self.pid(name)
        self.inside("/bin/sh", "-c", f"kill -{int(number)} {pid}")
        return pid

    def received(self, token: str) -> list[bytes]:
        messages = (path.read_bytes() for path in sorted((self.places.sink / "new").iterdir()))
        return [message for message in messages if token.encode() in message]

    def wait_received(self, token: str, count: int, seconds: float = 30) -> list[bytes]:
        deadline = time.monotonic() + 4 * seconds
        while len(found := self.received(token)) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


def main(leader: str, directory: str, *logins: str) -> int:
    """Tell the whole story; 0 when every line is as expected."""
    # Another host may carry the change, and the machines are many: the bound that users see is 2 s.
    story.NOTICED = 2.0
    relay = Relay(int(leader), Path(directory), dict(login.split("=", 1) for login in logins))
    wrong = sum(tell(step, relay) for step in STEPS)  # type: ignore[arg-type]
    return 1 if wrong else 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(*sys.argv[1:]))
