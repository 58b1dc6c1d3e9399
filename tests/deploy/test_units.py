"""The systemd units as they are shipped: what they promise can be read without a booted machine."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.submitward.command import submitward

UNITS = Path(__file__).resolve().parents[2] / "ansible/roles/submitward/files/systemd"
SIDECARS = {"policy": "policyd", "auth": "saslauthd", "milter": "milter"}
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))


def read(unit: str) -> dict[str, list[str]]:
    """Every assignment of a unit, in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_is_exposed_to_little(unit: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"./{unit}"],
        cwd=UNITS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert exposure, done.stderr
    assert float(exposure[1]) <= 2.0


def test_systemd_understands_every_unit(tmp_path: Path) -> None:
    """The programs are not here: they are replaced by one that is."""
    for path in UNITS.iterdir():
        if path.suffix != ".conf":
            text = re.sub(r"(?m)^(Exec\w+=\+?.*)/opt/submitward\S+", r"\1/bin/true", path.read_text())
            (tmp_path / path.name).write_text(text)
    units = sorted(path.name for path in tmp_path.iterdir())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], cwd=tmp_path, capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if "submitward" in line]
    assert ours == []


@pytest.mark.parametrize("name", SIDECARS)
def test_a_socket_is_postfixs_and_nobody_elses(name: str) -> None:
    unit = read(f"submitward-{name}.socket")
    assert unit["ListenStream"] == [f"/var/spool/postfix/submitward/{name}"]
    assert unit["FileDescriptorName"] == [name]
    assert (unit["SocketGroup"], unit["SocketMode"]) == (["postfix"], ["0660"])
    assert unit["WantedBy"] == ["sockets.target"]
    assert "postfix@-.service" in unit["Before"][0].split()


@pytest.mark.parametrize("name", SIDECARS)
def test_a_service_is_restarted_for_ever_and_never_takes_its_socket_along(name: str) -> None:
    service, listener = read(f"submitward-{name}.service"), read(f"submitward-{name}.socket")
    assert service["StartLimitIntervalSec"] == listener["TriggerLimitIntervalSec"] == ["0"]
    assert (service["Type"], service["Restart"]) == (["notify"], ["on-failure"])
    assert int(service["WatchdogSec"][0]) > 0


@pytest.mark.parametrize(("name", "sidecar"), SIDECARS.items())
def test_a_reload_looks_at_the_settings_first(name: str, sidecar: str) -> None:
    service = read(f"submitward-{name}.service")
    first, second, third = service["ExecReload"]
    assert first.endswith(f"check --settings-only {sidecar}")
    # systemd 252 hides a unit's credentials from its reload: root reads them where they come from.
    assert first.startswith("+/usr/bin/env -u CREDENTIALS_DIRECTORY /opt/submitward/current/bin/submitward ")
    # Else `systemctl reload` ends when the sidecar has been told, and nobody knows when it has read them.
    assert (service["NotifyAccess"], second) == (["exec"], "/usr/bin/systemd-notify RELOADING=1")
    assert third == '/bin/sh -c "kill -HUP ${MAINPID}"'  # kill(1) is not on every host


def test_saslauthd_alone_may_make_code_at_run_time() -> None:
    """Callbacks of pyOpenSSL, without which no password is checked by LDAP over TLS."""
    free = [unit for unit in SERVICES if read(unit).get("MemoryDenyWriteExecute") != ["yes"]]
    assert free == ["submitward-auth.service"]


def test_each_service_has_a_user_of_its_own_and_one_group() -> None:
    services = [read(unit) for unit in SERVICES if unit != "submitward-reload.service"]
    users = [service["User"][0] for service in services]
    assert len(set(users)) == len(users)
    assert {service["Group"][0] for service in services} == {"submitward"}
    made = (UNITS / "submitward.sysusers.conf").read_text()
    assert all(f"u {user} " in made and f"m {user} submitward" in made for user in users)


def test_the_state_is_shared_by_the_group_and_closed_to_the_world() -> None:
    policy = read("submitward-policy.service")
    assert (policy["StateDirectory"], policy["StateDirectoryMode"]) == (["submitward"], ["2770"])
    assert {read(f"submitward-{name}.service")["UMask"][0] for name in SIDECARS} == {"0007"}
    modes = [line.split()[2] for line in (UNITS / "submitward.tmpfiles.conf").read_text().splitlines()
             if line.startswith("d ")]  # fmt: skip
    assert not [mode for mode in modes if int(mode, 8) & 0o002]


@pytest.mark.parametrize("sidecar", ["policyd", "saslauthd", "milter", "all"])
def test_settings_are_looked_at_alone(tmp_path: Path, sidecar: str) -> None:
    settings = tmp_path / "config.yaml"
    settings.write_text("version: 1\nmta: mx1.example.org\n")
    done = submitward(settings, "check", "--settings-only", sidecar, "--json")
    assert (done.returncode, len(json.loads(done.stdout)["findings"])) == (0, 1)
    settings.write_text("version: 1\nlog: {format: prose}\n")
    done = submitward(settings, "check", "--settings-only", sidecar)
    assert (done.returncode, "log.format" in done.stderr) == (2, True)
