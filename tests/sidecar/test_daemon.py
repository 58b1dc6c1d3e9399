"""A sidecar's life with real processes, sockets and signals."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import stat
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from sidecar.lines import parse_line

from .conftest import ask, connect, is_refused, wait_until

WITH_TCP = "version: 1\nlisten: {policy: [SOCKET, {address: 127.0.0.1:PORT, allow: [ALLOW]}]}\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def manager(directory):
    """A service manager's notify socket, in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(f"\0sw-test-{os.getpid()}-{time.monotonic_ns()}")
        bound.settimeout(20)
        yield bound


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": "@" + manager.getsockname()[1:].decode(), **more}


def hear(manager: socket.socket, word: str) -> list[str]:
    """The first message that holds an assignment."""
    while True:
        message = manager.recv(4096).decode().split("\n")
        if word in message:
            return message


def test_it_answers_and_exits_0_on_sigterm_without_its_socket(echo):
    service = echo().ready()
    assert ask(service.socket, b"hi") == b"echo hi\n"
    assert service.stop() == 0
    assert not Path(service.socket).exists()
    assert service.said("event=stop ")


def test_sigint_ends_it_as_well(echo):
    service = echo().ready()
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(20) == 0


def test_a_request_in_flight_is_answered_after_sigterm_and_nothing_new_is_accepted(echo):
    service = echo().ready()
    with connect(service.socket) as connection:
        connection.sendall(b"slow\n")
        wait_until(lambda: os.path.exists(service.socket))
        time.sleep(0.2)  # the line must have been read
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not Path(service.socket).exists())
        with pytest.raises(OSError):
            connect(service.socket)
        assert connection.makefile("rb").readline() == b"echo slow\n"
    assert service.process.wait(20) == 0


def test_a_drain_that_never_ends_is_cut_within_five_seconds(echo):
    service = echo("version: 1\ngreeting: stuck\nlisten: {policy: [SOCKET]}\n").ready()
    with connect(service.socket) as connection:
        connection.sendall(b"never\n")
        wait_until(lambda: service.said("event=never"))
        begin = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 0
        assert time.monotonic() - begin < 6


def test_a_loop_that_hangs_does_not_keep_it_alive(echo):
    service = echo().ready()
    with connect(service.socket) as connection:
        connection.sendall(b"hang\n")
        wait_until(lambda: service.said("event=hang"))
        begin = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 0
        assert time.monotonic() - begin < 7


def test_a_second_sigterm_ends_it_at_once(echo):
    service = echo("version: 1\ngreeting: stuck\nlisten: {policy: [SOCKET]}\n").ready()
    with connect(service.socket) as connection:
        connection.sendall(b"never\n")
        wait_until(lambda: service.said("event=never"))
        begin = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: service.said("event=stop "))
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 0
        assert time.monotonic() - begin < 3


class TestReload:
    def test_new_settings_are_taken_over(self, echo):
        service = echo().ready()
        with connect(service.socket) as connection:
            service.write("version: 1\ngreeting: hello\nlisten: {policy: [SOCKET]}\n")
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda: service.said("event=reload"))
            connection.sendall(b"you\n")
            assert connection.makefile("rb").readline() == b"hello you\n"
        digests = re.findall(r"digest=(\w+)", "\n".join(service.lines()))
        assert len(set(digests)) == 2

    @pytest.mark.parametrize(
        "broken", ["", "version: 1\ngreting: x\nmta: [\n", "version: 2\nkey: hunter2-canary\n"]
    )
    def test_wrong_settings_are_named_and_the_old_ones_stay(self, echo, broken):
        port = free_port()
        metrics = f"metrics: {{policyd: 127.0.0.1:{port}}}"
        service = echo(f"version: 1\nlisten: {{policy: [SOCKET], {metrics}}}\n").ready()
        service.write(broken)
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.said("event=config_reload_failed"))
        assert ask(service.socket, b"still") == b"echo still\n"
        assert "submitward_config_reload_failed_total 1.0" in get(port, "/metrics")
        assert all("settings.yaml" in line for line in service.lines() if "config_reload_failed" in line)
        assert "hunter2-canary" not in service.log.read_text()

    def test_settings_that_vanish_change_nothing(self, echo):
        service = echo().ready()
        service.settings.unlink()
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.said("cannot be read: No such file or directory"))
        assert ask(service.socket, b"still") == b"echo still\n"

    def test_a_mistake_of_ours_while_reloading_changes_nothing(self, echo):
        service = echo().ready()
        service.write("version: 1\ngreeting: crash on reload\nlisten: {policy: [SOCKET]}\n")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.said("while reloading"))
        assert ask(service.socket, b"still") == b"echo still\n"


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return answer.read().decode()


