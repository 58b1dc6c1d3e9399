"""A message that is tried again because the milter was killed in the middle of it is charged once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from threading import Thread

from tests.lab import Lab
from tests.lab.client import FRIEND, Client, Reply, compose, token
from tests.lab.evidence import delivered, used
from tests.lab.processes import wait_for
from tests.lab.story import BOB

NOTHING = {"messages": 0, "recipients": 0}
ONE = {"messages": 1, "recipients": 1}


def send(lab: Lab, word: str, before: dict[str, Callable[[], object]] | None = None) -> Reply:
    """One message from bob, in a session of its own."""
    with Client(lab.submission, lab.places.tls / "ca.crt").open() as session:
        assert session.auth("bob", lab.logins["bob"]).code == 235
        return session.send(BOB, [FRIEND], compose(BOB, word), before)


def kill_when(pid: int, ready: Callable[[], bool]) -> Thread:
    """Kill `pid` as soon as `ready` holds, while this thread waits for a reply."""

    def kill() -> None:
        wait_for("the moment", ready)
        os.kill(pid, signal.SIGKILL)

    thread = Thread(target=kill)
    thread.start()
    return thread


def settlements(lab: Lab) -> int:
    return lab.log("supervisor").count("state=END-OF-MESSAGE")


def spent(lab: Lab, before) -> dict[str, int]:
    return {unit: (used(lab, "bob") - before)[unit] for unit in NOTHING}


def wait_spent(lab: Lab, before, expected: dict[str, int]) -> None:
    """What was given back is seen by the next who asks; the milter needs a moment to start."""
    wait_for(f"bob has spent {expected}", lambda: spent(lab, before) == expected, seconds=10)


def test_a_message_whose_milter_is_killed_before_its_answer_is_charged_once(lab: Lab) -> None:
    before, word, old, settled = used(lab, "bob"), token(), lab.pid("milter"), settlements(lab)

    def stop() -> None:
        lab.kill("milter", signal.SIGSTOP)
        kill_when(old, lambda: settlements(lab) > settled)

    reply = send(lab, word, {"DATA": stop})
    assert (reply.code, reply.stage) == (451, "end of message"), reply
    assert lab.wait_pid("milter", old)
    wait_spent(lab, before, NOTHING)
    assert send(lab, word).code == 250
    assert len(delivered(lab, word)) == 1
    assert spent(lab, before) == ONE


def test_a_message_whose_milter_is_killed_while_its_body_is_sent_is_charged_once(lab: Lab) -> None:
    before, word, old = used(lab, "bob"), token(), lab.pid("milter")

    def kill() -> None:
        assert spent(lab, before) == ONE
        lab.kill("milter")
        assert lab.wait_pid("milter", old)
        wait_spent(lab, before, NOTHING)

    assert send(lab, word, {".": kill}).code == 451
    assert spent(lab, before) == NOTHING
    assert send(lab, word).code == 250
    assert len(delivered(lab, word)) == 1
    assert spent(lab, before) == ONE


def test_what_was_delivered_stays_charged_when_the_milter_is_killed_after_it(lab: Lab) -> None:
    before, word, old = used(lab, "bob"), token(), lab.pid("milter")
    assert send(lab, word).code == 250
    lab.kill("milter")
    assert lab.wait_pid("milter", old)
    time.sleep(1)
    assert send(lab, token()).code == 250
    assert spent(lab, before) == {"messages": 2, "recipients": 2}
