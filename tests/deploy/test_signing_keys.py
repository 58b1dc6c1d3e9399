"""A key or a table that OpenDKIM could not sign with is refused by name before it is put in place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.tasks import play, role
from tests.deploy.variables import ROLE

RSA = ["-algorithm", "RSA", "-pkeyopt"]


def pem(*options: str) -> str:
    return subprocess.run(["openssl", "genpkey", *options], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def good() -> str:
    return pem(*RSA, "rsa_keygen_bits:2048")


def read(tmp_path: Path, **keys: str) -> subprocess.CompletedProcess[str]:
    """Play the task on keys by their selectors."""
    place = tmp_path / "0.1.0/bin"
    place.mkdir(parents=True, exist_ok=True)
    (place / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (place / "python").chmod(0o755)
    told: dict[str, Any] = {
        "submitward_versions": str(tmp_path),
        "submitward_release": "0.1.0",
        "submitward_opendkim_keys": [
            {"domain": "example.org", "selector": selector, "key": key} for selector, key in keys.items()
        ],
    }
    return play(tmp_path, [role("signing", **told)])


def test_each_key_that_cannot_be_signed_with_is_told_and_none_is_shown(tmp_path: Path, good: str) -> None:
    lines = good.splitlines()
    wrong = {
        "cut": "\n".join(lines[:5]),
        "bare": "".join(lines[1:-1]),
        "short": pem(*RSA, "rsa_keygen_bits:1024"),
        "curve": pem("-algorithm", "ed25519"),
        "locked": pem(*RSA, "rsa_keygen_bits:2048", "-aes-128-cbc", "-pass", "pass:x"),
    }
    done = read(tmp_path, good=good, **wrong)
    assert done.returncode == 2, done.stdout
    for selector, why in {
        "cut": "holds no private key", "bare": "is no PEM", "short": "has 1024 bits",
        "curve": "holds no RSA key", "locked": "holds no private key that can be read without a password",
    }.items():  # fmt: skip
        assert f"the key {selector} of example.org {why}" in done.stdout
    assert "the key good" not in done.stdout
    for key in wrong.values():
        assert key.splitlines()[-1][:40] not in done.stdout.replace("-----END PRIVATE KEY-----", "")
    assert lines[3] not in done.stdout + done.stderr


def test_a_good_key_and_its_tables_are_taken(tmp_path: Path, good: str) -> None:
    done = read(tmp_path, pasted=good.rstrip("\n"))
    assert done.returncode == 0, done.stdout


def test_nothing_is_written_before_it_is_read() -> None:
    text = (ROLE / "tasks/present.yml").read_text()
    assert text.index("signing.yml") < text.index("settings.yml") < text.index("current.yml")
    assert "Let the keys be read" not in (ROLE / "tasks/opendkim.yml").read_text()


def test_the_signer_is_touched_when_the_rest_has_been_looked_at_and_where_it_can_be_taken_back() -> None:
    assert "include_tasks: opendkim.yml" not in (ROLE / "tasks/present.yml").read_text()
    text = (ROLE / "tasks/current.yml").read_text()
    steps = ["Let the new version ask the directory", "opendkim.yml", "include_tasks: sidecar.yml", "rescue:"]
    assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)
    back = (ROLE / "tasks/back.yml").read_text()
    assert back.index("back_opendkim.yml") < back.index("Restart or reload") < back.index("Ask them")