class TestServiceManager:
    def test_it_hears_ready_reloading_status_and_stopping(self, echo, manager):
        service = echo(env=environment(manager))
        assert hear(manager, "READY=1") == ["READY=1", "STATUS=ok"]
        assert ask(service.socket, b"ready") == b"echo ready\n"
        service.write("version: 1\ngreeting: odd\nlisten: {policy: [SOCKET]}\n")
        service.process.send_signal(signal.SIGHUP)
        reloading = hear(manager, "RELOADING=1")
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert 0 < now - int(reloading[1].removeprefix("MONOTONIC_USEC=")) < 20_000_000
        assert hear(manager, "READY=1") == ["READY=1", "STATUS=degraded: odd greeting"]
        assert service.said("event=state state=")
        assert service.stop() == 0
        assert hear(manager, "STOPPING=1")

    def test_ready_comes_back_after_a_refused_reload(self, echo, manager):
        service = echo(env=environment(manager))
        hear(manager, "READY=1")
        service.write("nonsense: 1\n")
        service.process.send_signal(signal.SIGHUP)
        hear(manager, "RELOADING=1")
        hear(manager, "READY=1")

    @pytest.mark.parametrize(
        "wrong", ["nonsense: 1\n", "version: 1\ngreeting: crash on reload\nlisten: {policy: [SOCKET]}\n"]
    )
    def test_refused_settings_are_told_until_a_reload_takes_some(self, echo, manager, wrong):
        """It would not start with them again: whoever has written them must hear it in time."""
        port = free_port()
        listening = f"listen: {{policy: [SOCKET], metrics: {{policyd: 127.0.0.1:{port}}}}}\n"
        service = echo(f"version: 1\n{listening}", env=environment(manager))
        hear(manager, "READY=1")
        service.write(wrong)
        service.process.send_signal(signal.SIGHUP)
        assert hear(manager, "READY=1") == ["READY=1", "STATUS=degraded settings=refused"]
        assert get(port, "/state").strip() == "degraded settings=refused"
        assert "submitward_degraded 1.0" in get(port, "/metrics")
        service.write(f"version: 1\ngreeting: odd\n{listening}")
        service.process.send_signal(signal.SIGHUP)
        assert hear(manager, "READY=1") == ["READY=1", "STATUS=degraded: odd greeting"]
        service.write("version: 2\n")
        service.process.send_signal(signal.SIGHUP)
        assert hear(manager, "READY=1") == ["READY=1", "STATUS=degraded settings=refused: odd greeting"]

    def test_a_path_does_as_well_as_an_abstract_name(self, echo, directory):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
            bound.bind(str(directory / "n"))
            bound.settimeout(20)
            echo(env={"NOTIFY_SOCKET": str(directory / "n")})
            hear(bound, "READY=1")

    @pytest.mark.parametrize("address", ["/nowhere/n", "@", "vsock:2:1", "relative"])
    def test_a_manager_that_is_not_there_stops_nothing(self, echo, address):
        service = echo(env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}).ready()
        assert ask(service.socket, b"hi") == b"echo hi\n"

    def test_the_watchdog_is_fed_while_the_loop_turns_and_not_when_it_hangs(self, echo, manager):
        service = echo(env=environment(manager, WATCHDOG_USEC="400000"))
        hear(manager, "READY=1")
        for _ in range(3):
            hear(manager, "WATCHDOG=1")
        with connect(service.socket) as connection:
            connection.sendall(b"hang\n")
            wait_until(lambda: service.said("event=hang"))
            manager.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    manager.recv(4096)
            manager.settimeout(1.0)
            with pytest.raises(TimeoutError):
                manager.recv(4096)

    def test_the_watchdog_is_not_fed_by_a_service_that_is_not_healthy(self, echo, manager):
        service = echo(
            "version: 1\nsick: true\nlisten: {policy: [SOCKET]}\n",
            env=environment(manager, WATCHDOG_USEC="400000"),
        )
        hear(manager, "READY=1")
        wait_until(lambda: service.said("event=unhealthy"))
        manager.settimeout(1.0)
        with pytest.raises(TimeoutError):
            hear(manager, "WATCHDOG=1")

    def test_a_degraded_service_is_healthy(self, echo, manager):
        echo(
            "version: 1\ngreeting: odd\nlisten: {policy: [SOCKET]}\n",
            env=environment(manager, WATCHDOG_USEC="400000"),
        )
        assert hear(manager, "READY=1") == ["READY=1", "STATUS=degraded: odd greeting"]
        hear(manager, "WATCHDOG=1")

    def test_a_watchdog_meant_for_another_process_is_none_of_ours(self, echo, manager):
        echo(env=environment(manager, WATCHDOG_USEC="200000", WATCHDOG_PID="1"))
        hear(manager, "READY=1")
        manager.settimeout(1.0)
        with pytest.raises(TimeoutError):
            hear(manager, "WATCHDOG=1")


