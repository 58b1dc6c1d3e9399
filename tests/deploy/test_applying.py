"""The graft on a Postfix that runs: clients come all the time, and something goes wrong in the middle."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from submitward.graft import host, running
from submitward.graft.applying import carry_out, with_what_goes
from submitward.graft.files import MAIN, MASTER
from submitward.graft.plan import plan, remove
from submitward.graft.wish import Wish
from tests.deploy.mail_host import MailHost, auth_server, mail_host

NAME = "chrooted_submission"


@pytest.fixture(scope="module")
def relay() -> Iterator[MailHost]:
    """One Postfix for all tests; each leaves it as it was."""
    with mail_host(NAME) as started, auth_server(started):
        yield started


@pytest.fixture
def backups(relay: MailHost, tmp_path: Path) -> Iterator[Path]:
    before = texts(relay)
    yield tmp_path / "backups"
    assert texts(relay) == before
    assert running.master(relay.postfix)


def texts(relay: MailHost) -> dict[str, bytes]:
    return {name: (relay.postfix / name).read_bytes() for name in (MAIN, MASTER)}


def asked(relay: MailHost) -> Wish:
    return Wish(services=(f"127.0.0.1:{relay.base + 587}/inet",))


def set_in(relay: MailHost, backups: Path, wish: Wish) -> None:
    carry_out(host.try_out(relay.postfix, functools.partial(plan, wish=wish)), backups)


def take_out(relay: MailHost, backups: Path) -> None:
    carry_out(host.try_out(relay.postfix, remove), backups)


@contextlib.contextmanager
def crowd(port: int, troubles: list[str]) -> Iterator[None]:
    """Clients that come one after the other; whatever is no greeting is a trouble."""
    over = threading.Event()
    greeted = [0] * 4

    def come(number: int) -> None:
        while not over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                    said = client.recv(512)
                    client.sendall(b"QUIT\r\n")
                    client.recv(512)
            except OSError as error:
                troubles.append(repr(error))
                return
            if not said.startswith(b"220 "):
                troubles.append(repr(said))
                return
            greeted[number] += 1

    threads = [threading.Thread(target=come, args=(number,)) for number in range(len(greeted))]
    for thread in threads:
        thread.start()
    try:
        until_all_have(greeted, 1, threads)
        yield
        until_all_have(greeted, max(greeted) + 1, threads)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def until_all_have(greeted: list[int], least: int, threads: list[threading.Thread]) -> None:
    deadline = time.monotonic() + 60
    while min(greeted) < least and all(thread.is_alive() for thread in threads):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("less", ["removed", "without authentication"])
def test_clients_that_come_meanwhile_meet_no_smtpd_that_ends(
    relay: MailHost, backups: Path, less: str
) -> None:
    set_in(relay, backups, asked(relay))
    known = len(relay.log())
    troubles: list[str] = []
    with crowd(relay.base + 587, troubles):
        if less == "removed":
            take_out(relay, backups)
        else:
            set_in(relay, backups, dataclasses.replace(asked(relay), authentication=False))
    take_out(relay, backups)
    assert troubles == []
    assert [
        line for line in relay.log()[known:].splitlines() if "fatal" in line or "throttling" in line
    ] == []


def test_what_an_option_may_still_name_stays_until_the_end_and_goes_without_a_trace() -> None:
    for end in ("\n", ""):
        main = f"smtpd_tls_security_level = may{end}"
        master = "submission inet n - y - - smtpd"
        old = plan(main, master, Wish(hosts=True))
        for new in (remove(old.main, old.master), plan(main, master, Wish(authentication=False))):
            between = with_what_goes(new.main, old.main)
            assert "\nsubmitward_sasl_path = submitward/auth\n" in between
            assert plan(between, new.master, Wish()).main == plan(main, master, Wish()).main
            assert remove(between, new.master).main == main
            assert with_what_goes(new.main, new.main) == new.main
