"""`submitward policy ask`."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from submitward.policy import ask, attributes_of, status_of
from tests.policyd.house import Process, private_directory
from tests.submitward.command import submitward

ALICE = ("sasl_username=alice", "sender=alice@example.org")


@pytest.fixture(scope="module")
def running() -> Iterator[Path]:
    with private_directory() as directory:
        process = Process(directory)
        process.wait_for("state=ok")
        yield directory
        assert process.end() == 0


def test_arguments_make_a_request_to_the_first_listener_of_the_settings(running: Path) -> None:
    passed = submitward(running / "config.yaml", "policy", "ask", *ALICE)
    assert (passed.returncode, passed.stdout) == (0, "DUNNO\n")
    refused = submitward(running / "config.yaml", "policy", "ask", *ALICE, "sender=bob@example.org", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["action"].startswith("553 5.7.1")
    unknown = submitward(
        running / "config.yaml", "policy", "ask", "sasl_username=frank", "sender=frank@example.org"
    )
    assert unknown.returncode == 75


def test_a_file_or_standard_input_gives_attributes_and_arguments_override_them(running: Path) -> None:
    file = running / "request"
    file.write_text("sasl_username=alice\nsender=bob@example.org\n\n")
    settings = running / "config.yaml"
    assert submitward(settings, "policy", "ask", str(file)).returncode == 1
    assert submitward(settings, "policy", "ask", str(file), "sender=alice@example.org").returncode == 0
    assert submitward(settings, "policy", "ask", "-", stdin=file.read_text()).returncode == 1


def test_it_can_be_judged_in_process_without_a_running_policyd(running: Path) -> None:
    settings = running / "config.yaml"
    assert submitward(settings, "policy", "ask", *ALICE, "--in-process").returncode == 0
    refused = submitward(settings, "policy", "ask", *ALICE, "sender=b@example.org", "--in-process")
    assert (refused.returncode, refused.stdout[:9]) == (1, "553 5.7.1")


def test_no_server_is_no_answer(running: Path) -> None:
    nobody = submitward(
        running / "config.yaml", "policy", "ask", *ALICE, "--socket", f"unix:{running}/nobody"
    )
    assert nobody.returncode == 75
    assert "no answer" in nobody.stderr
    dropped = submitward(running / "config.yaml", "policy", "ask", "request=junk")
    assert dropped.returncode == 75
    assert "hung up" in dropped.stderr


WRONG = [
    [],
    ["--in-process"],
    ["no/such/file"],
    ["."],
    ["a=b", "/dev/null/x"],
    ["--socket", "nonsense", "a=b"],
]


@pytest.mark.parametrize("wrong", WRONG, ids=" ".join)
def test_what_cannot_be_asked_is_usage_and_asks_nobody(running: Path, wrong: list[str]) -> None:
    said = submitward(running / "config.yaml", "policy", "ask", *wrong)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr
    assert "Traceback" not in said.stderr


def test_tcp_can_be_asked_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"action=DU")
                connection.sendall(b"NNO\n\n")

        thread = threading.Thread(target=serve)
        thread.start()
        assert ask(f"127.0.0.1:{server.getsockname()[1]}", b"request=x\n\n") == "DUNNO"
        thread.join()


def test_the_defaults_are_a_request_of_postfix() -> None:
    first, second = attributes_of([]), attributes_of(["client_address=192.0.2.1"])
    assert first["request"] == "smtpd_access_policy"
    assert first["protocol_state"] == "RCPT"
    assert first["instance"] != second["instance"]
    assert second["client_address"] == "192.0.2.1"


def test_an_answer_has_an_exit_status() -> None:
    assert status_of("DUNNO") == 0
    assert status_of("553 5.7.1 not yours") == 1
    assert status_of("450 4.7.1 later") == 1
    assert status_of("DEFER_IF_PERMIT 4.3.0 later") == 75
    assert status_of("421 4.3.0 later") == 75
    assert status_of("OK") == 1
