"""The tables on disk: read again when changed, and never replaced by what was known before."""

import io
import os
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError

from milter.keys import LOOK_EVERY, REPEAT, Keys
from milter.questions import KeysUnknown
from sidecar.log import Log


class Scene:
    def __init__(self, folder: Path) -> None:
        self.key_table, self.signing_table = folder / "KeyTable", folder / "SigningTable"
        self.key_table.write_text("k example.org:s:/k\n")
        self.signing_table.write_text("*@example.org k\n")
        self.now = 0.0
        self.out = io.StringIO()
        log = Log(self.out, program="milter")
        self.keys = Keys(self.key_table, self.signing_table, clock=lambda: self.now, log=log)

    def ask(self) -> str | None:
        self.keys.look()
        tables = self.keys.tables
        if isinstance(tables, KeysUnknown):
            raise tables
        return tables.signing_domain("alice@example.org")

    def later(self, seconds: float = LOOK_EVERY) -> None:
        self.now += seconds


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_the_tables_are_read_when_asked_for(scene: Scene) -> None:
    assert scene.ask() == "example.org"
    assert scene.keys.trouble == ""


def test_a_change_is_seen_within_a_second(scene: Scene) -> None:
    scene.ask()
    scene.signing_table.write_text("")
    assert scene.ask() == "example.org"
    scene.later()
    assert scene.ask() is None


def test_a_file_that_was_replaced_by_one_of_the_same_size_and_time_is_seen(scene: Scene) -> None:
    scene.ask()
    status = scene.key_table.stat()
    other = scene.key_table.with_name("new")
    other.write_text("k example.com:s:/k\n")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(scene.key_table)
    scene.later()
    assert scene.ask() == "example.com"


@pytest.mark.parametrize("spoil", ["broken", "absent", "not utf-8", "a directory"])
def test_tables_that_cannot_be_read_are_not_known_and_heal(scene: Scene, spoil: str) -> None:
    assert scene.ask() == "example.org"
    scene.key_table.unlink()
    if spoil == "broken":
        scene.key_table.write_text("k example.org\n")
    elif spoil == "not utf-8":
        scene.key_table.write_bytes(b"\xff\n")
    elif spoil == "a directory":
        scene.key_table.mkdir()
    scene.later()
    for _ in range(3):
        with pytest.raises(KeysUnknown):
            scene.ask()
        scene.later()
    assert scene.keys.trouble
    assert scene.out.getvalue().count("<3>") == 1
    scene.later(REPEAT)
    with pytest.raises(KeysUnknown):
        scene.ask()
    assert scene.out.getvalue().count("<3>") == 2
    if spoil == "a directory":
        scene.key_table.rmdir()
    scene.key_table.write_text("k example.org:s:/k\n")
    scene.later()
    assert scene.ask() == "example.org"
    assert scene.keys.trouble == ""


@pytest_twisted.ensureDeferred
async def test_a_look_in_a_thread_is_shared_by_all_who_wait(scene: Scene) -> None:
    first, second = scene.keys.refresh(reactor), scene.keys.refresh(reactor)
    assert first is not None and second is not None
    first.addErrback(lambda failure: failure.trap(CancelledError))
    first.cancel()  # the deadline of one message is not that of the other
    await second
    assert scene.keys.refresh(reactor) is None
    assert scene.out.getvalue().count("event=tables") == 1
    assert scene.keys.tables.signing_domain("a@example.org") == "example.org"


@pytest_twisted.ensureDeferred
async def test_tables_that_cannot_be_read_are_trouble_in_a_thread_too(scene: Scene) -> None:
    scene.key_table.unlink()
    await scene.keys.refresh(reactor)
    assert isinstance(scene.keys.tables, KeysUnknown)
    scene.later()
    scene.key_table.write_text("k example.org:s:/k\n")
    await scene.keys.refresh(reactor)
    assert not scene.keys.trouble
