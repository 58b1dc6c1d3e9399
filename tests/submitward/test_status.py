"""`submitward status`: one look at sidecars that run, that do not, and at a ledger that is away."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.policyd.house import Process, private_directory
from tests.submitward.command import submitward

PATIENCE = 15.0


@pytest.fixture
def place():
    with private_directory() as directory:
        path = directory / "config.yaml"
        sockets = f"metrics: {{policyd: unix:{directory}/m1, saslauthd: unix:{directory}/m2}}"
        path.write_text(path.read_text().replace("listen:\n", f"listen:\n  {sockets}\n"))
        yield directory


def running(directory: Path) -> Process:
    """A policyd that has its ledger: it says that it started before a thread has opened that."""
    policyd = Process(directory)
    policyd.wait_for("state=ok")
    return policyd


def status(directory: Path, *, code: int):
    done = submitward(directory / "config.yaml", "status", "--json")
    assert done.returncode == code, done
    return json.loads(done.stdout)


def without_saslauthd(directory: Path) -> None:
    path = directory / "config.yaml"
    path.write_text(path.read_text().replace(f", saslauthd: unix:{directory}/m2", ""))


def test_a_sidecar_that_does_not_answer_is_1_and_one_that_has_no_listener_is_not_asked(place):
    policyd = running(place)
    try:
        told = status(place, code=1)
        states = {name: one["state"] for name, one in told["sidecars"].items()}
        assert states == {"policyd": "ok", "saslauthd": "unavailable", "milter": "not asked"}
        assert (told["status"], told["ledger"], told["blocks"]) == (
            "degraded",
            {"kind": "sqlite", "state": "ok"},
            0,
        )
        without_saslauthd(place)
        assert submitward(place / "config.yaml", "block", "alice").returncode == 0
        told = status(place, code=0)
        assert (told["status"], told["blocks"], told["events"]) == ("ok", 1, [])
        text = submitward(place / "config.yaml", "status").stdout
        assert "policyd    ok\n" in text
        assert "ledger     sqlite ok\n" in text
        assert "blocks     1 in force\n" in text
    finally:
        policyd.end()


def test_what_a_sidecar_says_of_its_stores_is_told(place):
    without_saslauthd(place)
    policyd = running(place)
    try:
        (place / "ledger.sqlite").rename(place / "kept")
        (place / "ledger.sqlite").mkdir()
        until = time.monotonic() + PATIENCE
        while (told := status(place, code=75))["sidecars"]["policyd"]["state"] == "ok":
            assert time.monotonic() < until
        assert told["sidecars"]["policyd"]["detail"] == "ledger=unavailable"
        assert told["status"] == "unavailable"
        assert told["blocks"] is None
    finally:
        policyd.end()


def test_without_a_ledger_it_is_75(place):
    without_saslauthd(place)
    told = status(place, code=75)
    assert told["ledger"]["state"].startswith("unavailable: ")
    assert told["sidecars"]["policyd"]["state"] == "unavailable"
