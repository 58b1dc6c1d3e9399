"""A mail host in a machine, what is deployed on it, and the mailbox host behind it.

Knows the parts and the order in which they come. Must not know what is tested.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.lab import files
from tests.machines.deployment import ROOT, Played, make_mail_host, play
from tests.machines.machine import Machine

VERSION = "0.1.0"


class Scene:
    """One machine of `release` with Debian's Postfix, and all that a deployment needs."""

    def __init__(self, release: str, wheelhouse: Path, name: str = "mta1") -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
        self.directory.chmod(0o755)
        self.wheelhouse = wheelhouse
        self.machine = Machine(name, release, self.directory)
        self.places = files.Places(self.directory)
        self.logins = files.make_logins()
        self.found: dict[str, bytes] = {}
        self._sink: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Scene:
        try:
            self._make()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._sink:
            self._sink.terminate()
            self._sink.wait()
        self.machine.__exit__(kind, error, at)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _make(self) -> None:
        for name in ("postfix", "submitward", "keys", "sink"):
            (self.directory / name).mkdir()
        self.places.tls.mkdir()
        files.make_keys(self.places)
        files.write_directory(self.places, self.logins)
        self.machine.__enter__()
        self.start_sink()
        port = int((self.places.sink / "port").read_text())
        make_mail_host(self.machine, self.places.tls, port)

    def start_sink(self) -> None:
        """The mailbox host, on the machine's loopback."""
        before = self.places.sink / "port"
        before.unlink(missing_ok=True)
        self._sink = subprocess.Popen(
            [*self.machine.enter("-n"), "--", sys.executable, "-m", "tests.lab.sink", str(self.places.sink)],
            cwd=ROOT,
        )
        deadline = time.monotonic() + 30
        while not before.exists():
            assert time.monotonic() < deadline, "the sink does not listen"
            time.sleep(0.1)

    def restart_sink(self) -> None:
        """After a reboot: the machine's network is a new one, and so is the port."""
        if self._sink:
            self._sink.terminate()
            self._sink.wait()
        old = (self.places.sink / "port").read_text()
        self.start_sink()
        main = self.machine.tree / "etc/postfix/main.cf"
        fresh = (self.places.sink / "port").read_text()
        self.found["main.cf"] = self.found["main.cf"].replace(old.encode(), fresh.encode())
        main.write_text(main.read_text().replace(f"]:{old}", f"]:{fresh}"))
        self.machine.run("postfix", "reload")

    def journal(self, *options: str) -> str:
        """What the machine has logged."""
        return self.machine.run("journalctl", "--no-pager", "--output=cat", *options).stdout

    @property
    def variables(self) -> dict[str, Any]:
        """What the inventory says."""
        keys = [
            {"domain": domain, "selector": files.SELECTOR,
             "key": (self.places.keys / domain / f"{files.SELECTOR}.private").read_text()}
            for domain in ("example.org", "example.net")
        ]  # fmt: skip
        return {
            "submitward_environment": "staging",
            "submitward_version": VERSION,
            "submitward_wheelhouse": str(self.wheelhouse),
            "submitward_apt_source": "deb [trusted=yes] file:/pool ./",
            "submitward_directory_file": str(self.places.submitward / "directory.yaml"),
            "submitward_settings": {
                "directory": {"domains": {"example.org": {"aliases": ["example.net"]}}},
                "plans": files.PLANS,
                "policy": {"contact": files.CONTACT},
            },
            "submitward_postfix_own": ["submission"],
            "submitward_postfix_own_tls": ["submissions"],
            "submitward_postfix_hosts": True,
            "submitward_opendkim": True,
            "submitward_opendkim_keys": keys,
        }

    def play(self, playbook: str, *options: str, **changes: Any) -> Played:
        """Run a playbook against the machine."""
        return play(playbook, [self.machine], {**self.variables, **changes}, self.directory, *options)

    def story(self) -> subprocess.CompletedProcess[str]:
        """Tell the demo's story against the machine; it has failed when its status is not 0."""
        told = self.directory / "relay.json"
        told.write_text(
            json.dumps(
                {"leader": self.machine.leader, "directory": str(self.directory), "logins": self.logins}
            )
        )
        return subprocess.run(
            [*self.machine.enter("-n"), "--", sys.executable, "-m", "tests.machines.relay", str(told)],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def postfix_files(self) -> dict[str, bytes]:
        """main.cf and master.cf as they are in the machine."""
        place = self.machine.tree / "etc/postfix"
        return {name: (place / name).read_bytes() for name in ("main.cf", "master.cf")}

    def snapshot(self) -> dict[str, str]:
        """Every file below /etc, /opt, /usr and /var/lib with what would tell that it has changed."""
        found = self.machine.shell(
            "find /etc /opt /usr /var/lib -xdev \\( -name __pycache__ -o -path /var/lib/systemd \\) -prune -o"
            " \\( -type f -o -type l \\) -printf '%p\\t%s %i %T@ %m %u %g %l\\n'"
        )
        return dict(line.split("\t", 1) for line in found.splitlines())
