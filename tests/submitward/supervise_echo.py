"""Runs the supervisor over echo services, as `serve all` does over sidecars: SETTINGS PID-DIRECTORY NAME…"""

from __future__ import annotations

import sys
from pathlib import Path

from sidecar.listen import ListenError, hold
from sidecar.log import Log
from sidecar.settings import load
from submitward.supervisor import Child, Supervisor
from tests.sidecar.echo_service import Settings


def main() -> int:
    path, directory, *names = sys.argv[1:]
    children = []
    try:
        for name in names:
            listeners = load(f"{path}/{name}.yaml", Settings).listen.policy
            held = [hold(listener) for listener in listeners]
            arguments = ("-m", "tests.sidecar.echo_service", f"{path}/{name}.yaml")
            children.append(Child(name, arguments, "policy", held))
    except ListenError as error:
        print(error, file=sys.stderr)
        return 1
    log = Log(sys.stderr, program="submitward")
    return Supervisor(children, log, pid_directory=Path(directory)).run()


if __name__ == "__main__":
    sys.exit(main())
