"""The collection as `ansible-galaxy collection build` makes it: what the tree has by links is in it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.deploy.variables import ANSIBLE

ROOT = ANSIBLE.parent
GRAFT = ROOT / "submitward/graft"
#: Imports a module of the collection by its name, as Ansible does, and says where its helpers came from.
IMPORT = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.submitward.relay.plugins.modules import graft, probe, signer
print(sys.modules[graft.plan.__module__].__file__)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, unpacked where Ansible would look for it."""
    here = tmp_path_factory.mktemp("built")
    galaxy = Path(sys.executable).parent / "ansible-galaxy"
    done = subprocess.run(
        [str(galaxy), "collection", "build", str(ANSIBLE), "--output-path", str(here)],
        capture_output=True, text=True, check=False, env={**os.environ, "HOME": str(here)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Skipping" not in done.stdout + done.stderr
    (archive,) = here.glob("submitward-relay-*.tar.gz")
    with tarfile.open(archive) as packed:
        assert [member.name for member in packed if member.issym() or member.islnk()] == []
        packed.extractall(here / "ansible_collections/submitward/relay", filter="data")
    return here


def test_the_graft_is_in_it_and_its_module_finds_it(built: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, str(built)], capture_output=True, text=True, check=False, cwd=built
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(built / "ansible_collections"))


def test_what_the_role_has_by_a_link_is_in_it(built: Path) -> None:
    packed = built / "ansible_collections/submitward/relay"
    ours = [path for path in (ANSIBLE / "roles").rglob("*") if path.is_file()]
    for path in [*ours, *(ANSIBLE / "plugins").rglob("*.py")]:
        assert (packed / path.relative_to(ANSIBLE)).read_bytes() == path.read_bytes()


def test_each_file_of_the_graft_has_its_link() -> None:
    """A new one: ``ln -s ../../../../submitward/graft/NAME.py ansible/plugins/module_utils/graft/``."""
    links = {path.name: path for path in (ANSIBLE / "plugins/module_utils/graft").glob("*.py")}
    assert links.keys() == {path.name for path in GRAFT.glob("*.py")}
    assert all(link.is_symlink() and link.resolve().parent == GRAFT for link in links.values())


def test_a_copy_that_follows_links_comes_to_an_end() -> None:
    """As Vagrant's rsync does: no directory of the tree is met again below itself."""
    for here, directories, _ in os.walk(ANSIBLE, followlinks=True):
        for name in directories:
            below = Path(here, name)
            assert below.resolve() not in [above.resolve() for above in below.parents], below
