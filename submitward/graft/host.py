"""The graft on a host: all is tried on a copy of the configuration directory before a file is replaced.

Knows postfix(1), postconf(1) and copies. Must not know what a plan puts where, and replaces nothing.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import running, serving
from .files import MAIN, MASTER, Reason, Refused
from .marks import BEGIN, PREFIX
from .plan import Plan
from .texts import physical_lines

#: The role's units listen here.
SOCKETS = Path("/var/spool/postfix/submitward")
_DIRECTORIES = re.compile(r"^(?=(?:queue|data)_directory[ \t]*=)", re.MULTILINE)
Planner = Callable[[str, str], Plan]


@dataclass(frozen=True)
class Outcome:
    """A plan for one directory that Postfix has nothing against. `before` and `after`: file → text."""

    directory: Path
    before: dict[str, str]
    after: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[str, ...]:
        """The files that differ."""
        return tuple(name for name in self.before if self.before[name] != self.after[name])

    @property
    def difference(self) -> str:
        """A unified diff of both files, empty when nothing changes."""
        pieces: list[str] = []
        for name in self.changed:
            old, new = (physical_lines(text[name]) for text in (self.before, self.after))
            for line in difflib.unified_diff(old, new, f"{name} as it is", f"{name} as it will be"):
                pieces.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
        return "".join(pieces)


def try_out(directory: Path, planner: Planner, sockets: Path = SOCKETS) -> Outcome:
    """Plan, write both files into a copy, and let Postfix look at it. Raises Refused; changes nothing.

    `sockets` is where the sidecars listen.
    """
    before = {name: read(directory / name) for name in (MAIN, MASTER)}
    planned = planner(before[MAIN], before[MASTER])
    after = {MAIN: planned.main, MASTER: planned.master}
    outcome = Outcome(directory, before, after, planned.notes)
    if BEGIN in after[MAIN]:
        _see_that_sockets_are_reached(directory, sockets)
    if outcome.changed:
        with _copied(directory) as copy:
            _put(copy, before)
            known = warnings(copy)
            _put(copy, after)
            new = dict.fromkeys(line for line in warnings(copy) if line not in known)
        if new:
            raise Refused(*(Reason(str(directory), 0, f"with the plan Postfix says: {line}") for line in new))
        _see_that_ports_are_free(outcome)
    return outcome


def _see_that_sockets_are_reached(directory: Path, sockets: Path) -> None:
    """smtpd finds them below its queue directory, chrooted or not."""
    queue = Path(running.setting(directory, "queue_directory"))
    wanted = queue / SOCKETS.name
    if wanted.is_symlink():
        same = False  # a link leads nowhere from a chroot
    elif wanted.exists() and sockets.exists():
        same = wanted.samefile(sockets)  # it may be mounted there
    else:
        same = queue.resolve() / SOCKETS.name == sockets.resolve()  # they may yet have to be made
    if same:
        return
    why = (
        f"queue_directory is {queue}, and the sidecars listen in {sockets}: smtpd would find none of them."
        f" Mount {sockets} there by `mount --bind {sockets} {wanted}` (and in fstab), and run this again"
    )
    raise Refused(Reason(MAIN, 0, why))


def _see_that_ports_are_free(outcome: Outcome) -> None:
    """Postfix's own check cannot: master ends when it comes upon a port that it cannot have."""
    there = serving.doors(outcome.before)
    made = [door for key, door in serving.doors(outcome.after).items() if key not in there]
    pid = running.master(outcome.directory) if made else 0
    reasons = [reason for door in made for reason in serving.in_use(outcome.directory, door, pid)]
    if reasons:
        raise Refused(*reasons)


def warnings(directory: Path) -> list[str]:
    """What postfix(1) and postconf(1) say against a configuration, the directory's own name left out."""
    commands = [["postfix", "-c", str(directory), "check"]]
    commands += [["postconf", "-c", str(directory), option] for option in ("-n", "-M", "-P")]
    for name in (MAIN, MASTER):  # Postfix reads a file again that has just changed, and then warns of itself
        os.utime(directory / name, (time.time() - 60, time.time() - 60))
    said = []
    for command in commands:
        status, text = _complaints(command)
        lines = [line for line in text.splitlines() if line.strip()]
        if status and not lines:
            lines = [f"{command[0]} {command[-1]} exits {status}"]
        said += [line.replace(str(directory), "$config_directory") for line in lines]
    return said


def _complaints(command: list[str]) -> tuple[int, str]:
    """Exit status and standard error, which is a terminal: else postlog(1) tells syslog alone."""
    terminal, end = os.openpty()
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=end, start_new_session=True
        )
    except OSError as error:
        os.close(terminal)
        raise Refused(Reason(command[0], 0, f"cannot be run: {error.strerror}")) from None
    finally:
        os.close(end)
    said = b""
    with contextlib.suppress(OSError):  # EIO is how a terminal ends
        while piece := os.read(terminal, 65536):
            said += piece
    os.close(terminal)
    return process.wait(), said.decode(errors="replace").replace("\r\n", "\n")


@contextlib.contextmanager
def _copied(directory: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="submitward-", dir="/var/tmp") as parent:
        copy = Path(parent) / "postfix"
        shutil.copytree(directory, copy, symlinks=True, ignore=_no_sockets)
        (copy.parent / "queue").mkdir(mode=0o755)
        for name in (MAIN, MASTER):  # a link would lead back to the file that Postfix reads
            (copy / name).unlink()
            shutil.copy2(directory / name, copy / name)
        for path in (copy, *copy.rglob("*")):
            original = directory / path.relative_to(copy)
            status = original.lstat()
            with contextlib.suppress(PermissionError):
                os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
        yield copy


def _put(copy: Path, texts: dict[str, str]) -> None:
    """Write both files. The copy has a queue of its own: `postfix check` puts that to rights."""
    main = _DIRECTORIES.sub(f"{PREFIX}other_", texts[MAIN])
    apart = "".join(f"{name}_directory = {copy.parent / name}\n" for name in ("queue", "data"))
    (copy / MAIN).write_bytes((apart + main).encode("latin-1"))
    (copy / MASTER).write_bytes(texts[MASTER].encode("latin-1"))


def _no_sockets(directory: str, names: list[str]) -> list[str]:
    paths = ((name, Path(directory, name)) for name in names)
    return [name for name, path in paths if path.is_socket() or path.is_fifo()]


def read(path: Path) -> str:
    """Bytes as characters, one for one, so that they can be written again."""
    try:
        return path.read_bytes().decode("latin-1")
    except OSError as error:
        raise Refused(Reason(str(path), 0, f"cannot be read: {error.strerror}")) from None