class TestSockets:
    def test_a_second_instance_refuses_and_the_first_serves_on(self, echo):
        first = echo().ready()
        second = echo()
        assert second.process.wait(20) == 1
        assert second.said("another process listens there; stop it first")
        assert ask(first.socket, b"hi") == b"echo hi\n"

    def test_of_many_that_start_at_once_over_a_dead_socket_one_serves(self, echo, directory):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(directory / "s"))
        services = [echo() for _ in range(4)]
        wait_until(lambda: [s.process.poll() for s in services].count(1) == 3, 60)
        wait_until(lambda: any(service.said("event=start ") for service in services))
        assert ask(services[0].socket, b"hi") == b"echo hi\n"

    def test_a_dead_socket_is_replaced_after_a_kill(self, echo):
        service = echo().ready()
        service.process.kill()
        service.process.wait()
        assert Path(service.socket).exists()
        assert ask(echo().ready().socket, b"hi") == b"echo hi\n"

    def test_an_inherited_socket_is_served_and_not_unlinked(self, echo, directory):
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(directory / "s"))
            bound.listen()
            names = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=policy"
            shell = f'exec 3<&{bound.fileno()}; export {names}; exec "$@"'
            service = echo(prefix=("bash", "-c", shell, "bash"), pass_fds=[bound.fileno()])
            assert ask(service.socket, b"hi") == b"echo hi\n"
            assert service.ready().said("inherited=1")
            assert service.stop() == 0
            assert Path(service.socket).exists()

    def test_nothing_to_listen_on_is_an_error(self, echo):
        service = echo("version: 1\n")
        assert service.process.wait(20) == 1
        assert service.said("there is nothing to listen on: listen.policy is empty")

    def test_a_peer_on_the_allow_list_is_served_and_another_one_is_not(self, echo):
        port = free_port()
        settings = WITH_TCP.replace("PORT", str(port))
        service = echo(settings.replace("ALLOW", "127.0.0.1, 192.0.2.0/24")).ready()
        assert ask(("127.0.0.1", port), b"hi") == b"echo hi\n"
        assert service.stop() == 0
        service = echo(settings.replace("ALLOW", "192.0.2.0/24")).ready()
        assert is_refused(("127.0.0.1", port))
        assert service.said("127.0.0.1 is not in allow of 127.0.0.1:")
        assert ask(service.socket, b"hi") == b"echo hi\n"


