"""Debian 13, with Postfix 3.10 and Python 3.13: the units, one deployment, mail, and out again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machines.scene import Scene
from tests.machines.traffic import Traffic
from tests.machines.wheels import make_wheelhouse

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Scene("trixie", make_wheelhouse(tmp_path_factory.mktemp("wheels"), "3.13")) as running:
        running.found = running.postfix_files()
        yield running


def test_it_deploys_and_the_second_run_changes_nothing(scene: Scene) -> None:
    assert scene.machine.run("postconf", "-h", "mail_version").stdout.startswith("3.10.")
    first, second = scene.play("deploy"), scene.play("deploy")
    assert first.status == 0, first.output
    assert (second.status, second.changed) == (0, {"mta1": 0}), second.output


@pytest.mark.parametrize("unit", ["policy", "auth", "milter"])
def test_a_sidecar_runs_under_its_hardening(scene: Scene, unit: str) -> None:
    wanted = {"ActiveState": "active", "ProtectSystem": "strict", "PrivateUsers": "yes"}
    wanted["MemoryDenyWriteExecute"] = "yes"
    assert scene.machine.show(f"submitward-{unit}.service", *wanted) == wanted
    assert scene.machine.run("systemctl", "--failed", "--quiet", "--plain", check=False).stdout.strip() == ""


def test_mail_is_taken_and_arrives(scene: Scene) -> None:
    with Traffic(scene) as traffic:
        scene.machine.run("systemctl", "restart", "submitward-policy.service", "submitward-auth.service")
    assert traffic.wrong == []
    assert traffic.arrived() == traffic.taken > 0


def test_removing_leaves_everything_as_it_was(scene: Scene) -> None:
    played = scene.play("remove")
    assert played.status == 0, played.output
    assert scene.postfix_files() == scene.found
