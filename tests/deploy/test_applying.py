"""The graft on a Postfix that runs: clients come all the time, and something goes wrong in the middle."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from submitward.graft import applying, host, running, serving
from submitward.graft.applying import carry_out, owed, unfinished, with_what_goes
from submitward.graft.files import MAIN, MASTER, Refused
from submitward.graft.plan import plan, remove
from submitward.graft.wish import Wish
from submitward.replacing import replace_files
from tests.deploy.mail_host import MailHost, mail_host, replace_cold
from tests.deploy.stand_ins import auth_server
from tests.lab.processes import wait_for

NAME = "chrooted_submission"


@pytest.fixture(scope="module")
def relay() -> Iterator[MailHost]:
    """One Postfix for all tests; each leaves it as it was."""
    with mail_host(NAME) as started, auth_server(started.sockets):
        yield started


@pytest.fixture
def backups(relay: MailHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = texts(relay)
    monkeypatch.setattr(applying, "replace_files", replace_cold)
    yield tmp_path / "backups"
    assert texts(relay) == before
    assert running.master(relay.postfix)


def texts(relay: MailHost) -> dict[str, bytes]:
    return {name: (relay.postfix / name).read_bytes() for name in (MAIN, MASTER)}


def asked(relay: MailHost) -> Wish:
    return Wish(services=(f"127.0.0.1:{relay.base + 587}/inet",))


def planned(relay: MailHost, wish: Wish) -> host.Outcome:
    return host.try_out(relay.postfix, functools.partial(plan, wish=wish), relay.sockets)


def set_in(relay: MailHost, backups: Path, wish: Wish) -> None:
    carry_out(planned(relay, wish), backups)


def take_out(relay: MailHost, backups: Path) -> None:
    carry_out(host.try_out(relay.postfix, remove), backups)


@contextlib.contextmanager
def crowd(port: int, troubles: list[str]) -> Iterator[None]:
    """Clients that come one after the other; whatever is no greeting is a trouble."""
    over = threading.Event()
    greeted = [0] * 2

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
            over.wait(0.01)

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


def test_clients_that_come_during_a_removal_meet_no_smtpd_that_ends(
    relay: MailHost, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_in(relay, backups, asked(relay))
    monkeypatch.setattr(applying, "replace_files", replace_files)
    known = len(relay.log())
    troubles: list[str] = []
    with crowd(relay.base + 587, troubles):
        take_out(relay, backups)
    assert troubles == []
    assert [
        line for line in relay.log()[known:].splitlines() if "fatal" in line or "throttling" in line
    ] == []


def test_a_removal_waits_for_the_client_that_is_here(
    relay: MailHost, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stopped behind it, such as policyd, may yet be asked for that one."""
    monkeypatch.setattr(running, "LEAVING", 60.0)
    set_in(relay, backups, asked(relay))
    with socket.create_connection(("127.0.0.1", relay.base + 587), timeout=60) as client:
        assert client.recv(512).startswith(b"220 ")
        removal = threading.Thread(target=take_out, args=(relay, backups))
        removal.start()
        mark = unfinished(relay.postfix, backups)
        wait_for("all is done but that", lambda: taken_out(relay) and not mark.exists(), seconds=60)
        assert removal.is_alive()
        client.sendall(b"QUIT\r\n")
        assert client.recv(512).startswith(b"221 ")
    removal.join(60)
    assert not removal.is_alive()


def taken_out(relay: MailHost) -> bool:
    return b"submitward" not in texts(relay)[MAIN]


@contextlib.contextmanager
def listener(relay: MailHost, port: int) -> Iterator[None]:
    """Somebody else's service."""
    with socket.create_server(("127.0.0.1", relay.base + port)):
        yield


def own(relay: MailHost) -> Wish:
    return Wish(own=(f"127.0.0.1:{relay.base + 1587}",))


def greets(relay: MailHost, port: int) -> bool:
    with socket.create_connection(("127.0.0.1", relay.base + port), timeout=60) as client:
        return client.recv(512).startswith(b"220 ")


def test_a_port_that_somebody_else_holds_is_refused_with_its_holder(relay: MailHost, backups: Path) -> None:
    with listener(relay, 1587), pytest.raises(Refused) as refused:
        set_in(relay, backups, own(relay))
    assert f"port {relay.base + 1587} of 127.0.0.1 is in use by " in str(refused.value)
    assert f"(pid {os.getpid()})" in str(refused.value)
    assert greets(relay, 25)


