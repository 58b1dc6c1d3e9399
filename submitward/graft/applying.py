"""Files put in place, and Postfix taken along: both or none, backed up, reloaded, and looked at afterwards.

Knows the order of steps that leaves no moment without mail, and the way back. Must not know what is planned.

master(8) starts smtpd with the -o options that it read at its last reload, and each smtpd reads main.cf anew.
So what an option names stays in main.cf until master has taken a master.cf without that option.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ..replacing import replace_files
from . import running, serving
from .files import MAIN, MASTER, Reason, Refused
from .host import Outcome, read
from .marks import END, PREFIX, block, insert

BACKUPS = Path("/var/backups/submitward")
Texts = dict[str, str]
#: How long a greeting may take on a machine that is loaded: before anything is changed, and afterwards, when
#: looks begin short, so that a Postfix that has ended is seen.
_BEFOREHAND = _AFTERWARDS = 30.0
_SHORT = 5.0


def carry_out(outcome: Outcome, backups: Path = BACKUPS) -> Path | None:
    """Put the planned files in place and reload a Postfix that runs; returns the dated backup's directory.

    What a run that broke off left undone is done too. Raises Refused, and then the files are as they were.
    """
    mark = unfinished(outcome.directory, backups)
    if not outcome.changed and not mark.exists():
        return None
    for name, text in outcome.before.items():
        if read(outcome.directory / name) != text:
            raise Refused(Reason(name, 0, "has changed while the plan was made; run this again"))
    pid = running.master(outcome.directory)
    greeting = _greeting(outcome) if pid else set()
    try:
        kept = _back_up(outcome, backups) if outcome.changed else None
        mark.touch()
    except OSError as error:
        raise Refused(_reason(error, backups)) from None
    unit = running.unit(pid)
    try:
        left = _move(outcome.directory, outcome.before, outcome.after, pid)
        if pid:
            _see_that_it_serves(outcome, pid, greeting)
    except Refused as refused:
        _go_back(outcome, pid, unit, kept, refused.reasons)
    except OSError as error:
        _go_back(outcome, pid, unit, kept, [_reason(error, outcome.directory)])
    mark.unlink()
    running.see_off(pid, left)
    return kept


def unfinished(directory: Path, backups: Path) -> Path:
    """A file that stands from before the first change until Postfix has taken the last one."""
    return backups / f"{_label(directory)}.unfinished"


def owed(outcome: Outcome, backups: Path) -> tuple[str, ...]:
    """What there is to do though no file changes, as a note."""
    note = "an earlier run broke off before Postfix had taken its files: Postfix has to be reloaded"
    return (note,) if unfinished(outcome.directory, backups).exists() else ()


def _label(directory: Path) -> str:
    return str(directory).strip("/").replace("/", "-")


def _reason(error: OSError, where: Path) -> Reason:
    return Reason(str(error.filename or where), 0, f"cannot be written: {error.strerror or error}")


def _greeting(outcome: Outcome) -> set[str]:
    """The services that greet a client now. Raises Refused when the new ones would greet nobody."""
    name = f"{PREFIX}sasl_path"
    path = _ours(outcome.after[MAIN]).get(name)
    if path and name not in _ours(outcome.before[MAIN]):
        place = Path(running.setting(outcome.directory, "queue_directory"), path)
        why = serving.deafness(place, _BEFOREHAND)
        if why:
            why = f"saslauthd does not answer here ({why}), and without it submission would not; start it"
            raise Refused(Reason(str(place), 0, why))
    found = serving.doors(outcome.before)
    return {key for key, door in found.items() if not serving.silence(outcome.directory, door, _BEFOREHAND)}


def _see_that_it_serves(outcome: Outcome, pid: int, greeting: set[str]) -> None:
    """Who greeted before, and who is new, greets now. Raises Refused."""
    before = serving.doors(outcome.before)
    left = {k: door for k, door in serving.doors(outcome.after).items() if k in greeting or k not in before}
    reasons: list[Reason] = []
    seconds = _SHORT / 2

    def done() -> bool:
        nonlocal seconds
        seconds = min(2 * seconds, _AFTERWARDS)
        reasons.clear()
        for key, door in list(left.items()):
            why = serving.silence(outcome.directory, door, seconds)
            if not why:
                del left[key]
                continue
            reasons.append(Reason(MASTER, door.line, f"{key} does not answer any more: {why}"))
        # master waits a second before it ends, and its ports are open that long
        return not left or not running.is_alive(pid)

    running.wait(done, _AFTERWARDS)
    if not running.is_alive(pid):
        reasons = [Reason(str(outcome.directory), 0, "Postfix ended when it was reloaded; its log says why")]
    if reasons:
        raise Refused(*reasons)


def _go_back(outcome: Outcome, pid: int, unit: str, kept: Path | None, reasons: Sequence[Reason]) -> NoReturn:
    """Put both files back, and have Postfix run with them if it ran. Raises Refused, with all of it."""
    directory = outcome.directory
    if all(read(directory / name) == text for name, text in outcome.before.items()):
        raise Refused(*reasons, Reason(str(directory), 0, "main.cf and master.cf are as they were"))
    ours = {outcome.after[MAIN], with_what_goes(outcome.after[MAIN], outcome.before[MAIN])}
    if read(directory / MAIN) not in ours or read(directory / MASTER) != outcome.after[MASTER]:
        why = f"the files have changed again and are left so; as they were they lie in {kept}"
        raise Refused(*reasons, Reason(str(directory), 0, why))
    try:
        _move(directory, outcome.after, outcome.before, running.master(directory))
        end = ""
        if pid:
            runs = running.master(directory) or running.start(directory, unit)
            end = ", and Postfix runs with them" if runs else ", but Postfix does not start; see its log"
        why = f"main.cf and master.cf are as they were{end}"
    except (Refused, OSError) as error:
        why = f"could not be taken back ({error}); both files as they were lie in {kept}"
    raise Refused(*reasons, Reason(str(directory), 0, why))


def _move(directory: Path, old: Texts, new: Texts, pid: int) -> set[str]:
    """From the old texts to the new ones; `pid` is the master that has to be taken along, if any.

    Returns the processes that may yet ask what has gone.
    """
    if not pid:
        _write(directory, new)
        return set()
    between = {**new, MAIN: with_what_goes(new[MAIN], old[MAIN])}
    _write(directory, between)
    left = running.reload(directory, pid)
    if read(directory / MAIN) != between[MAIN]:
        raise Refused(Reason(MAIN, 0, "has changed while Postfix was reloaded; run this again"))
    _write(directory, new)
    return left if between != new else set()


def with_what_goes(new: str, old: str) -> str:
    """The new main.cf, with those parameters of ours that only the old one has."""
    there = _ours(new)
    lines = [f"{name} = {value}".rstrip() for name, value in _ours(old).items() if name not in there]
    if not lines:
        return new
    end = f"{END}\n"
    if new.endswith(end):  # a block of its own behind ours would hide how the file ended
        return new[: -len(end)] + "".join(f"{line}\n" for line in lines) + end
    return insert(new, [block(new, len(new), lines)])


def _ours(main: str) -> dict[str, str]:
    """The parameters of ours; each is one line, and other lines may be whatever they are."""
    return dict(re.findall(rf"^({PREFIX}\w+) =[ ]?(.*)$", main, re.MULTILINE))


def _write(directory: Path, texts: Texts) -> None:
    """main.cf first: a master.cf never names what is not there yet."""
    replace_files({directory / name: texts[name].encode("latin-1") for name in (MAIN, MASTER)})


def _back_up(outcome: Outcome, backups: Path) -> Path:
    """Both files as they were, in a directory named by the moment."""
    kept = backups / f"{_label(outcome.directory)}-{time.strftime('%Y-%m-%dT%H%M%S', time.gmtime())}Z"
    number = 1
    while kept.exists():
        number += 1
        kept = kept.with_name(f"{kept.name.partition('Z')[0]}Z.{number}")
    kept.mkdir(parents=True, mode=0o700)
    for name in outcome.before:
        shutil.copy2(outcome.directory / name, kept / name)
    return kept
