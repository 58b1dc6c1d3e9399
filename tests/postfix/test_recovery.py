"""Sidecars that die at any moment: the port stays open, no 5xx, every message arrives once."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from tests.lab import Lab
from tests.lab.cast import Cast
from tests.lab.client import FRIEND, Client, compose, token
from tests.lab.evidence import delivered, used
from tests.lab.probes import logs_in
from tests.lab.processes import wait_for
from tests.lab.recovery import Run
from tests.lab.running import SIDECARS
from tests.lab.story import BOB, block, unblock

MOMENTS = ("AUTH", "MAIL", "RCPT", "DATA", ".")


@pytest.fixture(autouse=True)
def fresh(lab: Lab) -> None:
    """The supervisor waits longer after each death; a new one starts with a second again."""
    lab.stop_sidecars()
    lab.start_sidecars()


def run_of(lab: Lab) -> Run:
    return Run(lab, Client(lab.submission, lab.places.tls / "ca.crt"))


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", SIDECARS)
def test_a_sidecar_killed_at_any_moment_loses_nothing(lab: Lab, name: str, moment: str) -> None:
    run = run_of(lab)
    before, old = used(lab, "bob"), lab.pid(name)
    run.deliver({moment: lambda: lab.kill(name)})
    assert lab.wait_pid(name, old)
    run.deliver()
    assert run.wrong == []
    assert [len(delivered(lab, word, 2)) for word in run.words] == [2, 2]
    messages = (used(lab, "bob") - before)["messages"]
    assert messages == 2


@pytest.mark.parametrize("name", SIDECARS)
def test_a_sidecar_told_to_stop_is_hardly_noticed(lab: Lab, name: str) -> None:
    run = run_of(lab)
    before, old = used(lab, "bob"), lab.pid(name)
    run.deliver({"AUTH": lambda: lab.kill(name, signal.SIGTERM)})
    assert lab.wait_pid(name, old)
    assert run.wrong == []
    assert [len(delivered(lab, word, 2)) for word in run.words] == [2]
    assert (used(lab, "bob") - before)["messages"] == 1


def test_all_three_die_again_and_again_under_parallel_senders(lab: Lab) -> None:
    runs = [run_of(lab) for _ in range(4)]
    stop = threading.Event()

    def send(run: Run) -> None:
        while not stop.is_set():
            run.deliver()

    senders = [threading.Thread(target=send, args=(run,)) for run in runs]
    for sender in senders:
        sender.start()
    for _ in range(2):
        time.sleep(0.7)
        old = {name: lab.pid(name) for name in SIDECARS}
        for name in SIDECARS:
            lab.kill(name)
        assert all(lab.wait_pid(name, pid, seconds=60) for name, pid in old.items())
    stop.set()
    for sender in senders:
        sender.join(90)
    assert [problem for run in runs for problem in run.wrong] == []
    words = [word for run in runs for word in run.words]
    assert len(words) >= 4
    assert {len(delivered(lab, word, 2)) for word in words} == {2}
    assert "throttling" not in lab.log("postfix")
    assert "fatal:" not in lab.log("postfix")


def test_a_login_is_let_in_soon_after_saslauthd_has_died_under_it_again_and_again(lab: Lab) -> None:
    """Each death leaves a ticket of the guard behind, as if a wrong password were on its way."""
    auth, password = lab.places.socket("auth"), lab.logins["bob"]
    for _ in range(3):
        old = lab.pid("saslauthd")
        assert logs_in(auth, "bob", password)
        lab.kill("saslauthd")
        assert lab.wait_pid("saslauthd", old)
        wait_for("bob is let in", lambda: logs_in(auth, "bob", password), seconds=20)


def test_a_reload_keeps_the_old_settings_when_the_new_ones_are_wrong(lab: Lab, cast: Cast) -> None:
    good = lab.places.settings.read_text()
    pids = {name: lab.pid(name) for name in SIDECARS}
    try:
        lab.places.settings.write_text(good + "nonsense: true\n")
        for name in SIDECARS:
            lab.kill(name, signal.SIGHUP)
        time.sleep(1)
        with cast.login("bob") as session:
            assert session.send(BOB, [FRIEND], compose(BOB, token())).code == 250
    finally:
        lab.places.settings.write_text(good)
    for name in SIDECARS:
        lab.kill(name, signal.SIGHUP)
    time.sleep(1)
    assert {name: lab.pid(name) for name in SIDECARS} == pids


def test_a_block_outlives_the_sidecars(lab: Lab, cast: Cast) -> None:
    block(lab, "bob")
    try:
        old = lab.pid("policyd")
        lab.kill("policyd")
        assert lab.wait_pid("policyd", old)
        with cast.login("bob") as session:
            reply = session.send(BOB, [FRIEND], compose(BOB, token()))
            while reply.code in (450, 451):
                time.sleep(0.3)
                reply = session.send(BOB, [FRIEND], compose(BOB, token()))
        assert reply.code == 554
    finally:
        unblock(lab, "bob")


def test_a_directory_that_breaks_keeps_the_last_good_one(lab: Lab, cast: Cast) -> None:
    path = lab.places.submitward / "directory.yaml"
    good = path.read_text()
    try:
        path.write_text("logins: {alice: {mailboxs: [x]}}\n")
        time.sleep(2)
        with cast.login("bob") as session:
            assert session.send(BOB, [FRIEND], compose(BOB, token())).code == 250
    finally:
        path.write_text(good)
        time.sleep(2)
