"""The probe of a deployment: only a sidecar that Postfix reaches, and that knows its people, has answered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.tasks import play
from tests.policyd.house import Process, private_directory


@pytest.fixture
def place() -> Iterator[Path]:
    """A policyd's directory, with a Postfix configuration and what says how the policyd is beside it."""
    with private_directory() as directory:
        directory.chmod(0o755)
        for name in ("bin", "etc"):
            (directory / name).mkdir()
        (directory / "etc/main.cf").write_text("compatibility_level = 3.6\nmail_owner = postfix\n")
        systemctl = directory / "bin/systemctl"
        systemctl.write_text(f'#!/bin/sh\necho "$@" >> {directory}/asked\ncat {directory}/status\n')
        systemctl.chmod(0o755)
        yield directory


def probe(place: Path, **changes: Any) -> dict[str, Any]:
    asked = {"directory": str(place), "configuration": str(place / "etc"), "only": ["policy"], "patience": 0}
    return {
        "submitward.relay.probe": {**asked, **changes},
        "environment": {"PATH": f"{place / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"},
        "ignore_errors": True,
    }


def shell(command: str) -> dict[str, Any]:
    return {"ansible.builtin.shell": command}


def said(place: Path, tmp_path: Path, *tasks: dict[str, Any]) -> list[str]:
    """What each probe ended with: its answer, or why it failed."""
    done = play(tmp_path, list(tasks), "-v")
    found = re.findall(r"(?m)^(?:ok|fatal): \[localhost\](?:: FAILED!)? => (\{.*\})$", done.stdout)
    told = [json.loads(line) for line in found]
    return [one.get("msg") or one["answers"]["policy"] for one in told if "answers" in one]


def test_what_postfix_would_put_off_is_no_answer(place: Path, tmp_path: Path) -> None:
    (place / "directory.yaml").rename(place / "away")
    policyd = Process(place)
    try:
        told = said(
            place,
            tmp_path,
            shell(f"chmod 666 {place}/policy; echo ok > {place}/status"),
            probe(place),
            probe(place, stores=False),
            shell(f"mv {place}/away {place}/directory.yaml"),
            probe(place, patience=30),
            shell(f"echo degraded ledger=unavailable > {place}/status"),
            probe(place),
            shell(f"echo degraded settings=refused > {place}/status"),
            probe(place, patience=600),  # no patience makes a sidecar take settings that it has refused
            shell(f"chmod 660 {place}/policy"),
            probe(place),
        )
    finally:
        policyd.end()
    away, let, read, degraded, refused, closed = told
    assert "answers action=DEFER_IF_PERMIT 4.3.0" in away
    assert "answers action=DEFER_IF_PERMIT 4.3.0" in let
    assert read.startswith("action=554 ")  # no such login
    assert "submitward-policy.service says: degraded ledger=unavailable" in degraded
    assert "submitward-policy.service says: degraded settings=refused" in refused
    assert "postfix may not connect" in closed
    assert "show --property=StatusText --value submitward-policy.service" in (place / "asked").read_text()
