"""Debian 13, with Postfix 3.10 and Python 3.13: the units, one deployment, mail, and out again.

One relay, with what needs no other host: a directory in a file, the ledger in SQLite.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.machines.broken import make_broken
from tests.machines.hardening import assert_always_offered_auth, assert_hardened, assert_ran_hardened
from tests.machines.machine import Machine
from tests.machines.scene import VERSION, Scene, assert_check_changes_nothing
from tests.machines.traffic import assert_refuses_nobody_over_a_reboot, refuses_nobody

UNITS = ("policy", "auth", "milter")
NEXT = "0.1.1"

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def scene(wheelhouse: Callable[[str], Path]) -> Iterator[Scene]:
    with Scene("trixie", wheelhouse("3.13"), ("mta1",)) as running:
        yield running


def python_of(relay: Machine, unit: str) -> str:
    """The directory of what the sidecar runs with."""
    pid = relay.show(f"submitward-{unit}.service", "MainPID")["MainPID"]
    return relay.run("cat", f"/proc/{pid}/cmdline").stdout.partition("/bin/")[0]


def test_a_check_on_a_fresh_machine_shows_the_plan_and_changes_nothing(scene: Scene) -> None:
    assert_check_changes_nothing(scene, "deploy", "+submitward_policy = check_policy_service")


def test_it_deploys_and_the_second_run_changes_nothing(scene: Scene) -> None:
    assert scene.relays[0].run("postconf", "-h", "mail_version").stdout.startswith("3.10.")
    first, second = scene.play("deploy"), scene.play("deploy")
    assert first.status == 0, first.output
    assert (second.status, second.changed) == (0, {"mta1": 0}), second.output


@pytest.mark.parametrize("unit", UNITS)
def test_a_sidecar_runs_under_its_hardening(scene: Scene, unit: str) -> None:
    assert_hardened(scene.relays[0], unit)
    assert scene.relays[0].failed_units() == ""


def test_a_network_that_the_directory_takes_in_may_relay_at_once(scene: Scene) -> None:
    """The tables are written, their change is seen, and Postfix reads them: each by its unit."""
    relay = scene.relays[0]
    directory = relay.tree / "etc/submitward/directory.yaml"
    known = yaml.safe_load(directory.read_text())
    known["networks"]["new host"] = {"network": "192.0.2.99/32", "addresses": ["new@example.org"]}
    reloads = relay.journal("--unit=postfix*").count("reload -- version")
    directory.write_text(yaml.safe_dump(known))
    relay.run("systemctl", "start", "submitward-export.service")
    assert "192.0.2.99" in relay.run("cat", "/var/lib/submitward-export/networks").stdout
    deadline = time.monotonic() + 60
    while relay.journal("--unit=postfix*").count("reload -- version") == reloads:
        assert time.monotonic() < deadline, relay.journal("--unit=submitward-reload.service")
        time.sleep(0.5)
    for unit in ("export", "reload"):
        assert_ran_hardened(relay, unit)


def test_mail_is_taken_and_arrives(scene: Scene) -> None:
    with refuses_nobody(scene, scene.relays[0]):
        pass


def test_the_story_passes(scene: Scene) -> None:
    told = scene.story(scene.relays[0])
    assert told.returncode == 0, told.stdout + told.stderr


def test_restarts_under_load_refuse_nobody(scene: Scene) -> None:
    relay = scene.relays[0]
    with refuses_nobody(scene, relay) as traffic:
        for unit in UNITS:
            relay.run("systemctl", "restart", f"submitward-{unit}.service")
            traffic.wait_for_one()
    assert_always_offered_auth(relay)


def test_an_upgrade_under_load_refuses_nobody(scene: Scene, tmp_path: Path) -> None:
    relay = scene.relays[0]
    wheels = shutil.copytree(scene.wheelhouse, tmp_path / NEXT)
    with refuses_nobody(scene, relay):
        played = scene.play("deploy", submitward_version=NEXT, submitward_wheelhouse=str(wheels))
    assert played.status == 0, played.output
    assert_always_offered_auth(relay)
    for unit in UNITS:
        assert python_of(relay, unit) == f"/opt/submitward/{NEXT}"
    # And back, on a host that knows the version: as quick, and as quiet.
    back = scene.play("deploy")
    assert back.status == 0, back.output
    assert python_of(relay, "policy") == f"/opt/submitward/{VERSION}"


def test_a_version_whose_milter_cannot_start_is_rolled_back_under_load(scene: Scene, tmp_path: Path) -> None:
    relay = scene.relays[0]
    broken = make_broken(scene.wheelhouse, tmp_path / "0.3.0", "milter")
    with refuses_nobody(scene, relay):
        played = scene.play("deploy", submitward_version="0.3.0", submitward_wheelhouse=str(broken))
    assert played.status == 2, played.output
    assert f"Current is {VERSION}, as before" in played.output
    for unit in UNITS:
        assert python_of(relay, unit) == f"/opt/submitward/{VERSION}"
    assert relay.failed_units() == ""


def test_a_unit_that_does_not_start_is_taken_back(scene: Scene) -> None:
    relay = scene.relays[0]
    drop_ins = {
        unit: relay.tree / f"etc/systemd/system/submitward-{unit}.service.d/host.conf" for unit in UNITS
    }
    before = {unit: path.read_text() for unit, path in drop_ins.items()}
    with refuses_nobody(scene, relay):
        # More than systemd takes for a credential: the unit does not start (systemd.exec(5)).
        played = scene.play("deploy", submitward_secrets={"large": "x" * (1024 * 1024 + 1)})
    assert played.status == 2, played.output
    assert f"Current is {VERSION}, as before" in played.output
    assert {unit: path.read_text() for unit, path in drop_ins.items()} == before
    assert relay.failed_units() == ""


def test_settings_that_would_put_people_off_are_taken_back(scene: Scene, tmp_path: Path) -> None:
    relay = scene.relays[0]
    files = [relay.tree / "etc/submitward" / name for name in ("config.yaml", "directory.yaml")]
    files += [relay.tree / "etc/opendkim" / name for name in ("KeyTable", "SigningTable")]
    before = [file.read_bytes() for file in files]
    pids = [relay.show(f"submitward-{unit}.service", "MainPID") for unit in UNITS]
    broken = tmp_path / "directory.yaml"
    broken.write_text("logins: {alice: {mailboxs: [alice@example.org]}}\n")
    # Root reads it, and the units may not (ProtectHome=); in observe every question is answered all the same.
    (relay.tree / "root/directory.yaml").write_bytes(before[1])
    settings = scene.variables["submitward_settings"]
    hidden = {**settings, "directory": {**settings["directory"], "file": {"path": "/root/directory.yaml"}}}
    (relay.tree / "root/password").touch(0o600)
    (relay.tree / "root/password").write_text("secret")
    redis = {"url": "redis://127.0.0.1:6379/0", "password": {"file": "/root/password"}}
    unread = {**settings, "ledger": {"kind": "redis", "redis": redis}}
    first, *others = scene.variables["submitward_opendkim_keys"]
    renamed = [{**first, "selector": "another"}, *others]  # tables are written, and taken back with the rest
    for changes, told in (
        ({"submitward_directory_file": str(broken)}, "logins.alice.mailboxs"),
        ({"submitward_settings": hidden, "submitward_mode": "observe"}, "directory=behind"),
        ({"submitward_settings": unread, "submitward_opendkim_keys": renamed}, "settings=refused"),
    ):
        played = scene.play("deploy", **changes)
        assert played.status == 2, played.output
        assert told in played.output
        assert [file.read_bytes() for file in files] == before
    assert [relay.show(f"submitward-{unit}.service", "MainPID") for unit in UNITS] == pids
    state = relay.show("submitward-policy.service", "StatusText")
    assert state == {"StatusText": "ok"}


def test_what_a_run_that_broke_off_has_left_undone_is_done(scene: Scene) -> None:
    relay = scene.relays[0]
    working = relay.tree / "opt/submitward/working"
    version, run, read, *before = working.read_text().split()
    pids = [relay.show(f"submitward-{unit}.service", "MainPID") for unit in UNITS]
    working.write_text(
        " ".join([version, run, "another", *before])
    )  # settings were written, and nobody has read them
    played = scene.play("deploy")
    assert played.status == 0, played.output
    assert [relay.show(f"submitward-{unit}.service", "MainPID") for unit in UNITS] == pids
    assert "event=reload" in relay.journal("--unit=submitward-policy.service")
    working.write_text(
        " ".join([version, "another", read, *before])
    )  # units were, and nobody was started with them
    played = scene.play("deploy")
    assert played.status == 0, played.output
    after = [relay.show(f"submitward-{unit}.service", "MainPID") for unit in UNITS]
    assert not set(map(str, after)) & set(map(str, pids))
    assert working.read_text().split() == [version, run, read, *before]


def test_a_redis_for_one_host_is_installed_and_serves(scene: Scene) -> None:
    relay = scene.relays[0]
    ledger = {"kind": "redis", "redis": {"url": "redis://127.0.0.1:6379/0"}}
    settings = {**scene.variables["submitward_settings"], "ledger": ledger}
    played = scene.play("deploy", submitward_redis="local", submitward_settings=settings)
    assert played.status == 0, played.output
    with refuses_nobody(scene, relay):
        pass
    told = json.loads(relay.submitward("status", "--json").stdout)
    assert told["ledger"] == {"kind": "redis", "state": "ok"}


def test_a_reboot_under_load_refuses_nobody_but_while_it_is_down(scene: Scene) -> None:
    assert_refuses_nobody_over_a_reboot(scene, scene.relays[0])


def test_another_environment_is_refused_before_anything_is_done(scene: Scene) -> None:
    for changes in ({"submitward_environment": "production"}, {"submitward_expected_environment": "lab"}):
        played = scene.play("deploy", **changes)
        assert (played.status, played.changed) == (2, {"mta1": 0}), played.output
        assert "inventory is that of" in played.output


def test_tables_that_leave_mail_unsigned_never_reach_the_signer(scene: Scene) -> None:
    relay = scene.relays[0]
    tables = [relay.tree / "etc/opendkim" / name for name in ("KeyTable", "SigningTable")]
    before = [table.read_bytes() for table in tables]
    first, *others = scene.variables["submitward_opendkim_keys"]
    played = scene.play("deploy", submitward_opendkim_keys=[{**first, "domain": "*.example.org"}, *others])
    assert played.status == 2, played.output
    assert "KeyTable:" in played.output
    assert [table.read_bytes() for table in tables] == before


def test_removing_leaves_everything_as_it_was(scene: Scene) -> None:
    relay = scene.relays[0]
    assert_check_changes_nothing(scene, "remove", "-submitward_policy = check_policy_service", "/etc", "/opt")
    played = scene.play("remove")
    assert played.status == 0, played.output
    assert scene.postfix_files(relay) == scene.found["mta1"]
    assert relay.run("dpkg", "--verify", "opendkim").stdout == ""
