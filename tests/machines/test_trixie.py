"""Debian 13, with Postfix 3.10 and Python 3.13: the units, one deployment, mail, and out again.

One relay, with what needs no other host: a directory in a file, the ledger in SQLite.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machines.hardening import assert_always_offered_auth, assert_hardened
from tests.machines.scene import Scene
from tests.machines.traffic import Traffic
from tests.machines.wheels import make_wheelhouse

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    wheels = make_wheelhouse(tmp_path_factory.mktemp("wheels"), "3.13")
    with Scene("trixie", wheels, ("mta1",)) as running:
        yield running


def test_it_deploys_and_the_second_run_changes_nothing(scene: Scene) -> None:
    assert scene.relays[0].run("postconf", "-h", "mail_version").stdout.startswith("3.10.")
    first, second = scene.play("deploy"), scene.play("deploy")
    assert first.status == 0, first.output
    assert (second.status, second.changed) == (0, {"mta1": 0}), second.output


@pytest.mark.parametrize("unit", ["policy", "auth", "milter"])
def test_a_sidecar_runs_under_its_hardening(scene: Scene, unit: str) -> None:
    assert_hardened(scene.relays[0], unit)
    assert scene.relays[0].failed_units() == ""


def test_mail_is_taken_and_arrives(scene: Scene) -> None:
    with Traffic(scene, scene.relays[0]) as traffic:  # new tables of the signer count a minute later
        pass
    assert traffic.wrong == []
    assert traffic.arrived() == traffic.taken > 0


def test_the_story_passes(scene: Scene) -> None:
    told = scene.story(scene.relays[0])
    assert told.returncode == 0, told.stdout + told.stderr


def test_restarts_under_load_refuse_nobody(scene: Scene) -> None:
    relay = scene.relays[0]
    with Traffic(scene, relay) as traffic:
        for unit in ("policy", "auth", "milter"):
            relay.run("systemctl", "restart", f"submitward-{unit}.service")
            traffic.wait_for_one()
    assert traffic.wrong == []
    assert traffic.arrived() == traffic.taken > 0
    assert_always_offered_auth(relay)


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
    played = scene.play("remove")
    assert played.status == 0, played.output
    assert scene.postfix_files(relay) == scene.found["mta1"]
