"""Debian 12, from the bare tree to signed mail, and back: what an operator sees who runs the playbooks.

Two relays, a machine with the directory and Redis, and one as the mailbox host, for all of the tests. The
order matters: each goes on where the one before stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machines.broken import make_broken
from tests.machines.hardening import assert_always_offered_auth, assert_hardened, assert_ran_hardened
from tests.machines.scene import VERSION, Scene, assert_check_changes_nothing
from tests.machines.traffic import assert_refuses_nobody_over_a_reboot, refuses_nobody

RELAYS = ("mta1", "mta2")
UNITS = ("policy", "auth", "milter")
JUDGES = ("submitward_postfix_policy", "submitward_postfix_milter")

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def scene(wheelhouse: Callable[[str], Path]) -> Iterator[Scene]:
    with Scene("bookworm", wheelhouse("3.11"), RELAYS, backend=True) as running:
        yield running


def test_a_check_on_a_fresh_machine_shows_the_plan_and_changes_nothing(scene: Scene) -> None:
    assert_check_changes_nothing(scene, "deploy", "+submitward_policy = check_policy_service")


def test_the_first_run_deploys_on_both_relays_and_keeps_its_secrets(scene: Scene) -> None:
    played = scene.play("deploy", "--diff")
    assert played.status == 0, played.output
    assert [relay.failed_units() for relay in scene.relays] == ["", ""]
    for secret in scene.secrets:
        assert secret not in played.output
    for relay in scene.relays:
        with refuses_nobody(scene, relay):
            pass


def test_the_second_run_changes_nothing(scene: Scene) -> None:
    played = scene.play("deploy")
    assert (played.status, played.changed) == (0, {"mta1": 0, "mta2": 0}), played.output


@pytest.mark.parametrize("name", RELAYS)
def test_the_story_passes(scene: Scene, name: str) -> None:
    told = scene.story(scene.machines[name])
    assert told.returncode == 0, told.stdout + told.stderr


def test_a_limit_is_shared_between_both_relays(scene: Scene) -> None:
    told = scene.shared_limit()
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_a_sidecar_runs_under_its_hardening(scene: Scene, unit: str) -> None:
    assert_hardened(scene.relays[0], unit)


@pytest.mark.parametrize("unit", ["export", "reload"])
def test_what_runs_now_and_then_runs_under_its_hardening(scene: Scene, unit: str) -> None:
    assert_ran_hardened(scene.relays[0], unit)


def test_the_sockets_are_postfixs(scene: Scene) -> None:
    place = "/var/spool/postfix/submitward"
    listed = scene.relays[0].shell(f"cd {place}; stat -c '%n %a %U %G' . *")
    assert listed.splitlines() == [
        ". 2750 root postfix",
        *(f"{name} 660 root postfix" for name in ("auth", "milter", "policy")),
    ]
    assert scene.relays[0].shell("stat -c '%a %G' /var/lib/submitward").split() == ["2770", "submitward"]


def test_check_finds_no_error_in_what_we_made(scene: Scene) -> None:
    played = scene.play("check")
    assert played.status == 0, played.output


@pytest.mark.parametrize("unit", UNITS)
def test_a_restart_under_load_refuses_nobody(scene: Scene, unit: str) -> None:
    relay = scene.relays[0]
    with refuses_nobody(scene, relay) as traffic:
        for _ in range(3):
            relay.run("systemctl", "restart", f"submitward-{unit}.service")
            traffic.wait_for_one()
    assert_always_offered_auth(relay)


def test_a_reload_with_wrong_settings_is_refused_and_the_sidecar_goes_on(scene: Scene) -> None:
    relay = scene.relays[0]
    settings = relay.tree / "etc/submitward/config.yaml"
    good = settings.read_text()
    pid = relay.show("submitward-policy.service", "MainPID")
    try:
        settings.write_text(good + "nonsense: yes\n")
        done = relay.run("systemctl", "reload", "submitward-policy.service", check=False)
        assert done.returncode != 0
    finally:
        settings.write_text(good)
    for unit in UNITS:
        assert relay.run("systemctl", "reload", f"submitward-{unit}.service").returncode == 0
    assert relay.show("submitward-policy.service", "MainPID") == pid


def test_an_upgrade_that_cannot_start_is_rolled_back_under_load(scene: Scene, tmp_path: Path) -> None:
    broken = make_broken(scene.wheelhouse, tmp_path / "0.2.0")
    with refuses_nobody(scene, scene.relays[0]):
        played = scene.play("deploy", submitward_version="0.2.0", submitward_wheelhouse=str(broken))
    assert played.status != 0
    assert f"Current is {VERSION}, as before" in played.output
    assert "mta2" not in played.changed  # the next relay is not touched when the first one fails
    for relay in scene.relays:
        assert (relay.tree / "opt/submitward/current").readlink() == Path(VERSION)
    assert scene.play("check").status == 0


def test_observe_lets_all_mail_pass_and_tells_what_it_saw(scene: Scene) -> None:
    relay = scene.relays[0]
    played = scene.play("deploy", "--limit=mta1", submitward_mode="observe")
    assert played.status == 0, played.output
    with refuses_nobody(scene, relay, sender="carol@example.org"):
        pass
    told = relay.submitward("observe", "report", "--since=-10min").stdout
    assert "login:bob: sender: 553 5.7.1 not owned" in told
    assert scene.play("deploy", "--limit=mta1").status == 0


def test_a_part_is_taken_out_under_load_and_put_back_and_nobody_is_refused(scene: Scene) -> None:
    relay = scene.relays[0]
    before = scene.postfix_files(relay)
    with refuses_nobody(scene, relay):
        without = scene.play("deploy", "--limit=mta1", **dict.fromkeys(JUDGES, False))
    assert without.status == 0, without.output
    assert b"submitward_policy" not in scene.postfix_files(relay)["master.cf"]
    with refuses_nobody(scene, relay):
        again = scene.play("deploy", "--limit=mta1")
    assert again.status == 0, again.output
    assert scene.postfix_files(relay) == before


def test_a_reboot_under_load_refuses_nobody_but_while_it_is_down(scene: Scene) -> None:
    assert_refuses_nobody_over_a_reboot(scene, scene.relays[0])


def test_removing_leaves_main_cf_and_master_cf_as_they_were(scene: Scene) -> None:
    played = scene.play("remove")
    assert played.status == 0, played.output
    assert {relay.name: scene.postfix_files(relay) for relay in scene.relays} == scene.found
    again = scene.play("remove")
    assert (again.status, again.changed) == (0, {"mta1": 0, "mta2": 0}), again.output
