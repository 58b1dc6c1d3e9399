"""Listeners: what may be written, what is bound, what is inherited, and that no live socket is stolen."""

from __future__ import annotations

import fcntl
import grp
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import binding
from sidecar.listen import Listen, Listener, ListenError, bind, hold, sockets
from sidecar.settings import SettingsError, load

from .conftest import ROOT


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("/run/x", "is no address; write unix:/path, 127.0.0.1:10040 or '[::1]:10040'"),
        ("unix:run/x", "the path must be absolute"),
        ("unix:" + "/a" * 54, "has 108 octets; a socket's path has 107 at most"),
        ("unix:/" + "ä" * 54, "has 109 octets; a socket's path has 107 at most"),
        ("10040", "is no address"),
        ("127.0.0.1", "is no address"),
        ("127.0.0.1:65536", "is no address"),
        ("127.0.0.1:-1", "is no address"),
        ("127.0.0.1:١", "is no address"),
        ("mx1.example.org:10040", "is no IP address; names are not looked up here"),
        ("':10040'", "is no IP address"),
        ("'*:10040'", "is no IP address"),
        ("0.0.0.0:10040", "can be reached by other hosts; say who may connect: allow: [192.0.2.7]"),
        ("'[::]:10040'", "can be reached by other hosts"),
        ("192.0.2.1:10040", "can be reached by other hosts"),
        (
            "{address: 127.0.0.1:1, allow: [192.0.2.1/24]}",
            "192.0.2.1/24 has host bits set; write 192.0.2.0/24",
        ),
        ("{address: 127.0.0.1:1, allow: [example.org]}", "write 192.0.2.0/24 or 192.0.2.7"),
        ("{address: 127.0.0.1:1, group: mail}", "group is for unix: sockets; TCP is guarded by allow"),
        (
            "{address: unix:/x, allow: [127.0.0.1]}",
            "allow is for TCP; a UNIX socket is guarded by mode and group",
        ),
        ("{address: unix:/x, mode: 0666}", "0666 opens the socket to every local user; use 0660"),
        ("{address: unix:/x, mode: 660}", ""),
        ("{address: unix:/x, mode: rw}", "'rw' is no mode; write it in octal, 0660"),
        ("{address: unix:/x, mode: 0o660}", "'0o660' is no mode"),
        ("{address: unix:/x, mode: 1660}", "is no mode for a socket; write 0660"),
        ("{address: unix:/x, context: mxx}", "is none of: submission, mx; did you mean 'mx'?"),
        ("{mode: 0660}", "policy[0].address: is required"),
        ("unix:/x, unix:/x", "unix:/x is listened on twice"),
    ],
)
def test_a_wrong_listener_is_refused_with_the_reason(tmp_path, text, wrong):
    (tmp_path / "c.yaml").write_text(f"policy: [{text}]\n")
    if not wrong:
        assert load(tmp_path / "c.yaml", Listen).policy[0].mode == 0o660
        return
    with pytest.raises(SettingsError) as caught:
        load(tmp_path / "c.yaml", Listen)
    assert wrong in str(caught.value)


@pytest.mark.parametrize("address", ["0.0.0.0:1", "192.0.2.1:1", "'[::]:1'", "mx1:1", "somewhere"])
def test_metrics_are_for_this_host_only(tmp_path, address):
    (tmp_path / "c.yaml").write_text(f"metrics: {{policyd: {address}}}\n")
    with pytest.raises(SettingsError, match=r"1:20: metrics\.policyd: "):
        load(tmp_path / "c.yaml", Listen)


def test_metrics_are_named_by_sidecar(tmp_path):
    (tmp_path / "c.yaml").write_text("metrics: {policyd: 127.0.0.1:9101, policy: 127.0.0.1:9102}\n")
    with pytest.raises(SettingsError, match="unknown sidecar; allowed: policyd, saslauthd, milter"):
        load(tmp_path / "c.yaml", Listen)


@pytest.mark.parametrize(
    ("allow", "peer", "admitted"),
    [
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.0/24", "192.0.3.7", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "192.0.2.7", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("192.0.2.0/24", "127.0.0.1", False),
    ],
)
def test_the_allow_list_is_exact(tmp_path, allow, peer, admitted):
    (tmp_path / "c.yaml").write_text(f'policy: [{{address: "[::]:1", allow: ["{allow}"]}}]\n')
    assert load(tmp_path / "c.yaml", Listen).policy[0].admits(peer) is admitted


