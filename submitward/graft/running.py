"""A Postfix while it runs: its master, whether it has taken what it was told, and how it is started again.

Knows postfix(1), postconf(1) and /proc. Must not know what is written into a file, or why.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .files import Reason, Refused

#: A busy relay may take its time; one that is well needs a tenth of a second.
PATIENCE = 60.0
#: What a session takes that sends mail.
LEAVING = 15.0


def setting(directory: Path, name: str) -> str:
    """A parameter as Postfix reads it. Raises Refused."""
    command = ["postconf", "-c", str(directory), "-x", "-h", name]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        )
    except OSError as error:
        raise Refused(Reason("postconf", 0, f"cannot be run: {error.strerror}")) from None
    return done.stdout.decode(errors="replace").strip()


def master(directory: Path) -> int:
    """The process id of the running master(8), 0 when Postfix is stopped.

    `postfix status` would say so too, and write a line into the mail log each time.
    """
    queue = Path(setting(directory, "queue_directory"))
    with contextlib.suppress(OSError, ValueError):
        pid = int((queue / "pid/master.pid").read_text())
        if is_alive(pid) and os.path.samefile(f"/proc/{pid}/cwd", queue):  # else the file is a dead one's
            return pid
    return 0


def is_alive(pid: int) -> bool:
    """Whether a master with this id runs; one that has ended and waits for its parent does not."""
    with contextlib.suppress(OSError):
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("master")
    return False


def unit(pid: int) -> str:
    """Postfix's own systemd unit that a master runs in, ``""`` when it was started otherwise."""
    with contextlib.suppress(OSError):
        found = re.search(
            r"/(postfix[^/\n]*\.service)$", Path(f"/proc/{pid}/cgroup").read_text(), re.MULTILINE
        )
        return found[1] if found else ""
    return ""


def reload(directory: Path, pid: int) -> set[str]:
    """`postfix reload`, and wait until nobody starts by the old files any more. Raises Refused.

    Returns the processes that still have a client, and go on by the old files until it has left.
    """
    old = _links(pid)
    if _postfix(directory, "reload"):
        raise Refused(Reason(str(directory), 0, "`postfix reload` failed; Postfix's log says why"))
    if not wait(lambda: not old & _links(pid)):
        why = "master has not read master.cf again; see Postfix's log, and run this again when it does"
        raise Refused(Reason(str(directory), 0, why))
    # Their arguments are the old ones, and so must be the main.cf that they have yet to read.
    before = _smtpd(pid)
    starting = {process for process, starts in before.items() if starts}
    wait(lambda: not starting & {process for process, starts in _smtpd(pid).items() if starts})
    return set(before)


def see_off(pid: int, processes: set[str]) -> None:
    """Wait for these to leave, but not for a client that stays on and on."""
    wait(lambda: not processes & _smtpd(pid).keys(), LEAVING)


def start(directory: Path, unit_name: str) -> bool:
    """Start a Postfix that has ended, in the unit where it ran; whether it runs then."""
    if unit_name and shutil.which("systemctl"):
        subprocess.run(
            ["systemctl", "restart", unit_name],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    return wait(lambda: bool(master(directory)) or not _postfix(directory, "start"), PATIENCE / 2)


def wait(ready: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait for something, but not for ever; whether it came."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _postfix(directory: Path, verb: str) -> int:
    """The exit status. Its output is not waited for: a reload leaves postsuper(1) at work behind it."""
    try:
        return subprocess.run(
            ["postfix", "-c", str(directory), verb], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, check=False,
        ).returncode  # fmt: skip
    except OSError as error:
        raise Refused(Reason("postfix", 0, f"cannot be run: {error.strerror}")) from None


def _links(pid: int) -> set[str]:
    """The socket pairs between master and its children: one for each service, and another one after a reload.

    Nothing else tells from outside that master has read master.cf: `postfix reload` only sends a signal.
    """
    pairs = set()
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
            columns = line.split()  # Num RefCount Protocol Flags Type St Inode [Path]
            if len(columns) == 7 and columns[4:6] == ["0001", "03"]:
                pairs.add(f"socket:[{columns[6]}]")
    return pairs & _open(pid)


def _open(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            if int(name) > 2:  # what it writes to in the foreground stays
                with contextlib.suppress(OSError):
                    found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def _smtpd(pid: int) -> dict[str, bool]:
    """Children of master that are smtpd, or will be; whether they may not have read main.cf yet: as root."""
    found = {}
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, KeyError):
            lines = Path(f"/proc/{process}/status").read_text(errors="replace").splitlines()
            told = dict(line.split(":", 1) for line in lines if ":" in line)
            root = told["Uid"].split()[1] == "0"
            if int(told["PPid"]) == pid and told["Name"].strip() in ("master", "smtpd"):
                found[process] = root
    return found
