"""A message is charged exactly once and an abandoned one not at all, whatever is lost on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.policyd.house import Process
from tests.redis.books import Books
from tests.redis.hosts import Host, end, request
from tests.redis.proxy import Proxy
from tests.redis.server import running

LATER = 3660.0  # seconds, after which what was never settled has lapsed
DAY = "1000 recipients per day"


class Stage:
    """A host whose Redis is behind a proxy, and what stands in that Redis."""

    def __init__(self) -> None:
        server = running()
        prefix = server.prefix()
        self.proxy = Proxy(server)
        self.books = Books(prefix, server)
        self.host = Host(server, prefix, "mx1.example.org", url=self.proxy.url, plan=DAY)

    def close(self) -> None:
        self.host.remove()
        self.proxy.close()
        self.books.close()

    def ask(self, client, asked, tries: int = 40) -> int:
        """Ask as Postfix and its client do, again when it is deferred; how often it was."""
        for deferred in range(tries):
            answer = client.ask(**asked)
            if answer == "DUNNO":
                return deferred
            assert answer.startswith("DEFER_IF_PERMIT 4.3.0"), answer
            time.sleep(0.1)
        raise AssertionError("deferred for ever")

    def used(self, later: float = 0.0) -> int:
        return self.books.used("login:alice", DAY, later=later)

    def settle_down(self, expected: int, later: float = 0.0) -> None:
        """Wait until `expected` is used."""
        until = time.monotonic() + 10
        while self.used(later) != expected:
            assert time.monotonic() < until, self.used(later)
            time.sleep(0.1)


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


@pytest.mark.parametrize("how", ["hang", "close", "twice"])
@pytest.mark.parametrize("verb", ["reserve", "settle"])
def test_an_answer_that_is_lost_or_comes_twice_charges_a_message_once(
    stage: Stage, verb: str, how: str
) -> None:
    client = stage.host.start().client()
    asked = request("alice", 1, 3)
    if verb == "reserve":
        stage.proxy.arm(verb, how)
    stage.ask(client, asked)
    if verb == "settle":
        stage.proxy.arm(verb, how)
    assert client.ask(**end(asked)) == "DUNNO"
    assert stage.proxy.swallowed == 1
    stage.settle_down(3)
    stage.settle_down(3, LATER)  # it was settled: nothing lapses
    assert "Traceback" not in stage.host.log


@pytest.mark.parametrize("how", ["hang", "close"])
@pytest.mark.parametrize("verb", ["reserve", "release"])
def test_an_answer_that_is_lost_charges_an_abandoned_message_nothing(
    stage: Stage, verb: str, how: str
) -> None:
    client = stage.host.start().client()
    if verb == "reserve":
        stage.proxy.arm(verb, how)
    stage.ask(client, request("alice", 1, 3), tries=1 if how == "close" else 40)
    if verb == "release":
        stage.proxy.arm(verb, how)
    stage.ask(client, request("alice", 2, 1))  # another instance: the first transaction is over
    assert client.ask(**end(request("alice", 2, 1))) == "DUNNO"
    assert stage.proxy.swallowed == 1
    stage.settle_down(1)


class Dying(Process):
    """policyd that dies at one point, and one that does not in its place."""

    def __init__(self, host: Host, verb: str, when: str) -> None:
        import os
        import subprocess
        import sys

        from tests.policyd.house import ROOT

        self.policy, self.log = host.home / "policy", host.home / "log"
        command = [sys.executable, "-m", "tests.redis.killer", "policyd", verb, when]
        command += ["--settings", str(host.settings)]
        with open(self.log, "wb") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            self.child = subprocess.Popen(command, stderr=log, cwd=ROOT, env=environment)
        self.wait_for("store=redis state=ok")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["reserve", "settle", "release"])
@pytest.mark.parametrize("fate", ["sent", "abandoned"])
def test_killed_around_a_verb_it_is_charged_once_or_not_at_all(
    stage: Stage, verb: str, when: str, fate: str
) -> None:
    if (verb, fate) in {("settle", "abandoned"), ("release", "sent")}:
        fate = "sent" if verb == "settle" else "abandoned"
    dying = Dying(stage.host, verb, when)
    stage.host.policyd = dying
    asked = request("alice", 1, 3)
    steps = [asked, end(asked) if fate == "sent" else request("alice", 2, 1)]
    client = stage.host.client()
    for step in steps:
        answer = client.ask(**step)
        if answer is None:  # it is dead; Postfix connects again and asks the same
            dying.child.wait()
            stage.host.start()
            client = stage.host.client()
            if fate == "abandoned" and step is asked:
                continue  # the client has given up meanwhile
            answer = client.ask(**step)
        assert answer == "DUNNO"
    if dying.child.poll() is None:
        dying.child.wait(10)  # releasing happens after the answer
        stage.host.start()
    assert dying.child.returncode == -9
    if fate == "sent":
        stage.settle_down(3)
        stage.settle_down(3, LATER)
    else:
        stage.settle_down(0, LATER)
