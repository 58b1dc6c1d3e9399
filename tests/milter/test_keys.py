"""The tables on disk: read again when changed, and never replaced by what was known before."""

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError

from milter.keys import LOOK_EVERY, REPEAT, SETTLE, VERSIONS, Keys
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


def test_a_line_counts_on_connections_that_began_when_it_had_been_there_for_a_while(scene: Scene) -> None:
    """OpenDKIM reads its tables at a reload, and keeps the older ones on connections that it has then."""

    def is_settled(began: float) -> bool:
        scene.keys.look()
        tables = scene.keys.tables
        assert not isinstance(tables, KeysUnknown)
        return replace(tables, before=scene.keys.before(began)).is_settled("alice@example.net")

    scene.ask()
    scene.later(1000)
    scene.key_table.write_text("k example.org:s:/k\nn example.net:s:/k\n")
    scene.signing_table.write_text("*@example.org k\n*@example.net n\n")
    assert not is_settled(999)
    scene.later(10)
    assert not is_settled(scene.now)
    scene.later(SETTLE)
    assert is_settled(scene.now)
    assert not is_settled(999)
    began = scene.now
    scene.signing_table.write_text("")  # away for a moment, as when a file is written anew
    scene.later(2)
    scene.ask()
    scene.signing_table.write_text("*@example.org k\n*@example.net n\n")
    scene.later(2)
    assert is_settled(scene.now)
    assert is_settled(began)


def test_a_line_that_was_there_all_along_counts_however_often_the_files_are_written(scene: Scene) -> None:
    scene.ask()
    scene.later(1000)
    for number in range(3 * VERSIONS):
        scene.signing_table.write_text(f"*@example.org k\n# {number}\n")
        scene.later(2)
        scene.ask()
    tables = scene.keys.tables
    assert not isinstance(tables, KeysUnknown)
    assert len(scene.keys.before(scene.now)) <= VERSIONS
    assert replace(tables, before=scene.keys.before(scene.now)).is_settled("alice@example.org")


def test_tables_that_were_there_when_we_started_count_at_once(scene: Scene) -> None:
    scene.ask()
    assert scene.keys.before(scene.now) == (scene.keys.tables,)
