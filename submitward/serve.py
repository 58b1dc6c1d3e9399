"""`submitward serve`: runs one sidecar in this process, or all of them under a supervisor.

Knows which sidecar has which listeners. Must not know what a sidecar does, nor import Twisted's reactor.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from pathlib import Path

from sidecar import ending
from sidecar.listen import Listen, ListenError, hold
from sidecar.log import Log
from sidecar.settings import SettingsError, digest
from submitward.settings import Settings, load_settings
from submitward.supervisor import Child, Supervisor

HELP = "run a sidecar, or all of them"

#: sidecar → its list in `listen`, which is also the name of its inherited sockets
SIDECARS = {"policyd": "policy", "saslauthd": "auth", "milter": "milter"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("sidecar", choices=[*SIDECARS, "all"], help="which one; all: under a supervisor")
    parser.add_argument(
        "--pid-directory", metavar="DIR", help="with all: keep supervisor.pid, policyd.pid … in DIR"
    )


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop; 2 when the settings are wrong, 1 when a socket cannot be opened."""
    try:
        settings = load_settings(options.settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if options.sidecar == "all":
        return supervise(settings, options.settings, options.pid_directory)
    if options.pid_directory:
        print("submitward serve: --pid-directory goes with all", file=sys.stderr)
        return 2
    door = importlib.import_module(f"{options.sidecar}.__main__")
    status: int = door.main(["--settings", str(options.settings)])
    return status


def supervise(settings: Settings, path: str, pid_directory: str | None) -> int:
    """Bind every socket once, then keep the sidecars running."""
    log = Log(sys.stderr, program="submitward", format=settings.log.format, level=settings.log.level)
    ending.wait()
    with contextlib.ExitStack() as undo:
        try:
            children = hold_all(settings.listen, path, undo)
        except ListenError as error:
            log.error("listen", text=str(error))
            return 1
        if not children:
            print(
                f"{path}: listen: nothing to serve; give policy, auth or milter a listener", file=sys.stderr
            )
            return 2
        log.notice("settings", digest=digest(settings))
        directory = Path(pid_directory) if pid_directory else None
        return Supervisor(children, log, pid_directory=directory).run()


def hold_all(listen: Listen, path: str, undo: contextlib.ExitStack) -> list[Child]:
    """A child with open sockets for each sidecar that has listeners. Raises ListenError."""
    children = []
    for sidecar, name in SIDECARS.items():
        held = []
        for listener in getattr(listen, name):
            held.append(hold(listener))
            undo.callback(held[-1].release)
        if held:
            children.append(Child(sidecar, ("-m", sidecar, "--settings", str(path)), name, held))
    return children
