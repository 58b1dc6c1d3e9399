"""One booted machine.

Knows systemd-nspawn and nsenter. Must not know what is deployed on it. A machine has no way out: its network
is a loopback interface of its own, and veth pairs to others if somebody makes them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

from tests.machines.tree import bare_tree, copy_tree, pool

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}
BOOT = 90.0


class MachineError(RuntimeError):
    """A machine does not do what it was told; the text holds its output."""


class Machine:
    """A machine called `name` on a fresh tree of `release`. ``with Machine(…)`` boots and ends it."""

    def __init__(self, name: str, release: str, directory: Path) -> None:
        self.name, self.release = name, release
        self.tree = directory / name
        self.console = directory / f"{name}.console"
        self._process: subprocess.Popen[bytes] | None = None
        self.leader = 0

    def __enter__(self) -> Machine:
        copy_tree(bare_tree(self.release), self.tree)
        (self.tree / "etc/hostname").write_text(f"{self.name}\n")
        (self.tree / "etc/hosts").write_text(f"127.0.0.1 localhost {self.name}.example.org {self.name}\n")
        for file in (self.tree / "etc/apt").rglob("*.list"):
            file.unlink()
        try:
            self.boot()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.tree, ignore_errors=True)

    def boot(self) -> None:
        """Boot, and wait until the service manager is content."""
        command = ["systemd-nspawn", "--quiet", "-D", str(self.tree), "--boot", "--private-network"]
        command += ["--register=no", "--keep-unit", "-M", self.name, f"--bind-ro={pool(self.release)}:/pool"]
        with self.console.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + BOOT
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise MachineError(
                    f"{self.name} does not boot:\n{self.console.read_text(errors='replace')[-3000:]}"
                )
            time.sleep(0.3)

    def _is_up(self) -> bool:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            pids = [int(pid) for pid in children.read_text().split()]
        except FileNotFoundError:
            return False
        self.leader = next((pid for pid in pids if Path(f"/proc/{pid}/comm").read_text() == "systemd\n"), 0)
        if not self.leader:
            return False
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def stop(self) -> None:
        """Power off, and kill what does not end by itself."""
        if self._process is None:
            return
        if self._process.poll() is None and self.leader:
            self.run("systemctl", "poweroff", check=False)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process, self.leader = None, 0

    def reboot(self) -> None:
        """Off and on again, with what is on its disk."""
        self.stop()
        self.boot()

    def enter(self, *namespaces: str) -> list[str]:
        """The command line before one that is to run in the machine, or in some of its namespaces."""
        return ["nsenter", "-t", str(self.leader), *(namespaces or ("-m", "-u", "-i", "-n", "-p"))]

    def run(
        self, *command: str, check: bool = True, stdin: str | None = None, seconds: float = 300
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
