"""One slapd for all tests of this folder that change nothing in it; others make their own."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.ldap.certificates import Authority
from tests.ldap.relay import Relay
from tests.ldap.slapd import Slapd
from tests.postfix.conftest import free_port_base


@pytest.fixture(scope="session")
def place():
    """A directory whose path is short enough for UNIX sockets."""
    path = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def authority(place):
    """The test CA."""
    (place / "tls").mkdir()
    return Authority(place / "tls")


@pytest.fixture(scope="session")
def slapd(place, authority):
    """A slapd with everybody in it, running."""
    server = Slapd(place / "slapd", authority).make().start()
    server.add_groups()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def ldap_lab(tmp_path_factory):
    """The lab of the demo with its people in a slapd."""
    announce = tmp_path_factory.mktemp("announced") / ".lab"
    with Lab(port_base=free_port_base(40000), announce=announce, directory="ldap") as running:
        yield running


@pytest.fixture(scope="session")
def relay(ldap_lab):
    """That lab with more people, and ways to trouble its directory."""
    made = Relay(ldap_lab)
    yield made
    made.proxy.stop()


@pytest.fixture
def own_slapd(slapd, place, authority, tmp_path_factory):
    """A slapd that the test may stop, freeze and change: a copy of the shared one."""
    home = Path(tempfile.mkdtemp(prefix="own", dir=place))
    home.rmdir()
    home.mkdir()
    shutil.copytree(slapd.home / "db", home / "db")
    server = Slapd(home, authority)
    server.configure("good")
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["own", "ldap3"])
def checker(request):
    """Makes the checker of passwords: the one that is used, and ldap3's, which must say the same."""
    from twisted.internet import reactor

    from directory.ldap_directory import ThreadChecker, own_checker

    def make(settings, log):
        kind = ThreadChecker if request.param == "ldap3" else own_checker
        return kind(settings, reactor=reactor, log=log)

    return make