class TestCrowds:
    def test_a_thousand_at_once_are_all_served(self, echo):
        if int(Path("/proc/sys/net/core/somaxconn").read_text()) < 1000:
            pytest.fail("raise net.core.somaxconn to 4096")
        service = echo().ready()
        service.process.send_signal(signal.SIGSTOP)  # so that all of them have to wait in the backlog
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
        try:
            crowd = [connect(service.socket) for _ in range(1000)]
            service.process.send_signal(signal.SIGCONT)
            for index, connection in enumerate(crowd):
                connection.sendall(b"%d\n" % index)
            answers = [connection.makefile("rb").readline() for connection in crowd]
            assert answers == [b"echo %d\n" % index for index in range(1000)]
        finally:
            for connection in crowd:
                connection.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_over_the_cap_new_connections_wait_and_are_served_when_one_leaves(self, echo):
        service = echo(prefix=("prlimit", "--nofile=64"))
        service.ready()
        assert service.said("event=descriptors")
        crowd = [connect(service.socket) for _ in range(80)]
        for connection in crowd:
            connection.sendall(b"hi\n")
        served = 0
        while crowd:
            ready = [c for c in crowd if is_readable(c)]
            assert ready or time.sleep(0.05) is None
            for connection in ready:
                assert connection.makefile("rb").readline() == b"echo hi\n"  # and never an empty one
                connection.close()
                crowd.remove(connection)
                served += 1
        assert served == 80
        assert service.said("event=connections")
        assert not service.said("traceback=")

    def test_a_full_house_does_not_spin(self, echo):
        service = echo(prefix=("prlimit", "--nofile=64")).ready()
        crowd = [connect(service.socket) for _ in range(80)]
        wait_until(lambda: service.said("event=connections"))
        before = cpu_seconds(service.process.pid)
        time.sleep(1)
        assert cpu_seconds(service.process.pid) - before < 0.5
        for connection in crowd:
            connection.close()
        assert ask(service.socket, b"hi") == b"echo hi\n"

    def test_without_any_descriptor_left_the_backlog_waits(self, echo):
        service = echo(prefix=("prlimit", "--nofile=64")).ready()
        with connect(service.socket) as first:
            first.sendall(b"eat descriptors\n")
            assert first.makefile("rb").readline() == b"echo eat descriptors\n"
            with connect(service.socket) as second:
                second.sendall(b"hi\n")
                wait_until(lambda: service.said("cannot accept: Too many open files"))
                assert not is_readable(second)
                first.sendall(b"free descriptors\n")
                assert second.makefile("rb").readline() == b"echo hi\n"

    def test_a_protocol_that_fails_at_the_start_loses_its_connection_only(self, echo):
        service = echo("version: 1\ngreeting: broken\nlisten: {policy: [SOCKET]}\n").ready()
        assert is_refused(service.socket)
        assert service.said("broken greeting")
        service.write("version: 1\nlisten: {policy: [SOCKET]}\n")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.said("event=reload"))
        assert ask(service.socket, b"hi") == b"echo hi\n"

    def test_a_crash_in_a_handler_is_one_line_and_ends_that_connection_only(self, echo):
        service = echo().ready()
        with connect(service.socket) as other:
            assert ask(service.socket, b"crash") == b""  # Twisted closes it
            other.sendall(b"hi\n")
            assert other.makefile("rb").readline() == b"echo hi\n"
        wait_until(lambda: service.said("forged"))
        assert all(parse_line(line)[1] == "echo" for line in service.lines())
        assert not any(
            "event" in fields and fields["event"] == "forged" for fields in map(fields_of, service.lines())
        )


