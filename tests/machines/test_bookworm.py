"""Debian 12, from the bare tree to signed mail, and back: what an operator sees who runs the playbooks.

One machine for all of them, and the order matters: each goes on where the one before stopped.
"""

from __future__ import annotations

import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines.deployment import ROOT
from tests.machines.scene import VERSION, Scene
from tests.machines.traffic import Traffic
from tests.machines.wheels import make_wheelhouse

UNITS = ("policy", "auth", "milter")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Scene("bookworm", make_wheelhouse(tmp_path_factory.mktemp("wheels"), "3.11")) as running:
        running.found = running.postfix_files()
        yield running


pytestmark = pytest.mark.timeout(1200)


def test_a_check_on_a_fresh_machine_shows_the_plan_and_changes_nothing(scene: Scene) -> None:
    before = scene.snapshot()
    played = scene.play("deploy", "--check", "--diff")
    assert played.status == 0, played.output
    assert "+submitward_policy = check_policy_service" in played.output
    assert scene.snapshot() == before


def test_the_first_run_deploys(scene: Scene) -> None:
    played = scene.play("deploy")
    assert played.status == 0, played.output
    assert scene.machine.run("systemctl", "--failed", "--quiet", "--plain", check=False).stdout.strip() == ""


def test_the_second_run_changes_nothing(scene: Scene) -> None:
    played = scene.play("deploy")
    assert (played.status, played.changed) == (0, {"mta1": 0}), played.output


def test_the_story_passes(scene: Scene) -> None:
    told = scene.story()
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_a_sidecar_runs_under_its_hardening(scene: Scene, unit: str) -> None:
    shown = scene.machine.show(
        f"submitward-{unit}.service", "ActiveState", "SubState", "User", "Group", "UMask", "NoNewPrivileges",
        "ProtectSystem", "ProtectHome", "PrivateDevices", "PrivateUsers", "ProtectProc", "ProcSubset",
        "MemoryDenyWriteExecute", "RestrictNamespaces", "CapabilityBoundingSet", "Type", "WatchdogUSec",
        "MainPID",
    )  # fmt: skip
    pid = shown.pop("MainPID")
    assert shown == {
        "ActiveState": "active", "SubState": "running", "User": f"submitward-{unit}", "Group": "submitward",
        "UMask": "0007", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
        "PrivateDevices": "yes", "PrivateUsers": "yes", "ProtectProc": "invisible", "ProcSubset": "pid",
        "MemoryDenyWriteExecute": "yes", "RestrictNamespaces": "yes", "CapabilityBoundingSet": "",
        "Type": "notify", "WatchdogUSec": "30s",
    }  # fmt: skip
    status = scene.machine.run("cat", f"/proc/{pid}/status").stdout
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert "CapEff:\t0000000000000000" in status


def test_the_sockets_are_postfixs(scene: Scene) -> None:
    place = "/var/spool/postfix/submitward"
    listed = scene.machine.shell(f"cd {place}; stat -c '%n %a %U %G' . *")
    assert listed.splitlines() == [
        ". 2750 root postfix",
        *(f"{name} 660 root postfix" for name in ("auth", "milter", "policy")),
    ]
    assert scene.machine.shell("stat -c '%a %G' /var/lib/submitward").split() == ["2770", "submitward"]


def test_check_finds_no_error_in_what_we_made(scene: Scene) -> None:
    played = scene.play("check")
    assert played.status == 0, played.output


@pytest.mark.parametrize("unit", UNITS)
def test_a_restart_under_load_refuses_nobody(scene: Scene, unit: str) -> None:
    with Traffic(scene) as traffic:
        for _ in range(3):
            scene.machine.run("systemctl", "restart", f"submitward-{unit}.service")
            time.sleep(1.5)
    assert traffic.wrong == []
    assert traffic.arrived() == traffic.taken > 0
    assert "no SASL authentication mechanisms" not in scene.journal()


def test_a_reload_with_wrong_settings_is_refused_and_the_sidecar_goes_on(scene: Scene) -> None:
    settings = scene.machine.tree / "etc/submitward/config.yaml"
    good = settings.read_text()
    pid = scene.machine.show("submitward-policy.service", "MainPID")
    try:
        settings.write_text(good + "nonsense: yes\n")
        done = scene.machine.run("systemctl", "reload", "submitward-policy.service", check=False)
        assert done.returncode != 0
    finally:
        settings.write_text(good)
    assert scene.machine.run("systemctl", "reload", "submitward-policy.service").returncode == 0
    assert scene.machine.show("submitward-policy.service", "MainPID") == pid


def test_an_upgrade_that_cannot_start_is_rolled_back_under_load(scene: Scene, tmp_path: Path) -> None:
    broken = make_broken(scene.wheelhouse, tmp_path / "0.2.0")
    with Traffic(scene) as traffic:
        played = scene.play("deploy", submitward_version="0.2.0", submitward_wheelhouse=str(broken))
    assert played.status != 0
    assert f"Current is {VERSION}, as before" in played.output
    assert (scene.machine.tree / "opt/submitward/current").readlink() == Path(VERSION)
    assert traffic.wrong == []
    assert traffic.arrived() == traffic.taken > 0
    assert scene.play("check").status == 0


def make_broken(good: Path, place: Path) -> Path:
    """A wheelhouse whose sidecars read the settings, and end when they are to serve."""
    shutil.copytree(good, place)
    wheel = next(place.glob("submitward-*.whl"))
    fresh = wheel.with_suffix(".new")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename == "sidecar/daemon.py":
                content += b"\n\ndef run(*_, **__):\n    raise SystemExit('this version cannot start')\n"
            if not item.filename.endswith("RECORD"):
                new.writestr(item, content)
            else:
                lines = content.decode().splitlines(keepends=True)
                new.writestr(item, "".join(line for line in lines if "sidecar/daemon.py" not in line))
    fresh.replace(wheel)
    lock = subprocess.run(
        [str(ROOT / "script/lock-wheels"), str(place)], capture_output=True, text=True, check=True
    ).stdout
    (place / "requirements.lock").write_text(lock)
    return place


def test_observe_lets_all_mail_pass_and_tells_what_it_saw(scene: Scene) -> None:
    assert scene.play("deploy", submitward_mode="observe").status == 0
    with Traffic(scene, sender="carol@example.org") as traffic:
        time.sleep(2)
    assert traffic.wrong == []
    assert traffic.arrived() == traffic.taken > 0
    told = scene.machine.run(
        "/opt/submitward/current/bin/submitward", "observe", "report", "--since=-1min"
    ).stdout
    assert "login:bob: sender: 553 5.7.1 not owned" in told
    assert scene.play("deploy").status == 0


def test_after_a_reboot_mail_flows_without_a_fatal_word(scene: Scene) -> None:
    scene.machine.reboot()
    scene.restart_sink()
    with Traffic(scene) as traffic:
        time.sleep(3)
    assert traffic.wrong == []
    assert traffic.arrived() == traffic.taken > 0
    text = scene.journal("--boot")
    assert "fatal: no SASL authentication mechanisms" not in text
    assert scene.machine.run("systemctl", "--failed", "--quiet", "--plain", check=False).stdout.strip() == ""


def test_removing_leaves_main_cf_and_master_cf_as_they_were(scene: Scene) -> None:
    played = scene.play("remove")
    assert played.status == 0, played.output
    assert scene.postfix_files() == scene.found
    again = scene.play("remove")
    assert (again.status, again.changed) == (0, {"mta1": 0}), again.output
