"""One thing that serves in the place of another."""

import io

import pytest
from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from sidecar.exchange import LOOK, PATIENCE, Exchange
from sidecar.log import Log


class Thing:
    """Writes down what happens to it."""

    def __init__(self, name, state="unavailable"):
        self.name = name
        self.answer = state
        self.life = []

    def start(self):
        self.life.append("start")

    def state(self):
        return self.answer

    def stop(self):
        self.life.append("stop")
        return succeed(None)


class Place:
    """An exchange whose things are named after their settings; "good…" ones serve at once."""

    def __init__(self, serving="ok"):
        self.clock = Clock()
        self.out = io.StringIO()
        self.opened = []
        self.taken = []
        self.first = Thing("first", serving)
        self.exchange = Exchange(
            "store",
            "first",
            self.first,
            open=self.open,
            take=self.taken.append,
            reactor=self.clock,
            log=Log(self.out, program="test"),
        )

    def open(self, settings, *, reactor, log):
        self.opened.append(Thing(settings, "ok" if settings.startswith("good") else "unavailable"))
        return self.opened[-1]

    def wait(self, seconds):
        self.clock.pump([LOOK] * (round(seconds / LOOK) + 1))


def test_the_same_settings_open_nothing():
    place = Place()
    place.exchange.want("first")
    assert place.opened == []


def test_what_serves_at_once_takes_over_at_once():
    place = Place()
    place.exchange.want("good")
    assert [thing.name for thing in place.taken] == ["good"]
    assert place.opened[0].life == ["start"]
    assert place.first.life == ["stop"]
    assert not place.clock.getDelayedCalls()
    place.exchange.want("good")
    assert len(place.opened) == 1


@pytest.mark.parametrize("state", ["ok", "stale"])
def test_the_old_one_serves_until_the_new_one_can(state):
    place = Place()
    place.exchange.want("slow")
    place.wait(5)
    assert place.taken == place.first.life == []
    place.opened[0].answer = state
    place.wait(LOOK)
    assert place.taken == place.opened
    assert place.first.life == ["stop"]


def test_what_never_serves_is_given_up_and_may_be_wanted_again():
    place = Place()
    place.exchange.want("bad")
    place.wait(PATIENCE)
    assert place.opened[0].life == ["start", "stop"]
    assert place.taken == place.first.life == []
    assert "the new store is unavailable; the old one goes on serving" in place.out.getvalue()
    assert not place.clock.getDelayedCalls()
    place.exchange.want("bad")
    place.opened[1].answer = "ok"
    place.wait(LOOK)
    assert place.taken == [place.opened[1]]


def test_whoever_serves_by_other_settings_than_are_wanted_says_so():
    """The next start will have none but the one that is wanted."""
    place = Place()
    states = [place.exchange.state()]
    place.exchange.want("bad")
    states.append(place.exchange.state())
    place.wait(PATIENCE)
    states.append(place.exchange.state())
    place.first.answer = "stale"  # what is worse comes first
    states.append(place.exchange.state())
    place.first.answer = "ok"
    place.exchange.want("first")
    states.append(place.exchange.state())
    place.exchange.want("good")
    states.append(place.exchange.state())
    assert states == ["ok", "behind", "behind", "stale", "ok", "ok"]


def test_when_neither_serves_the_new_one_is_followed():
    place = Place(serving="unavailable")
    place.exchange.want("bad")
    place.wait(PATIENCE)
    assert place.taken == place.opened
    assert place.first.life == ["stop"]


def test_wanting_the_same_again_meanwhile_changes_nothing():
    place = Place()
    place.exchange.want("slow")
    place.exchange.want("slow")
    assert len(place.opened) == 1


@pytest.mark.parametrize("back", ["first", "good"])
def test_what_is_not_wanted_any_more_never_takes_over(back):
    place = Place()
    place.exchange.want("slow")
    place.exchange.want(back)
    slow = place.opened[0]
    slow.answer = "ok"
    place.wait(PATIENCE)
    assert slow.life == ["start", "stop"]
    assert [thing.name for thing in place.taken] == ([] if back == "first" else ["good"])


def test_stopping_lets_the_new_one_go_and_leaves_the_old_one_alone():
    place = Place()
    place.exchange.want("slow")
    place.exchange.stop()
    place.wait(PATIENCE)
    assert place.opened[0].life == ["start", "stop"]
    assert place.first.life == []
    assert not place.clock.getDelayedCalls()


def test_one_that_cannot_be_stopped_does_not_keep_the_new_one_out(monkeypatch):
    from twisted.logger import globalLogPublisher

    seen = []
    globalLogPublisher.addObserver(seen.append)
    place = Place()
    monkeypatch.setattr(place.first, "stop", lambda: 1 / 0)
    try:
        place.exchange.want("good")
    finally:
        globalLogPublisher.removeObserver(seen.append)
    assert place.taken == place.opened
    assert [event["log_failure"].type for event in seen if "log_failure" in event] == [ZeroDivisionError]