def fields_of(line: str) -> dict[str, str]:
    return parse_line(line)[2]


def is_readable(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK)) or True
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(20)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class TestMetrics:
    def test_they_are_served_where_the_settings_say(self, echo):
        port = free_port()
        service = echo(
            f"version: 1\nlisten: {{policy: [SOCKET], metrics: {{policyd: 127.0.0.1:{port}}}}}\n"
        ).ready()
        with connect(service.socket) as connection:
            connection.sendall(b"hi\n")
            connection.makefile("rb").readline()
            assert "submitward_connections 1.0" in get(port, "/metrics")
        assert "submitward_degraded 0.0" in get(port, "/metrics")
        assert get(port, "/state") == "ok\n"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(port, "/reload")
        assert service.stop() == 0

    def test_a_unix_socket_does_as_well(self, echo, directory):
        service = echo(
            f"version: 1\nlisten: {{policy: [SOCKET], metrics: {{policyd: unix:{directory}/m}}}}\n"
        ).ready()
        with connect(str(directory / "m")) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert b"submitward_connections 0.0" in connection.makefile("rb").read()
        assert stat.S_IMODE((directory / "m").stat().st_mode) == 0o660
        assert service.stop() == 0
        assert not (directory / "m").exists()

    def test_many_readers_wait_for_each_other_and_not_for_the_service(self, echo, directory):
        service = echo(
            f"version: 1\nlisten: {{policy: [SOCKET], metrics: {{policyd: unix:{directory}/m}}}}\n"
        ).ready()
        crowd = [connect(str(directory / "m")) for _ in range(40)]
        wait_until(lambda: service.said("32 connections are open"))
        assert ask(service.socket, b"hi") == b"echo hi\n"
        for connection in crowd:
            connection.sendall(b"GET /state HTTP/1.0\r\n\r\n")
        for connection in crowd:
            assert connection.makefile("rb").read().endswith(b"ok\n")
            connection.close()
        assert service.stop() == 0

    def test_a_port_that_is_taken_does_not_stop_the_service(self, echo):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            service = echo(
                f"version: 1\nlisten: {{policy: [SOCKET], metrics: {{policyd: 127.0.0.1:{port}}}}}\n"
            ).ready()
            assert service.said("event=metrics")
            assert ask(service.socket, b"hi") == b"echo hi\n"

    def test_without_the_setting_nothing_listens(self, echo):
        service = echo().ready()
        links = [os.readlink(path) for path in Path(f"/proc/{service.process.pid}/fd").iterdir()]
        table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        tcp = {line.split()[9] for line in table.splitlines() if line.split()[0] != "sl"}
        assert not {link[8:-1] for link in links if link.startswith("socket:")} & tcp


def test_wrong_settings_at_the_start_are_all_named_and_the_status_is_2(echo):
    service = echo("version: 1\nnonsense: 1\ngreeting: 3\nkey: hunter2-canary\n")
    assert service.process.wait(20) == 2
    assert len(service.lines()) == 3
    assert "hunter2-canary" not in service.log.read_text()


def test_a_service_that_cannot_start_ends_with_1_and_its_socket_is_gone(echo):
    service = echo("version: 1\ngreeting: crash at start\nlisten: {policy: [SOCKET]}\n")
    assert service.process.wait(20) == 1
    assert service.said("cannot start")
    assert not Path(service.socket).exists()


def is_caught(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigCgt" in line)
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("later", [0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8])
def test_a_signal_that_ends_it_may_come_at_any_time(echo, number, later):
    service = echo()
    wait_until(lambda: is_caught(service.process.pid, signal.SIGTERM))
    time.sleep(later)
    service.process.send_signal(number)
    assert service.process.wait(20) == 0
    assert not Path(service.socket).exists()
    assert "Traceback" not in service.log.read_text()


def test_a_signal_that_waited_from_before_the_start_ends_it(echo):
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        service = echo()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(20) == 0
    assert not Path(service.socket).exists()
