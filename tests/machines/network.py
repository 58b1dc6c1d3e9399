"""A network of the test's own: a switch, and places that are joined to it by veth pairs.

Knows ip(8) and network namespaces. Must not know what runs in a place. A place outlasts the machine in it, so
that one that reboots finds its address again. Nothing is added to the network of this host, whose namespace
no interface ever enters; a namespace ends with the process that holds it, and that one with the test.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

PREFIX = "10.77.0."


@dataclass(frozen=True)
class Place:
    """A network namespace with a loopback interface and, on the switch, `host0` with `address`."""

    pid: int
    address: str

    @property
    def namespace(self) -> str:
        """The file that stands for it (network_namespaces(7))."""
        return f"/proc/{self.pid}/ns/net"

    def enter(self) -> list[str]:
        """The command line before one that is to run there."""
        return ["nsenter", f"--net={self.namespace}", "--"]


class Network:
    """``with Network() as network: network.place(11)``; `prefix` is what its addresses begin with."""

    def __init__(self, prefix: str = PREFIX) -> None:
        self._prefix = prefix
        self._holders: list[subprocess.Popen[bytes]] = []
        self._switch = 0

    def __enter__(self) -> Network:
        self._switch = self._hold()
        self._ip(self._switch, "link", "add", "switch", "type", "bridge")
        self._ip(self._switch, "link", "set", "switch", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for holder in self._holders:
            assert holder.stdin
            holder.stdin.close()
            holder.wait()

    def place(self, number: int) -> Place:
        """A new place, at the address that ends with `number`."""
        place = Place(self._hold(), f"{self._prefix}{number}")
        port = f"port{number}"
        ends = ["host0", "netns", str(place.pid), "type", "veth", "peer", "name", port]
        _run("ip", "link", "add", *ends, "netns", str(self._switch))
        self._ip(self._switch, "link", "set", port, "master", "switch", "up")
        self._ip(place.pid, "link", "set", "lo", "up")
        self._ip(place.pid, "address", "add", f"{place.address}/24", "dev", "host0")
        self._ip(place.pid, "link", "set", "host0", "up")
        return place

    def _hold(self) -> int:
        """A process in a namespace of its own, which ends when this one does: then its input ends."""
        holder = subprocess.Popen(
            ["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self._holders.append(holder)
        ours = os.readlink("/proc/self/ns/net")
        deadline = time.monotonic() + 30
        while os.readlink(f"/proc/{holder.pid}/ns/net") == ours or not _is_cat(holder.pid):
            if holder.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("unshare --net makes no network namespace here")
            time.sleep(0.02)
        return holder.pid

    @staticmethod
    def _ip(pid: int, *arguments: str) -> None:
        _run("nsenter", f"--net=/proc/{pid}/ns/net", "--", "ip", *arguments)


def _is_cat(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text() == "cat\n"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exits {done.returncode}: {done.stderr.strip()}")
