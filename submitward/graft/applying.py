"""Files put in place, and Postfix taken along: both or none, backed up, reloaded, and looked at afterwards.

Knows the order of steps that leaves no moment without mail, and the way back. Must not know what is planned.

master(8) starts smtpd with the -o options that it read at its last reload, and each smtpd reads main.cf anew.
So what an option names stays in main.cf until master has taken a master.cf without that option.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from ..replacing import replace_files
from . import running
from .files import MAIN, MASTER, Reason, Refused, parameters
from .host import Outcome, read
from .marks import END, PREFIX, block, insert

BACKUPS = Path("/var/backups/submitward")
Texts = dict[str, str]


def carry_out(outcome: Outcome, backups: Path = BACKUPS) -> Path | None:
    """Put the planned files in place and reload a Postfix that runs; returns the dated backup's directory.

    Raises Refused, and then the files are as they were.
    """
    if not outcome.changed:
        return None
    try:
        return _carry_out(outcome, backups)
    except OSError as error:
        where = str(error.filename or outcome.directory)
        why = f"{error.strerror or error}; main.cf and master.cf are as they were"
        raise Refused(Reason(where, 0, why)) from error


def _carry_out(outcome: Outcome, backups: Path) -> Path:
    for name, text in outcome.before.items():
        if read(outcome.directory / name) != text:
            raise Refused(Reason(name, 0, "has changed while the plan was made; run this again"))
    kept = _back_up(outcome, backups)
    pid = running.master(outcome.directory)
    _move(outcome.directory, outcome.before, outcome.after, pid)
    return kept


def _move(directory: Path, old: Texts, new: Texts, pid: int) -> None:
    """From the old texts to the new ones; `pid` is the master that has to be taken along, if any."""
    if not pid:
        _write(directory, new)
        return
    between = {**new, MAIN: with_what_goes(new[MAIN], old[MAIN])}
    _write(directory, between)
    running.reload(directory, pid)
    if read(directory / MAIN) != between[MAIN]:
        raise Refused(Reason(MAIN, 0, "has changed while Postfix was reloaded; run this again"))
    _write(directory, new)


def with_what_goes(new: str, old: str) -> str:
    """The new main.cf, with those parameters of ours that only the old one has."""
    there, before = parameters(new), parameters(old)
    lines = [
        f"{name} = {value.text}".rstrip()
        for name, value in before.items()
        if name.startswith(PREFIX) and name not in there
    ]
    if not lines:
        return new
    end = f"{END}\n"
    if new.endswith(end):  # a block of its own behind ours would hide how the file ended
        return new[: -len(end)] + "".join(f"{line}\n" for line in lines) + end
    return insert(new, [block(new, len(new), lines)])


def _write(directory: Path, texts: Texts) -> None:
    """main.cf first: a master.cf never names what is not there yet."""
    replace_files({directory / name: texts[name].encode("latin-1") for name in (MAIN, MASTER)})


def _back_up(outcome: Outcome, backups: Path) -> Path:
    """Both files as they were, in a directory named by the moment."""
    label = str(outcome.directory).strip("/").replace("/", "-")
    kept = backups / f"{label}-{time.strftime('%Y-%m-%dT%H%M%S', time.gmtime())}Z"
    number = 1
    while kept.exists():
        number += 1
        kept = kept.with_name(f"{kept.name.partition('Z')[0]}Z.{number}")
    kept.mkdir(parents=True, mode=0o700)
    for name in outcome.before:
        shutil.copy2(outcome.directory / name, kept / name)
    return kept