@pytest.mark.parametrize(
    ("theirs", "wanted"), [("127.0.0.2", "127.0.0.2"), ("127.0.0.2", ""), ("", "127.0.0.3")]
)
def test_a_port_is_free_only_where_nobody_else_has_its_address_or_all(
    relay: MailHost, theirs: str, wanted: str
) -> None:
    """Whatever master itself has of that port; where somebody is beside it, that is 127.0.0.1."""
    port = relay.base + (587 if theirs else 1587)
    door = serving.Door("587/inet", 7, wanted or "0.0.0.0", str(port), wrapped=False)
    pid = running.master(relay.postfix)
    assert [*serving.in_use(relay.postfix, door, pid)] == []
    with socket.create_server((theirs, port)):
        (reason,) = serving.in_use(relay.postfix, door, pid)
        assert f"port {port} of {door.host} is in use by " in reason.text
        assert f"(pid {os.getpid()})" in reason.text
        assert "master" not in reason.text
        beside = dataclasses.replace(door, host="127.0.0.4")
        assert bool([*serving.in_use(relay.postfix, beside, pid)]) == (not theirs)


def test_an_address_that_the_host_has_not_is_refused(relay: MailHost, backups: Path) -> None:
    with pytest.raises(Refused, match=r"port 587 of 192\.0\.2\.99 cannot be had"):
        set_in(relay, backups, Wish(own=("192.0.2.99:587",)))


