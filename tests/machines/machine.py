"""One booted machine.

Knows systemd-nspawn and nsenter. Must not know what is deployed on it. A machine has no way out: it stands in
a network of the test's own. It powers off when the process that started it ends, whatever the reason.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.machines.network import Place
from tests.machines.tree import bare_tree, copy_tree, pool

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}
BOOT = 180.0
#: How systemd-nspawn with --keep-unit ends when its machine wants to boot again.
AGAIN = 133


class MachineError(RuntimeError):
    """A machine does not do what it was told; the text holds its output."""


class Machine:
    """A machine called `name` at `place`, on a fresh tree of `release` below `directory`.

    `shared`: directories of this host that it may read, as ``here:there``. `start` and then `wait_until_up`,
    so that several boot at once; `power_off` and then `stop` at the end.
    """

    def __init__(
        self, name: str, release: str, directory: Path, place: Place, *, shared: tuple[str, ...] = ()
    ) -> None:
        self.name, self.release, self.place, self._shared = name, release, place, shared
        self.tree = directory / name
        self.console = directory / f"{name}.console"
        self._process: subprocess.Popen[bytes] | None = None
        self.leader = 0

    def start(self, names: dict[str, str]) -> None:
        """Make the tree and begin to boot. `names`: other hosts and their addresses."""
        copy_tree(bare_tree(self.release), self.tree)
        (self.tree / "etc/hostname").write_text(f"{self.name}\n")
        hosts = [f"127.0.0.1 localhost {self.name}.example.org {self.name}"]
        hosts += [f"{address} {name}.example.org" for name, address in names.items() if name != self.name]
        (self.tree / "etc/hosts").write_text("\n".join(hosts) + "\n")
        for file in (self.tree / "etc/apt").rglob("*.list"):
            file.unlink()
        (self.tree / "var/log/journal").mkdir(
            exist_ok=True
        )  # a reboot is judged by what was logged before it
        self._boot()

    def _boot(self) -> None:
        # Not from a thread: what starts it is what its end is bound to.
        command = ["setpriv", "--pdeathsig", "TERM", "systemd-nspawn", "--quiet", "--boot"]
        command += ["-D", str(self.tree), f"--network-namespace-path={self.place.namespace}"]
        command += ["--register=no", "--keep-unit", "-M", f"submitward-{os.getpid()}-{self.name}"]
        command += [f"--hostname={self.name}", f"--bind-ro={pool(self.release)}:/pool"]
        command += [f"--bind-ro={pair}" for pair in self._shared]
        with self.console.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def wait_until_up(self) -> None:
        """Wait until the service manager is content."""
        assert self._process is not None
        deadline = time.monotonic() + BOOT
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self.console.read_text(errors="replace")[-3000:]
                raise MachineError(f"{self.name} does not boot:\n{said}")
            time.sleep(0.3)

    def _is_up(self) -> bool:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            pids = [int(pid) for pid in children.read_text().split()]
            self.leader = next((p for p in pids if Path(f"/proc/{p}/comm").read_text() == "systemd\n"), 0)
        except (FileNotFoundError, ProcessLookupError):
            self.leader = 0
        if not self.leader:
            return False
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def power_off(self) -> None:
        """Begin to end in order, as systemd-nspawn(1) does it on SIGTERM."""
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """After `power_off`: wait, and kill what does not end by itself; the tree goes too."""
        if self._process is not None:
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._process, self.leader = None, 0
        shutil.rmtree(self.tree, ignore_errors=True)

    def reboot(self) -> None:
        """As `reboot` does it: all services end in order, and the machine comes back."""
        assert self._process is not None
        self.run("systemctl", "reboot", check=False)
        try:
            status = self._process.wait(BOOT)
        except subprocess.TimeoutExpired:
            raise MachineError(f"{self.name} does not go down") from None
        if status != AGAIN:
            raise MachineError(f"{self.name} does not want to boot again: systemd-nspawn exits {status}")
        self._boot()
        self.wait_until_up()

    def enter(self, *namespaces: str) -> list[str]:
        """The command line before one that is to run in the machine, or in some of its namespaces."""
        return ["nsenter", "-t", str(self.leader), *(namespaces or ("-m", "-u", "-i", "-n", "-p"))]

    def run(
        self, *command: str, check: bool = True, stdin: str | None = None, seconds: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine."""
        done = subprocess.run(
            [*self.enter(), "--", *command], capture_output=True, text=True, errors="replace", check=False,
            input=stdin if stdin is not None else "", env=ENVIRONMENT, timeout=seconds, cwd="/",
        )  # fmt: skip
        if check and done.returncode:
            raise MachineError(
                f"{self.name}: {' '.join(command)} exits {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def shell(self, script: str) -> str:
        """Run a script, stopping at the first command that fails; its output."""
        return self.run("/bin/sh", "-euc", script).stdout

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """`systemctl show` of a unit, as it runs."""
        wanted = [f"--property={name}" for name in properties]
        lines = self.run("systemctl", "show", unit, *wanted).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def submitward(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The operator's command."""
        return self.run("/opt/submitward/current/bin/submitward", *arguments)

    def failed_units(self) -> str:
        """Units that have failed, ``""`` for none."""
        return self.run("systemctl", "--failed", "--quiet", "--plain", check=False).stdout.strip()

    def journal(self, *options: str) -> str:
        """What the machine has logged."""
        return self.run("journalctl", "--no-pager", "--output=cat", *options).stdout