def test_a_bound_socket_has_its_mode_and_group_and_is_not_inheritable(directory):
    group = grp.getgrgid(os.getgid()).gr_name
    bound = bind(Listener(f"unix:{directory}/s", mode=0o640, group=group))
    with bound:
        status = os.stat(directory / "s")
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o640, os.getgid())
        assert not bound.get_inheritable()
        assert not bound.getblocking()
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def test_binding_does_not_change_the_umask(directory):
    before = os.umask(0o027)
    try:
        bind(Listener(f"unix:{directory}/s")).close()
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_the_longest_path_can_be_bound(directory):
    path = str(directory / "s").ljust(107, "x")
    with bind(Listener(f"unix:{path}")) as bound:
        assert bound.getsockname() == path


@pytest.mark.parametrize(
    ("prepare", "group", "wrong"),
    [
        (lambda path: path.write_text("precious"), "", "something that is no socket is there; move it away"),
        (lambda path: path.mkdir(), "", "something that is no socket is there; move it away"),
        (lambda path: path.symlink_to("/nowhere"), "", "something that is no socket is there; move it away"),
        (lambda path: path.parent.rmdir(), "", "No such file or directory"),
        (lambda path: None, "no-such-group", "there is no group 'no-such-group' on this host"),
    ],
)
def test_a_path_that_cannot_be_used_is_refused_and_left_alone(directory, prepare, group, wrong):
    path = directory / "d" / "s"
    path.parent.mkdir()
    prepare(path)
    before = sorted(directory.rglob("*"))
    with pytest.raises(ListenError, match=wrong):
        bind(Listener(f"unix:{path}", group=group))
    assert sorted(directory.rglob("*")) == before


