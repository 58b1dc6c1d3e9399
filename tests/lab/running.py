"""What runs in a lab: the sink, the sidecars under their supervisor, OpenDKIM and Postfix.

Knows how each is started, when it is ready, and how it is ended. Must not know why.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

from tests.lab.files import Places
from tests.lab.probes import logs_in, may_send
from tests.lab.processes import MARK, Child, LabError, answers, connects, is_free, tail, wait_for
from tests.lab.remains import CLONE, environment

SIDECARS = ("policyd", "saslauthd", "milter")
_TOLD = ("supervisor", *SIDECARS, "opendkim", "slapd")


def split_address(address: str) -> tuple[str, int]:
    """``127.0.0.1:10587`` as host and port."""
    host, _, port = address.rpartition(":")
    return host, int(port)


class Running:
    """The processes of the lab at `places`; `password` is bob's, with whom readiness is tried."""

    def __init__(self, places: Places, password: str) -> None:
        self.places = places
        self._password = password
        self._children: dict[str, Child] = {}

    def start_sink(self) -> str:
        """Returns its address."""
        child = self._child("sink", [sys.executable, "-m", "tests.lab.sink", str(self.places.sink)])
        port = self.places.sink / "port"
        wait_for("the sink listens", port.exists, child=child)
        return f"127.0.0.1:{port.read_text()}"

    def start_sidecars(self) -> None:
        """Start `submitward serve all`; returns when a login is let in and judged."""
        command = ["-m", "submitward", "--settings", str(self.places.settings), "serve", "all"]
        child = self._child("supervisor", [sys.executable, *command, "--pid-directory", str(self.places.run)])
        auth, policy, milter = (self.places.socket(name) for name in ("auth", "policy", "milter"))
        wait_for("saslauthd is ready", lambda: logs_in(auth, "bob", self._password), child=child)
        wait_for("policyd is ready", lambda: may_send(policy, "bob", "bob@example.org"), child=child)
        wait_for("the milter listens", lambda: connects(milter), child=child)
        wait_for("the sidecars write their pids", lambda: set(_TOLD[:4]) <= set(self.pids()), child=child)

    def stop_sidecars(self) -> None:
        """SIGTERM for the supervisor, which ends all three; their sockets are gone after it."""
        self._stop("supervisor")

    def start_opendkim(self) -> None:
        """Returns when it listens."""
        child = self._child("opendkim", ["opendkim", "-f", "-x", str(self.places.postfix / "opendkim.conf")])
        path = self.places.socket("opendkim")
        wait_for("OpenDKIM listens", lambda: connects(path), child=child)

    def stop_opendkim(self) -> None:
        """End it, if it still runs."""
        self._stop("opendkim")

    def start_slapd(self, command: list[str], port: int) -> None:
        """Returns when it listens."""
        child = self._child("slapd", command)
        wait_for("slapd listens", lambda: not is_free("127.0.0.1", port), child=child)

    def stop_slapd(self) -> None:
        """End it, if it still runs."""
        self._stop("slapd")

    def start_postfix(self, services: Iterable[str]) -> None:
        """Returns when all services listen."""
        self.postfix("start")
        for host, port in map(split_address, services):
            wait_for(f"Postfix listens on {host}:{port}", lambda host=host, port=port: answers(host, port))

    def postfix(self, verb: str, *, check: bool = True) -> None:
        """``postfix -c DIRECTORY verb`` on the lab's instance."""
        log = self.places.log / "postfix-commands"
        with log.open("ab") as output:
            done = subprocess.run(
                ["postfix", "-c", str(self.places.postfix), verb],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environment(), MARK: str(self.places.directory)},
                start_new_session=True,
                check=False,
            )
        if check and done.returncode:
            raise LabError(f"postfix {verb} failed:\n{tail(log)}\n{tail(self.places.log / 'postfix')}")

    def submitward(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the operator's command on the lab's settings."""
        return subprocess.run(
            [sys.executable, "-m", "submitward", "--settings", str(self.places.settings), *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=CLONE,
            env={**environment(), MARK: str(self.places.directory)},
            check=False,
        )

    def stop(self) -> None:
        """End everything, who asks before who answers."""
        if (self.places.queue / "pid" / "master.pid").exists():
            self.postfix("stop", check=False)
        for name in ("opendkim", "supervisor", "slapd", "sink"):
            self._stop(name)

    def pids(self) -> dict[str, int]:
        """The processes that lab.json names, as far as they run."""
        pids = {name: child.pid for name, child in self._children.items()}
        for name in SIDECARS:
            try:
                pids[name] = int((self.places.run / f"{name}.pid").read_text())
            except (FileNotFoundError, ValueError):
                continue
        return {name: pids[name] for name in _TOLD if name in pids}

    def _child(self, name: str, command: list[str]) -> Child:
        child = Child(
            name,
            command,
            log=self.places.log / name,
            directory=self.places.directory,
            cwd=CLONE,
            environ=environment(),
        )
        self._children[name] = child
        return child

    def _stop(self, name: str) -> None:
        if child := self._children.pop(name, None):
            child.stop()