def test_a_reload_that_ends_postfix_is_taken_back(
    relay: MailHost, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody takes the port between the look at it and the reload."""
    monkeypatch.setattr(applying, "_SHORT", 0.5)  # for the one who took it, and says nothing
    outcome = planned(relay, own(relay))
    was = running.master(relay.postfix)
    with listener(relay, 1587), pytest.raises(Refused) as refused:
        carry_out(outcome, backups)
    assert "Postfix ended when it was reloaded" in str(refused.value)
    assert "main.cf and master.cf are as they were, and Postfix runs with them" in str(refused.value)
    assert running.master(relay.postfix) not in (0, was)
    assert greets(relay, 25)


def test_a_service_that_answers_no_more_is_taken_back(
    relay: MailHost, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = planned(relay, asked(relay))
    silence = serving.silence

    def silent(directory: Path, door: serving.Door, seconds: float) -> str:
        grafted = b"submitward" in texts(relay)[MAIN] and door.port == str(relay.base + 587)
        return "timed out" if grafted else silence(directory, door, 60)

    monkeypatch.setattr(serving, "silence", silent)
    monkeypatch.setattr(applying, "_AFTERWARDS", 0.5)
    was = running.master(relay.postfix)
    with pytest.raises(Refused) as refused:
        carry_out(outcome, backups)
    assert f"127.0.0.1:{relay.base + 587}/inet does not answer any more: timed out" in str(refused.value)
    assert running.master(relay.postfix) == was
    assert greets(relay, 587)


def test_a_machine_that_is_loaded_is_given_its_time(
    relay: MailHost, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if greetings, smtpd's and saslauthd's, took fifteen seconds."""

    def slow(answer: Callable[..., str]) -> Callable[..., str]:
        return lambda *where_and_seconds: (
            answer(*where_and_seconds) if where_and_seconds[-1] >= 15 else "timed out"
        )

    for name in ("silence", "deafness"):
        monkeypatch.setattr(serving, name, slow(getattr(serving, name)))
    set_in(relay, backups, asked(relay))
    assert not taken_out(relay)
    take_out(relay, backups)


def test_it_is_not_set_in_where_saslauthd_does_not_answer(relay: MailHost, backups: Path) -> None:
    sockets = relay.sockets
    (sockets / "auth").rename(sockets / "away")
    try:
        with pytest.raises(Refused, match="saslauthd does not answer here"):
            set_in(relay, backups, asked(relay))
    finally:
        (sockets / "away").rename(sockets / "auth")


def test_a_queue_directory_without_our_sockets_is_refused(
    relay: MailHost, backups: Path, tmp_path: Path
) -> None:
    planner = functools.partial(plan, wish=asked(relay))
    elsewhere = tmp_path / "spool/submitward"
    elsewhere.mkdir(parents=True)
    with pytest.raises(
        Refused, match=rf"main\.cf: queue_directory is {relay.directory}/queue, .*mount --bind"
    ):
        host.try_out(relay.postfix, planner, elsewhere)
    away = relay.sockets.rename(tmp_path / "away")
    relay.sockets.symlink_to(elsewhere)  # what no chroot can follow
    try:
        with pytest.raises(Refused, match="mount --bind"):
            host.try_out(relay.postfix, planner, elsewhere)
    finally:
        relay.sockets.unlink()
        away.rename(relay.sockets)
    mounted = subprocess.run(["mount", "--bind", relay.sockets, elsewhere], capture_output=True, check=False)
    if not mounted.returncode:  # a container may not
        try:
            assert host.try_out(relay.postfix, planner, elsewhere).changed
        finally:
            subprocess.run(["umount", elsewhere], check=True)
    assert host.try_out(relay.postfix, remove).changed == ()


def test_the_reload_of_a_run_that_broke_off_is_made_by_the_next(
    relay: MailHost, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(running, "reload", interrupted)
        set_in(relay, backups, asked(relay))
    reloads: list[Path] = []
    reload = running.reload

    def counted(directory: Path, pid: int) -> set[str]:
        reloads.append(directory)
        return reload(directory, pid)

    monkeypatch.setattr(running, "reload", counted)
    outcome = planned(relay, asked(relay))
    assert outcome.changed == ()
    assert "has to be reloaded" in owed(outcome, backups)[0]
    for _ in range(2):
        assert carry_out(outcome, backups) is None
        assert reloads == [relay.postfix]
        assert owed(outcome, backups) == ()
    take_out(relay, backups)


def interrupted(directory: Path, pid: int) -> None:
    raise KeyboardInterrupt


def test_a_postfix_that_is_stopped_is_left_so(relay: MailHost, backups: Path) -> None:
    relay.command("stop")
    try:
        with full_disk(0), pytest.raises(Refused, match=r"as they were$"):
            set_in(relay, backups, asked(relay))
        set_in(relay, backups, asked(relay))
        take_out(relay, backups)
        assert not running.master(relay.postfix)
    finally:
        relay.command("start")


@contextlib.contextmanager
def full_disk(after: int) -> Iterator[None]:
    """No file can be written any more once so many have been."""
    written: list[int] = []
    sync = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            written.append(handle)
            if len(written) > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        yield


@pytest.mark.parametrize("after", [0, 1])
def test_a_full_disk_leaves_both_files_as_they_were(relay: MailHost, backups: Path, after: int) -> None:
    outcome = planned(relay, asked(relay))
    with full_disk(after), pytest.raises(Refused) as refused:
        carry_out(outcome, backups)
    assert "cannot be written: No space left on device" in str(refused.value)
    assert "main.cf and master.cf are as they were" in str(refused.value)


def test_a_disk_that_fills_up_behind_the_reload_costs_no_mail(relay: MailHost, backups: Path) -> None:
    set_in(relay, backups, asked(relay))
    outcome = host.try_out(relay.postfix, remove)
    with full_disk(1), pytest.raises(Refused, match=f"as they were lie in {backups}"):
        carry_out(outcome, backups)
    assert texts(relay)[MASTER].decode("latin-1") == outcome.after[MASTER]
    assert b"\nsubmitward_sasl_path = " in texts(relay)[MAIN]
    assert greets(relay, 587)
    take_out(relay, backups)


def test_a_place_for_backups_that_cannot_be_had_is_refused(relay: MailHost, backups: Path) -> None:
    (backups / "file").parent.mkdir()
    (backups / "file").write_text("")
    with pytest.raises(Refused, match="cannot be written: Not a directory"):
        set_in(relay, backups / "file", asked(relay))


@pytest.mark.parametrize(
    ("there", "name", "refused"),
    [
        ("submission", "587", "is here already"),
        ("127.0.0.1:587", "submission", "means all of"),
        ("[::1]:submission", "587", "means all of"),
        ("submission", "192.0.2.1:587", "means all of"),
        ("0.0.0.0:465", "192.0.2.1:smtps", "means all of"),
        ("192.0.2.1:587", "192.0.2.1:submission", "is here already"),
        ("192.0.2.1:587", "192.0.2.2:587", ""),
        ("submission", "submissions", ""),
    ],
)
def test_two_services_of_one_port_need_addresses_that_differ(there: str, name: str, refused: str) -> None:
    master = f"smtp inet n - y - - smtpd\n{there} inet n - y - - smtpd\n"
    main = "smtpd_tls_cert_file = /x\n"
    if not refused:
        assert f"\n{name} inet " in plan(main, master, Wish(own=(name,))).master
        return
    with pytest.raises(Refused, match=rf"master\.cf:2: .*{refused}"):
        plan(main, master, Wish(own=(name,)))


def test_a_port_that_another_program_of_postfix_has_is_refused() -> None:
    master = "smtp inet n - y - - smtpd\n587 inet n - y - 1 postscreen\n127.0.0.1:465 inet n n n - 0 spawn\n"
    main = "smtpd_tls_cert_file = /x\n"
    for name, said in (
        ("submission", r"2: 587/inet \(postscreen\)"),
        ("submissions", r"3: 127\.0\.0\.1:465/inet"),
    ):
        with pytest.raises(Refused, match=rf"master\.cf:{said}.* has the port that {name} is to have"):
            plan(main, master, Wish(own=(name,)))
    plan(main, master, Wish(own=("127.0.0.2:465",)))


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