def test_a_dead_socket_is_replaced(directory):
    socket_path = str(directory / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(socket_path)
    with bind(Listener(f"unix:{socket_path}")), socket.socket(socket.AF_UNIX) as client:
        client.connect(socket_path)


def test_a_live_socket_is_not_stolen_even_when_its_queue_is_full(directory):
    path = str(directory / "s")
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(path)
        live.listen(0)
        waiting = []
        for _ in range(3):
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(path)
        before = os.stat(path).st_ino
        with pytest.raises(ListenError, match="another process listens there; stop it first"):
            bind(Listener(f"unix:{path}"))
        assert os.stat(path).st_ino == before
        for client in waiting:
            client.close()


def test_a_port_in_use_is_refused_with_the_reason():
    with (
        bind(Listener("127.0.0.1:0")) as first,
        pytest.raises(ListenError, match="another process listens there"),
    ):
        bind(Listener(f"127.0.0.1:{first.getsockname()[1]}"))


def test_a_directory_somebody_keeps_locked_is_an_error_and_no_hang(directory, monkeypatch):
    monkeypatch.setattr(binding, "LOCK_WAIT", 0.2)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(ListenError, match="is kept locked by another process"):
            bind(Listener(f"unix:{directory}/s"))
    finally:
        os.close(descriptor)


def test_release_unlinks_what_is_ours_and_nothing_else(directory):
    path = directory / "s"
    held = hold(Listener(f"unix:{path}"))
    held.release()
    assert not path.exists()
    with bind(Listener(f"unix:{path}")):
        held.release()  # a second time, when the path is somebody else's
        assert path.exists()
    held = hold(Listener(f"unix:{path}"))
    path.unlink()
    with bind(Listener(f"unix:{path}")):
        held.release()
        assert path.exists()


#: Run as a process with inherited descriptors: prints what `sockets` made of them.
TAKE = """
import os, sys
from sidecar.listen import *
os.environ["LISTEN_PID"] = os.environ["LISTEN_PID"].replace("SELF", str(os.getpid()))
try:
    held = sockets("policy", tuple(Listener(a) for a in sys.argv[1:]), os.environ)
    print([(h.listener.address, h.made is None, h.socket.get_inheritable()) for h in held])
    for h in held: h.release()
except ListenError as error:
    print("error:", error)
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


def take(
    inherited: list[socket.socket], names: str, *listeners: str, pid: str = "SELF", count: int | None = None
) -> list[str]:
    """What a process with these descriptors at 3 and up finds."""
    script = [
        "-c",
        "exec " + " ".join(f"{3 + i}<&{s.fileno()}" for i, s in enumerate(inherited)) + '; exec "$@"',
    ]
    environ = {
        **os.environ,
        "LISTEN_PID": pid,
        "LISTEN_FDS": str(len(inherited) if count is None else count),
        "LISTEN_FDNAMES": names,
        "PYTHONPATH": str(ROOT),
    }
    result = subprocess.run(
        ["bash", *script, "bash", sys.executable, "-c", TAKE, *listeners],
        pass_fds=[s.fileno() for s in inherited],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.splitlines()


class TestInheritance:
    @pytest.fixture
    def unix(self, directory):
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(directory / "s"))
            bound.listen()
            os.set_inheritable(bound.fileno(), True)
            moved = fcntl.fcntl(bound, fcntl.F_DUPFD, 20)
        with socket.socket(fileno=moved) as high:
            yield high

    @pytest.fixture
    def tcp(self):
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            bound.listen()
            moved = fcntl.fcntl(bound, fcntl.F_DUPFD, 30)
        with socket.socket(fileno=moved) as high:
            yield high

    def test_sockets_are_matched_to_listeners_by_address(self, directory, unix, tcp):
        port = f"127.0.0.1:{tcp.getsockname()[1]}"
        path = f"unix:{directory}/s"
        assert take([tcp, unix], "policy:policy", path, port) == [
            str([(path, True, False), (port, True, False)]),
            "[]",
        ]

    def test_another_spelling_of_the_path_is_the_same_socket(self, directory, unix):
        (directory / "link").symlink_to(directory)
        path = f"unix:{directory}/link/s"
        assert take([unix], "policy", path)[0] == str([(path, True, False)])

    def test_what_is_not_inherited_is_bound_here(self, directory, unix):
        (directory / "d").mkdir()
        path, other = f"unix:{directory}/s", f"unix:{directory}/d/s"
        assert take([unix], "policy", path, other)[0] == str([(path, True, False), (other, False, False)])
        assert Path(directory, "s").exists()
        assert not Path(directory, "d/s").exists()

    def test_a_socket_without_listener_is_an_error_that_names_both(self, directory, unix):
        assert take([unix], "policy", "unix:/run/other") == [
            f"error: inherited socket unix:{directory}/s is no listener; listen.policy has unix:/run/other",
            "[]",
        ]

    def test_no_listener_at_all_is_an_error(self, unix):
        assert take([], "")[0] == "error: there is nothing to listen on: listen.policy is empty"
        assert take([unix], "policy")[0].endswith("is no listener; listen.policy has nothing")

    @pytest.mark.parametrize("names", ["auth", "", "policy.socket"])
    def test_another_name_is_an_error_that_says_how_to_name_it(self, directory, unix, names):
        assert take([unix], names, f"unix:{directory}/s")[0] == (
            f"error: inherited descriptor 3 is named {names!r}, not 'policy': set FileDescriptorName=policy"
        )

    def test_fewer_names_than_sockets_is_an_error(self, directory, unix, tcp):
        found = take([unix, tcp], "policy", f"unix:{directory}/s")
        assert found[0].startswith("error: inherited descriptor 4 is named '', not 'policy'")

    def test_a_descriptor_that_is_no_socket_is_an_error(self, tmp_path):
        (tmp_path / "f").touch()
        with (tmp_path / "f").open() as file:
            found = take([file], "policy", "unix:/run/x")
        assert found[0] == "error: inherited descriptor 3 is no socket: Socket operation on non-socket"

    def test_a_connection_and_a_datagram_socket_are_errors(self, directory):
        left, right = socket.socketpair()
        with left, right:
            assert "does not listen for streams" in take([left], "policy", "unix:/run/x")[0]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            datagram.bind(("127.0.0.1", 0))
            assert "does not listen for streams" in take([datagram], "policy", "unix:/run/x")[0]

    @pytest.mark.parametrize(("pid", "count"), [("1", 1), ("", 1), ("SELF", 0)])
    def test_what_was_meant_for_another_process_is_not_taken(self, directory, unix, pid, count):
        (directory / "d").mkdir()
        other = f"unix:{directory}/d/s"
        assert take([unix], "policy", other, pid=pid, count=count) == [str([(other, False, False)]), "[]"]


def test_a_failure_leaves_nothing_open_and_nothing_behind(directory):
    taken = bind(Listener("127.0.0.1:0"))
    with taken:
        port = taken.getsockname()[1]
        listeners = (Listener(f"unix:{directory}/s"), Listener(f"127.0.0.1:{port}"))
        with pytest.raises(ListenError):
            sockets("policy", listeners, {})
        assert list(directory.iterdir()) == []
