"""The site's own package source comes and goes with the inventory."""

from __future__ import annotations

from pathlib import Path

from tests.deploy.tasks import play, role


def test_the_source_of_packages_goes_when_the_inventory_has_none(tmp_path: Path) -> None:
    listed = tmp_path / "submitward.list"
    told = {"submitward_apt_list": str(listed), "ansible_facts": {"os_family": "none of those with apt"}}
    source = "deb [trusted=yes] file:/nowhere ./"
    done = play(tmp_path, [
        role("packages", submitward_apt_source=source, **told),
        {"name": "there", "ansible.builtin.debug": {"msg": "{{ lookup('ansible.builtin.file', there) }}"},
         "vars": {"there": str(listed)}},
        role("packages", **told),
    ])  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f'"msg": "{source}"' in done.stdout
    assert not listed.exists()
