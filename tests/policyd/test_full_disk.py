"""A full disk under policyd's ledger: what is told aside waits, mail is deferred, and nobody is let by.

The disk is full by RLIMIT_FSIZE, set on the process while it runs.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.policyd.house import PATIENCE, ROOT, Client, Process, private_directory

BOB = {"sasl_username": "bob", "sender": "bob@example.org", "size": 10}


@pytest.fixture
def process() -> Iterator[Process]:
    with private_directory() as directory:
        settings = directory / "config.yaml"
        text = settings.read_text().replace(
            "3 recipients per hour, 2 messages per day", "3 recipients per hour"
        )
        settings.write_text(text)
        running = Process(directory)
        running.wait_for("state=ok")
        yield running
        if running.child.poll() is None:
            running.child.kill()
            running.child.wait()


def message(client: Client, number: int, recipients: int, state: str = "DATA") -> str:
    asked = {
        "instance": f"i.{number}",
        "queue_id": f"Q{number}",
        "recipient_count": recipients,
        "recipient": "",
    }
    return str(client.ask(protocol_state=state, **BOB, **asked))


def limit(process: Process, size: int) -> None:
    """No file of the process may grow beyond `size` bytes (its log is short enough)."""
    resource.prlimit(process.child.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def events(directory: Path) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "submitward", "--settings", str(directory / "config.yaml"), "events"]
    done = subprocess.run([*command, "--of", "bob", "--json"], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_a_trip_is_refused_and_told_later_while_the_disk_is_full(process: Process) -> None:
    client = Client(process.policy)
    for number, state in ((1, "DATA"), (1, "END-OF-MESSAGE")):
        assert message(client, number, 2, state) == "DUNNO"
    assert message(client, 2, 1) == "DUNNO"  # bob has spent all
    assert message(client, 2, 1, "END-OF-MESSAGE") == "DUNNO"
    limit(process, (process.directory / "ledger.sqlite-wal").stat().st_size)
    # Known from memory, and an event that cannot be kept:
    rcpt = {"protocol_state": "RCPT", "instance": "i.3", "recipient": "a@elsewhere.example"}
    refusal = str(client.ask(**BOB, **rcpt))
    assert refusal.startswith("450 4.7.1 login bob: used 3 of 3 recipients per hour"), refusal
    process.wait_for("state=unavailable")
    for number in range(4, 8):  # not from memory: nobody's message is let by
        assert message(client, number, 1).startswith(("DEFER_IF_PERMIT 4.3.0", "450 4.7.1")), number
    alice = {
        "protocol_state": "DATA",
        "instance": "i.9",
        "queue_id": "Q9",
        "recipient_count": 1,
        "recipient": "",
    }
    assert str(client.ask(**alice)).startswith("DEFER_IF_PERMIT 4.3.0")
    limit(process, resource.RLIM_INFINITY)
    process.wait_for("state=ok", times=2)
    assert str(client.ask(**alice)) == "DUNNO"
    until = time.monotonic() + 2 * PATIENCE  # told slower and slower, every 10 s at last
    while not (found := [one for one in events(process.directory) if one["kind"] == "trip"]):
        assert time.monotonic() < until, process.log.read_text()
    assert str(found[0]["id"]) in refusal
    said = process.log.read_text()
    assert "is it full" in said
    assert "Traceback" not in said
    assert process.end() == 0
