"""What processes are told to forget is forgotten, also where the ledger is away just then."""

from types import SimpleNamespace

import pytest
from twisted.internet.defer import fail, succeed
from twisted.internet.task import Clock

from ledger.charges import Unavailable
from ledger.flushes import AGAIN, Flushes


class Ledger:
    """Marks that are read at once, unless it is away."""

    def __init__(self):
        self.names, self.is_away, self.reads = (), False, 0

    def watch(self, changed):
        self.changed = lambda: changed(1, ())

    def guard_names(self, key):
        self.reads += 1
        return fail(Unavailable("away")) if self.is_away else succeed(self.names)


@pytest.fixture
def scene():
    told = SimpleNamespace(clock=Clock(), forgotten=[])
    quiet = SimpleNamespace(warning=lambda *_, **__: None, notice=lambda *_, **__: None)
    told.flushes = Flushes(told.forgotten.append, quiet, told.clock)
    return told


def test_each_flush_is_carried_out_once(scene):
    ledger = Ledger()
    scene.flushes.follow(ledger)
    ledger.names = ("bob 1", "alice 2")
    for _ in range(2):
        ledger.changed()
    assert scene.forgotten == ["alice", "bob"]


def test_a_flush_that_cannot_be_read_is_read_again_until_it_can(scene):
    ledger = Ledger()
    scene.flushes.follow(ledger)
    ledger.is_away, ledger.names = True, ("alice 1",)
    for _ in range(3):
        ledger.changed()
    for _ in range(5):
        scene.clock.advance(AGAIN)
    assert (scene.forgotten, ledger.reads, len(scene.clock.getDelayedCalls())) == ([], 8, 1)
    ledger.is_away = False
    scene.clock.advance(AGAIN)
    assert scene.forgotten == ["alice"]
    assert scene.clock.getDelayedCalls() == []


@pytest.mark.parametrize("ending", ["stop", "another"])
def test_a_ledger_that_is_followed_no_more_is_read_no_more(scene, ending):
    ledger = Ledger()
    scene.flushes.follow(ledger)
    ledger.is_away = True
    ledger.changed()
    if ending == "stop":
        scene.flushes.stop()
    else:
        scene.flushes.follow(Ledger())
    ledger.changed()
    scene.clock.advance(AGAIN)
    assert ledger.reads == 1
