"""Relays in machines, what is deployed on them, and what stands around them.

Knows the parts and the order in which they come. Must not know what is tested.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.lab import files
from tests.lab.certificates import make_certificate
from tests.machines.backend import Backend
from tests.machines.deployment import ROOT, Played, changed, make_mail_host, play
from tests.machines.machine import Machine
from tests.machines.network import PREFIX, Network, Place

VERSION = "0.1.0"
NUMBERS = {"mta1": 11, "mta2": 12, "backend": 21, "sink": 31}
SINK_PORT = 2525
#: Has a machine install from the pool.
FROM_POOL = 'echo "deb [trusted=yes] file:/pool ./" > /etc/apt/sources.list; apt-get --quiet=2 update'

#: Mail flows through whole deployments, as fast as it is taken: a thousand a day would be over in minutes.
_DEFAULT = ["1000000 messages per day", "5000000 recipients per day", "100 recipients per message"]
_PLANS = files.PLANS | {"default": _DEFAULT}


class Scene:
    """Machines of `release`: the `relays` with Debian's Postfix, and the mailbox host behind them.

    With `backend`, a machine with a directory and a Redis for all; else each relay has a file and SQLite.
    """

    def __init__(
        self, release: str, wheelhouse: Path, relays: tuple[str, ...], *, backend: bool = False
    ) -> None:
        self.release, self.wheelhouse = release, wheelhouse
        self.directory = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
        self.directory.chmod(0o755)
        self.places = files.Places(self.directory)
        self.logins = files.make_logins()
        self.machines: dict[str, Machine] = {}
        self.found: dict[str, dict[str, bytes]] = {}
        self.backend: Backend | None = None
        self._wanted = (*relays, *(("backend",) if backend else ()), "sink")
        self._relays = relays
        self._ending = contextlib.ExitStack()

    @property
    def relays(self) -> list[Machine]:
        """The machines with Postfix."""
        return [self.machines[name] for name in self._relays]

    def __enter__(self) -> Scene:
        with contextlib.ExitStack() as ending:
            ending.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self._write()
            self._boot(ending)
            self._furnish()
            self._ending = ending.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._ending.close()

    def _write(self) -> None:
        for name in ("postfix", "submitward", "keys", "sink", "trees"):
            (self.directory / name).mkdir()
        self.places.tls.mkdir()
        files.make_keys(self.places)
        make_certificate(self.places.tls, "directory", alternatives="DNS:backend.example.org")
        numbers = [f"IP:{PREFIX}{NUMBERS[name]}" for name in self._relays]
        make_certificate(self.places.tls, "server", alternatives=",".join(["IP:127.0.0.1", *numbers]))
        files.write_directory(self.places, self.logins)

    def _boot(self, ending: contextlib.ExitStack) -> None:
        network = ending.enter_context(Network())
        places = {name: network.place(NUMBERS[name]) for name in self._wanted}
        ending.callback(self._stop)
        for name, place in places.items():
            self.machines[name] = machine = Machine(name, self.release, self.directory / "trees", place)
            machine.start({other: known.address for other, known in places.items()})
        for machine in self.machines.values():
            machine.wait_until_up()
        ending.enter_context(self._sink())

    def _stop(self) -> None:
        for machine in self.machines.values():
            machine.power_off()
        for machine in self.machines.values():
            machine.stop()

    @contextlib.contextmanager
    def _sink(self) -> Any:
        """The mailbox host's program, in the network of its machine."""
        place = self.machines["sink"].place
        command = [
            "setpriv",
            "--pdeathsig",
            "TERM",
            *place.enter(),
            sys.executable,
            "-m",
            "tests.lab.sink",
            str(self.places.sink),
        ]
        process = subprocess.Popen([*command, f"{place.address}:{SINK_PORT}"], cwd=ROOT)
        try:
            deadline = time.monotonic() + 60
            while not (self.places.sink / "port").exists():
                assert process.poll() is None, "the sink has ended"
                assert time.monotonic() < deadline, "the sink does not listen"
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait()

    def _furnish(self) -> None:
        sink = f"[{self.machines['sink'].place.address}]:{SINK_PORT}"
        with ThreadPoolExecutor() as at_once:
            busy = []
            if machine := self.machines.get("backend"):
                self.backend = Backend(machine, self.places, self.logins)
                busy.append(at_once.submit(self._with_pool, machine, self.backend.make))
            for relay in self.relays:
                make = lambda relay=relay: make_mail_host(relay, self.places.tls, sink)  # noqa: E731
                busy.append(at_once.submit(self._with_pool, relay, make))
            for one in busy:
                one.result()
        self.found = {relay.name: self.postfix_files(relay) for relay in self.relays}

    @staticmethod
    def _with_pool(machine: Machine, make: Any) -> None:
        machine.shell(FROM_POOL)
        make()

    @property
    def variables(self) -> dict[str, Any]:
        """What the inventory says."""
        keys = [
            {"domain": domain, "selector": files.SELECTOR,
             "key": (self.places.keys / domain / f"{files.SELECTOR}.private").read_text()}
            for domain in ("example.org", "example.net")
        ]  # fmt: skip
        told = {
            "submitward_environment": "staging",
            "submitward_version": VERSION,
            "submitward_wheelhouse": str(self.wheelhouse),
            "submitward_apt_source": "deb [trusted=yes] file:/pool ./",
            "submitward_postfix_own": ["submission"],
            "submitward_postfix_own_tls": ["submissions"],
            "submitward_postfix_hosts": True,
            "submitward_opendkim": True,
            "submitward_opendkim_keys": keys,
        }
        if self.backend:
            told |= self.backend.variables
        else:
            told["submitward_directory_file"] = str(self.places.submitward / "directory.yaml")
            told["submitward_settings"] = {
                "directory": {"domains": {"example.org": {"aliases": ["example.net"]}}}
            }
        told["submitward_settings"] |= {"plans": _PLANS, "policy": {"contact": files.CONTACT}}
        return told

    @property
    def secrets(self) -> list[str]:
        """What of it nobody may ever read in an output: passwords, and each line of the keys."""
        told = self.variables
        keys = [line for key in told["submitward_opendkim_keys"] for line in key["key"].splitlines()]
        return [value for value in told.get("submitward_secrets", {}).values() if len(value) > 8] + [
            line for line in keys if "-----" not in line
        ]

    def play(self, playbook: str, *options: str, **changes: Any) -> Played:
        """Run a playbook against the relays."""
        return play(playbook, self.relays, {**self.variables, **changes}, self.directory, *options)

    def story(self, relay: Machine) -> subprocess.CompletedProcess[str]:
        """Tell the demo's story against a relay; it has failed when its status is not 0."""
        return self._tell(relay.place, "relay", str(relay.leader), str(self.directory))

    def shared_limit(self) -> subprocess.CompletedProcess[str]:
        """Spend a limit at both relays, over the network."""
        relays = [f"{relay.leader}@{relay.place.address}" for relay in self.relays]
        return self._tell(self.machines["sink"].place, "shared", str(self.directory), *relays)

    def _tell(self, place: Place, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        logins = [f"{login}={password}" for login, password in self.logins.items()]
        return subprocess.run(
            [*place.enter(), sys.executable, "-m", f"tests.machines.{module}", *arguments, *logins],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    @staticmethod
    def postfix_files(relay: Machine) -> dict[str, bytes]:
        """main.cf and master.cf as they are in the machine."""
        place = relay.tree / "etc/postfix"
        return {name: (place / name).read_bytes() for name in ("main.cf", "master.cf")}

    @staticmethod
    def snapshot(relay: Machine, *places: str) -> dict[str, str]:
        """Every file below these places (all that the role writes to), with what tells of a change."""
        where = " ".join(places or ("/etc", "/opt", "/usr", "/var/lib", "/var/backups", "/var/spool"))
        found = relay.shell(
            f"find {where} -xdev \\( -name __pycache__ -o -path /var/lib/systemd \\) -prune -o"
            " \\( -type f -o -type l \\) -printf '%p\\t%s %i %T@ %m %u %g %l\\n'"
        )
        return dict(line.split("\t", 1) for line in found.splitlines())


def assert_check_changes_nothing(scene: Scene, playbook: str, shown: str, *places: str) -> None:
    """A check of the playbook on mta1 shows that line of the plan, and no file is another than before."""
    before = scene.snapshot(scene.relays[0], *places)
    played = scene.play(playbook, "--check", "--diff", "--limit=mta1")
    assert played.status == 0, played.output
    assert shown in played.output
    assert changed(before, scene.snapshot(scene.relays[0], *places)) == {}
