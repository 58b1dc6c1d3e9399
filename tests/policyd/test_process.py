"""The door of policyd as a process: signals, reload, kill, and many connections."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.wire import encode_request
from tests.policyd.house import ROOT, Client, Process, attributes, private_directory


@pytest.fixture
def directory() -> Iterator[Path]:
    with private_directory() as made:
        yield made


@pytest.fixture
def process(directory: Path) -> Iterator[Process]:
    running = Process(directory)
    yield running
    if running.child.poll() is None:
        running.child.kill()
        running.child.wait()


DATA = {"protocol_state": "DATA", "queue_id": "Q1", "recipient_count": 2}
END = {**DATA, "protocol_state": "END-OF-MESSAGE", "size": 10}
BOB = {"sasl_username": "bob", "sender": "bob@example.org"}


def test_sigterm_ends_it_with_status_0(process: Process) -> None:
    client = Client(process.policy)
    assert client.ask() == "DUNNO"
    began = time.monotonic()
    assert process.end() == 0
    assert time.monotonic() - began < 5
    assert client.read() is None


def test_the_effective_settings_are_in_the_log(process: Process) -> None:
    said = process.wait_for("event=settings")
    assert "digest=" in said
    assert "principal:enforce" in said


def test_a_reload_takes_over_new_settings_and_keeps_connections(process: Process, directory: Path) -> None:
    client = Client(process.policy)
    assert str(client.ask(**BOB, **DATA | {"recipient_count": 3})).startswith("554 5.7.1 3 recipients")
    settings = directory / "config.yaml"
    settings.write_text(settings.read_text().replace("2 recipients per message", "4 recipients per message"))
    process.signal(signal.SIGHUP)
    process.wait_for("event=reload")
    assert client.ask(**BOB, **DATA | {"recipient_count": 3}) == "DUNNO"


def test_a_reload_with_wrong_settings_keeps_the_old_ones(process: Process, directory: Path) -> None:
    client = Client(process.policy)
    settings = directory / "config.yaml"
    settings.write_text(settings.read_text() + "policy: {restrictions: {sendr: off}}\nnonsense: 1\n")
    process.signal(signal.SIGHUP)
    process.wait_for("event=config_reload_failed")
    assert client.ask() == "DUNNO"
    assert str(client.ask(sender="bob@example.org")).startswith("553 5.7.1")
    assert process.child.poll() is None


def test_a_reload_opens_another_directory_only_when_its_section_changed(
    process: Process, directory: Path
) -> None:
    client = Client(process.policy)
    settings = directory / "config.yaml"
    other = directory / "other.yaml"
    other.write_text("logins: {alice: {mailboxes: [other@example.org]}}\n")
    settings.write_text(settings.read_text().replace("directory.yaml", "other.yaml"))
    process.signal(signal.SIGHUP)
    process.wait_for("the new directory serves")
    assert str(client.ask()).startswith("553 5.7.1")
    assert client.ask(sender="other@example.org") == "DUNNO"


def test_a_reload_to_stores_that_cannot_serve_keeps_the_old_ones(process: Process, directory: Path) -> None:
    client = Client(process.policy)
    assert client.ask(**BOB, **DATA) == "DUNNO"
    settings = directory / "config.yaml"
    text = settings.read_text()
    settings.write_text(
        text.replace("directory.yaml", "none.yaml").replace("ledger.sqlite", "no/such/ledger")
    )
    process.signal(signal.SIGHUP)
    process.wait_for("event=reload")
    assert client.ask(**BOB, **END) == "DUNNO"
    assert client.ask() == "DUNNO"
    said = process.wait_for("goes on serving", times=2)
    assert "the new directory is unavailable" in said
    assert "the new ledger is unavailable" in said
    assert client.ask(**DATA) == "DUNNO"
    # The same settings again, once the files are there.
    (directory / "none.yaml").write_text("logins: {alice: {mailboxes: [other@example.org]}}\n")
    process.signal(signal.SIGHUP)
    process.wait_for("the new directory serves")
    assert client.ask(sender="other@example.org") == "DUNNO"


def test_a_reload_can_open_another_ledger(process: Process, directory: Path) -> None:
    client = Client(process.policy)
    assert client.ask(**BOB, **DATA) == "DUNNO"
    settings = directory / "config.yaml"
    settings.write_text(settings.read_text().replace("ledger.sqlite", "other.sqlite"))
    process.signal(signal.SIGHUP)
    process.wait_for("the new ledger serves")
    assert client.ask(**BOB, **DATA | {"instance": "2.2.2.2", "queue_id": "Q2"}) == "DUNNO"
    assert (directory / "other.sqlite").exists()


def test_wrong_settings_at_the_start_are_all_named_with_status_2(directory: Path) -> None:
    (directory / "config.yaml").write_text(
        "version: 1\npolicy: {charge: always, restrictions: {sendr: off}}\n"
    )
    command = [sys.executable, "-m", "policyd", "--settings", str(directory / "config.yaml")]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert said.returncode == 2
    assert "policy.charge" in said.stderr
    assert "policy.restrictions.sendr: unknown restriction; allowed: principal, tls" in said.stderr
    assert "Traceback" not in said.stderr


def test_killed_between_data_and_the_end_a_message_is_charged_once(process: Process, directory: Path) -> None:
    process.wait_for("state=ok")
    assert Client(process.policy).ask(**BOB, **DATA) == "DUNNO"
    process.child.kill()
    process.child.wait()
    again = Process(directory)
    try:
        client = Client(again.policy)
        assert client.ask(**BOB, **DATA) == "DUNNO"  # Postfix asks the same again
        assert client.ask(**BOB, **END) == "DUNNO"
        assert client.ask(**BOB, **END) == "DUNNO"
        # Two of three an hour are used, so one more fits and two do not.
        two = {**BOB, **DATA, "instance": "2.2.2.2", "queue_id": "Q2"}
        assert str(client.ask(**two)).startswith("450 4.7.1 login bob: used 2 of 3 recipients per hour")
        assert client.ask(**two | {"recipient_count": 1}) == "DUNNO"
    finally:
        assert again.end() == 0


def test_two_processes_share_one_ledger(process: Process, directory: Path) -> None:
    process.wait_for("state=ok")
    with private_directory() as other:
        settings = other / "config.yaml"
        settings.write_text(settings.read_text().replace(f"{other}/ledger", f"{directory}/ledger"))
        second = Process(other)
        try:
            one, two = Client(process.policy), Client(second.policy)
            assert one.ask(**BOB, **DATA) == "DUNNO"
            assert one.ask(**BOB, **END) == "DUNNO"
            message = {**BOB, **DATA, "instance": "2.2.2.2", "queue_id": "Q2"}
            assert str(two.ask(**message)).startswith("450 4.7.1")
        finally:
            assert second.end() == 0


def test_a_thousand_connections_at_once_are_all_served(process: Process) -> None:
    clients = [Client(process.policy) for _ in range(1000)]
    for client in clients:
        client.send(encode_request(attributes()))
    assert {client.read() for client in clients} == {"DUNNO"}
    assert clients[0].ask() == "DUNNO"


def test_half_open_leftovers_do_not_end_it(process: Process) -> None:
    for _ in range(50):
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(process.policy))
            rude.send(encode_request(attributes()) * 3)
    assert Client(process.policy).ask() == "DUNNO"
    assert "Traceback" not in process.log.read_text()
