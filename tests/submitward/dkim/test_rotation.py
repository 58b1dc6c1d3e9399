"""The life of a key, with a real name server and a real OpenDKIM; time is moved by moving our clock."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from pwd import getpwnam
from typing import Any

import dkim
import pytest

from milter.tables import parse_tables
from submitward.__main__ import main
from submitward.dkim import command, keyring, state
from submitward.dkim.keyfile import make_key
from submitward.dkim.record import format_record
from submitward.dkim.rotation import KeyState, new_selector, take_step
from submitward.dns.ask import Answer, CannotKnow, Resolver
from tests.milter.test_opendkim import CONF, Filter, started
from tests.submitward.command import submitward
from tests.submitward.dns.nsd import Nsd, name_server
from tests.submitward.dns.site import Site, key_record

AUTHOR = "alice@example.org"
DAY = 86400.0


class World:
    """A site whose OpenDKIM signs with a key made by hand, its zone on a name server."""

    def __init__(self, home: Path, site: Site, server: Nsd, capsys: Any, monkeypatch: Any) -> None:
        self.home, self.site, self.server, self.capsys = home, site, server, capsys
        self.shift = 0.0
        real = command.clock
        monkeypatch.setattr(command, "clock", lambda: real() + self.shift)

    def run(self, *arguments: str) -> tuple[int, Any]:
        return self.site.run(self.capsys, "dkim", *arguments)

    def stages(self) -> dict[str, str]:
        return {key.selector: key.stage for key in state.read(self.site.keys).get("example.org", [])}

    def publish(self, *records: str) -> None:
        self.server.change("example.org", "".join(f"{record}\n" for record in records))

    def sign(self) -> tuple[str, bytes]:
        """The selector that OpenDKIM signs with on a new connection, and the signed message."""
        with closing(Filter(self.home / "socket")) as asked:
            asked.greet()
            answers = asked.submit(AUTHOR)
        (value,) = [a.split(b"\0")[-2] for a in answers if b"DKIM-Signature" in a]
        text = value.decode().replace("\n", "\r\n").lstrip()
        found = re.search(r"\bs=([^;]+);", text)
        assert found is not None
        header = f"DKIM-Signature: {text}\r\nFrom: {AUTHOR}\r\nDate: Sat, 21 Nov 2026 02:02:38 +0000\r\n"
        return found[1], f"{header}\r\nHello.\r\n".encode()

    def verifies(self, message: bytes) -> bool:
        """Whether a receiver who asks the name server now takes the signature."""
        resolver = Resolver([self.server.server])

        def look_up(name: bytes, timeout: int = 5) -> bytes:
            return "".join(resolver.ask(name.decode(), "TXT").texts).encode()

        return bool(dkim.verify(message, dnsfunc=look_up))


@pytest.fixture(scope="module")
def server() -> Iterator[Nsd]:
    with name_server({"example.org": ""}) as running:
        yield running


@pytest.fixture
def world(server: Nsd, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # Below /var/lib, where keys can be safe.
    with tempfile.TemporaryDirectory(prefix="submitward-test-", dir="/var/lib") as folder:
        home = Path(folder)
        site = Site(home, server.server, {"example.org": "example.org"})
        (home / "conf").write_text(CONF.replace("{home}", str(home)))
        with started(home) as daemon:
            reload = ["kill", "-USR1", str(daemon.pid)]
            site.write(home, server.server, reload=reload, socket=str(home / "socket"))
            yield World(home, site, server, capsys, monkeypatch)


def test_a_key_goes_from_new_to_retired_and_each_step_waits_for_the_dns(world: World) -> None:
    old = key_record(world.site.public)
    world.publish(old)
    before, signed_before = world.sign()
    assert before == "s1"
    assert world.verifies(signed_before)
    tables = world.site.key_table.read_text(), world.site.signing_table.read_text()

    status, made = world.run("new", "example.org")
    assert (status, made["made"], made["stage"]) == (0, True, "published")
    assert stat.S_IMODE(Path(made["path"]).stat().st_mode) == 0o600
    assert all(len(string) <= 255 for string in made["strings"])
    again = world.run("new", "example.org")[1]
    assert (again["made"], again["record"]) == (False, made["record"])
    new = made["selector"]

    status, said = world.run("rotate")
    assert (status, world.stages()) == (1, {"s1": "signing", new: "published"})
    assert "no key is published here" in said["keys"][1]["text"]
    world.publish(old, made["zone"])
    assert world.run("rotate", "--dry-run")[1]["keys"][1]["stage"] == "waiting"
    assert world.stages()[new] == "published"
    assert world.run("rotate")[0] == 0
    assert world.stages() == {"s1": "signing", new: "waiting"}
    assert world.run("rotate", "example.org")[0] == 1
    assert (world.site.key_table.read_text(), world.site.signing_table.read_text()) == tables

    world.shift = made_ttl = 3600 + 5
    assert world.run("rotate")[0] == 0
    assert world.stages() == {"s1": "retiring", new: "signing"}
    selector, signed = world.sign()
    assert selector == new
    assert world.verifies(signed)
    assert world.verifies(signed_before)
    assert world.run("tables")[0] == 0

    assert world.run("rotate")[0] == 1
    world.shift = made_ttl + 10 * DAY + DAY + 5
    status, said = world.run("rotate")
    assert status == 1
    assert 'IN TXT (\n    "v=DKIM1; k=rsa; h=sha256; p="\n)' in said["keys"][0]["text"]
    assert world.site.key.exists()
    world.publish('s1._domainkey TXT "v=DKIM1; p="', made["zone"])
    assert world.run("rotate")[0] == 0
    assert world.stages() == {"s1": "retired", new: "signing"}
    assert not world.site.key.exists()
    assert not world.verifies(signed_before)
    assert world.sign()[0] == new
    assert world.run("rotate")[0] == 0
    assert world.run("check", "example.org")[0] == 0


@pytest.mark.parametrize(
    "where",
    [
        "submitward.dkim.keyring.replace_files",
        "submitward.dkim.state.replace_files",
        "submitward.replacing._sync",
    ],
)
def test_a_switch_that_is_cut_short_still_signs_and_is_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    made = world.run("new", "example.org")[1]
    world.publish(key_record(world.site.public), made["zone"])
    assert world.run("rotate")[0] == 0
    world.shift = 4000

    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(where, cut)
        with pytest.raises(KeyboardInterrupt):
            world.run("rotate")
    assert world.stages() == {"s1": "signing", made["selector"]: "waiting"}
    texts = world.site.key_table.read_text(), world.site.signing_table.read_text()
    assert parse_tables(*texts).signing_domain(AUTHOR) == "example.org"
    assert world.verifies(world.sign()[1])
    assert world.run("rotate")[0] == 0
    assert world.sign()[0] == made["selector"]
    assert world.stages() == {"s1": "retiring", made["selector"]: "signing"}


def test_a_reload_that_fails_leaves_the_step_to_be_done_again(world: World) -> None:
    made = world.run("new", "example.org")[1]
    world.publish(key_record(world.site.public), made["zone"])
    world.run("rotate")
    world.shift = 4000
    reload = re.search(r'"-USR1", "(\d+)"', world.site.settings.read_text())
    assert reload is not None
    world.site.write(world.home, world.server.server, reload=["false"])
    before = world.site.key_table.read_text(), world.site.signing_table.read_text()
    status, said = world.run("rotate")
    assert status == 75
    assert "the tables are as they were, run this again" in said
    assert (world.site.key_table.read_text(), world.site.signing_table.read_text()) == before
    assert world.stages()["s1"] == "signing"
    world.site.write(world.home, world.server.server, reload=["kill", "-USR1", reload[1]])
    assert world.run("rotate")[0] == 0
    assert world.sign()[0] == made["selector"]


def test_a_reload_that_opendkim_has_not_heard_is_not_believed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "SEEN_WITHIN", 0.5)
    made = world.run("new", "example.org")[1]
    world.publish(key_record(world.site.public), made["zone"])
    world.run("rotate")
    assert world.run("check", "example.org")[0] == 0
    world.shift = 4000
    world.site.write(world.home, world.server.server, reload=["true"], socket=str(world.home / "socket"))
    status, said = world.run("rotate")
    assert status == 75
    assert f"OpenDKIM signs with s1 and not with {made['selector']}" in said
    assert world.stages()["s1"] == "signing"
    assert world.run("check", "example.org")[0] == 0
    # A key that OpenDKIM still signs with is not taken away, whatever was believed before.
    world.site.write(world.home, world.server.server, reload=["true"])
    assert world.run("rotate")[0] == 0
    world.site.write(world.home, world.server.server, reload=["true"], socket=str(world.home / "socket"))
    status, said = world.run("check", "example.org")
    assert status == 1
    assert [f["fault"] for f in said["findings"] if f["level"] == "error"] == ["older_tables"]
    world.shift += 30 * DAY
    status, said = world.run("rotate")
    assert status == 1
    assert said["keys"][0]["text"] == "OpenDKIM still signs with it: reload OpenDKIM"


def test_a_key_that_opendkim_would_not_use_never_comes_to_sign(world: World) -> None:
    made = world.run("new", "example.org")[1]
    world.publish(key_record(world.site.public), made["zone"])
    world.run("rotate")
    world.shift = 4000
    Path(made["path"]).parent.chmod(0o777)
    before = world.site.key_table.read_text()
    status, said = world.run("rotate")
    assert status == 1
    assert "others may write to" in said
    assert (world.site.key_table.read_text(), world.sign()[0]) == (before, "s1")


def test_a_user_that_there_is_not_is_a_mistake_of_the_settings(world: World) -> None:
    world.site.write(world.home, world.server.server, user="nobody-has-this")
    status, said = world.run("new", "example.org")
    assert status == 2
    assert "there is no user nobody-has-this (sign.user)" in said


def test_tables_with_a_mistake_stop_the_switch_before_anything_is_written(world: World) -> None:
    made = world.run("new", "example.org")[1]
    world.publish(key_record(world.site.public), made["zone"])
    world.run("rotate")
    world.shift = 4000
    with world.site.signing_table.open("a") as table:
        table.write("*@other.example\n")
    before = world.site.key_table.read_text()
    status, said = world.run("rotate")
    assert status == 1
    assert "SigningTable:2: 1 words where two belong" in said
    assert world.site.key_table.read_text() == before
    status, found = world.run("tables")
    assert status == 1
    assert [f["where"] for f in found["findings"]] == [f"{world.site.signing_table}:2"]
    assert world.run("new", "other.example")[0] == 1


def test_only_one_process_is_at_work(world: World) -> None:
    with state.locked(world.site.keys):
        status, said = world.run("new", "example.org")
    assert status == 75
    assert "another submitward dkim is at work" in said


def test_a_state_that_is_broken_is_not_written_over(world: World) -> None:
    file = world.site.keys / state.NAME
    file.write_text('{"version": 1, "domains": {"example.org": [{"selector": "s"}]}}')
    status, said = world.run("new", "example.org")
    assert status == 2
    assert str(file) in said
    assert file.read_text().endswith('"s"}]}}')


def test_a_new_domain_gets_its_lines_when_its_key_may_sign(world: World) -> None:
    world.server.zones["new.example"] = ""
    made = world.run("new", "new.example", "--selector", "first")[1]
    assert made["signing_table"] == ["*@new.example new.example"]
    assert "new.example" not in world.site.signing_table.read_text()
    world.server.change("new.example", made["zone"] + "\n")
    assert world.run("rotate", "new.example")[0] == 0
    world.shift = 4000
    assert world.run("rotate", "new.example")[0] == 0
    assert "*@new.example new.example\n" in world.site.signing_table.read_text()
    assert world.run("check", "new.example")[0] == 0
    assert world.run("new", "new.example", "--selector", "first")[0] == 1
    del world.server.zones["new.example"]


def test_a_key_that_a_run_has_made_before_it_was_cut_short_is_taken_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(keyring.state, "write", cut)
        with pytest.raises(KeyboardInterrupt):
            world.run("new", "example.org")
    (file,) = (world.site.keys / "example.org").iterdir()
    kept = file.read_bytes()
    made = world.run("new", "example.org")[1]
    assert (made["path"], file.read_bytes()) == (str(file), kept)


def killed_at(number: int, home: Path, *arguments: str) -> bool:
    """Run a command in a process of its own, which SIGKILL ends before its change of files with this number
    below `home`; whether it came to that."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover
        changes = {"os.link", "os.rename", "os.remove", "os.chmod", "os.chown", "os.mkdir", "os.rmdir"}
        left = [number]

        def count(event: str, args: tuple[Any, ...]) -> None:
            writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            if not (writes or event in changes or event == "subprocess.Popen"):
                return
            if isinstance(args[0], str | Path) and not str(args[0]).startswith(str(home)) and not writes:
                return
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            main(["--settings", str(home / "config.yaml"), "dkim", *arguments])
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_a_new_key_that_is_killed_at_any_moment_is_made_by_the_next_run_and_leaves_no_other(
    world: World,
) -> None:
    moments = 0
    world.site.write(world.home, world.server.server, user="daemon")
    while killed_at(moments + 1, world.home, "new", "killed.example"):
        moments += 1
        status, made = world.run("new", "killed.example")
        assert status == 0, made
        folder = world.site.keys / "killed.example"
        assert [str(file) for file in folder.iterdir()] == [made["path"]], f"at change {moments}"
        assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (getpwnam("daemon").pw_uid, 0o750)
        shutil.rmtree(folder)
        (world.site.keys / state.NAME).unlink()
    assert moments >= 10


def test_a_switch_that_is_killed_at_any_moment_still_signs_and_is_done_by_the_next_run(world: World) -> None:
    made = world.run("new", "example.org")[1]
    world.publish(key_record(world.site.public), made["zone"])
    assert world.run("rotate")[0] == 0
    world.shift, moments = 4000, 0
    files = (world.site.key_table, world.site.signing_table, world.site.keys / state.NAME)
    before = [file.read_bytes() for file in files]
    while killed_at(moments + 1, world.home, "rotate"):
        moments += 1
        texts = world.site.key_table.read_text(), world.site.signing_table.read_text()
        assert parse_tables(*texts).signing_domain(AUTHOR) == "example.org"
        assert world.verifies(world.sign()[1])
        has_moved = world.stages()["s1"] == "retiring"
        assert world.run("rotate")[0] == int(has_moved)  # 1: s1 waits for its end
        assert world.sign()[0] == made["selector"]
        assert world.stages() == {"s1": "retiring", made["selector"]: "signing"}
        for file, content in zip(files, before, strict=True):
            file.write_bytes(content)
    assert moments >= 5


def test_two_runs_at_once_make_one_key(world: World) -> None:
    with ThreadPoolExecutor(3) as side_by_side:
        runs = [
            side_by_side.submit(submitward, world.site.settings, "dkim", "new", "two.example")
            for _ in range(3)
        ]
    statuses = {run.result().returncode for run in runs}
    assert 0 in statuses <= {0, 75}, [run.result().stderr for run in runs]
    assert len(list((world.site.keys / "two.example").iterdir())) == 1


def test_a_domain_too_long_for_the_record_of_its_key_gets_none(world: World) -> None:
    domain = ".".join(["a" * 60] * 4)
    status, said = world.run("new", domain, "--selector", "long")
    assert status == 1
    assert "259 characters, and the DNS has 253" in said
    assert not (world.site.keys / domain).exists()
    assert world.run("new", domain)[0] == 1
    assert world.run("new", domain[3:], "--selector", "a")[0] == 0


def test_a_directory_that_cannot_be_written_is_said_and_nothing_is_half_done(world: World) -> None:
    world.site.keys.rename(world.home / "aside")
    world.site.keys.write_text("no directory")
    before = world.site.key_table.read_text(), world.site.signing_table.read_text()
    status, said = world.run("new", "example.org")
    assert status == 75
    assert str(world.site.keys) in said
    assert (world.site.key_table.read_text(), world.site.signing_table.read_text()) == before
    assert sorted(file.name for file in world.home.iterdir() if file.name.startswith(".")) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("rotate", "nowhere.example"),
        ("new", "a..b"),
        ("new", "a.example", "--selector", "a b"),
        ("nonsense",),
    ],
)
def test_what_cannot_be_is_refused_without_a_traceback(world: World, arguments: tuple[str, ...]) -> None:
    try:
        status, said = world.run(*arguments)
    except SystemExit as ended:
        assert ended.code == 2
    else:
        assert status == 1
        assert "submitward dkim new nowhere.example" in said


# ---- time, without servers


with tempfile.TemporaryDirectory() as made_in:
    PUBLIC = make_key(Path(made_in) / "k").text
RECORD = format_record(PUBLIC)


def shows(text: str, ttl: int = 100) -> Any:
    def ask(name: str, kind: str) -> Answer:
        if kind == "SOA":
            return Answer(negative=900)
        return Answer((text,), ((text,),), ttl) if text else Answer(exists=False, negative=700)

    return ask


def silent(name: str, kind: str) -> Answer:
    raise CannotKnow("silence")


#: stage, seconds in it, what the DNS shows → status, stage then
WAITS = [
    ("published", 0, shows(""), 1, "published"),
    ("published", 0, shows(RECORD), 0, "waiting"),
    ("published", 0, silent, 75, "published"),
    ("waiting", 899, shows(RECORD), 1, "waiting"),
    ("waiting", 901, shows(RECORD), 0, "signing"),
    ("waiting", 901, shows(RECORD, 5000), 1, "waiting"),
    ("waiting", 7 * DAY - 1, shows(RECORD, 2**31 - 1), 1, "waiting"),
    ("waiting", 7 * DAY + 1, shows(RECORD, 2**31 - 1), 0, "signing"),
    ("waiting", 901, shows(""), 1, "published"),
    ("waiting", 901, silent, 75, "waiting"),
    ("waiting", -10_000, shows(RECORD), 1, "waiting"),
    ("signing", 0, silent, 0, "signing"),
    ("retiring", 10 * DAY + 899, shows("v=DKIM1; p="), 1, "retiring"),
    ("retiring", 10 * DAY + 901, shows("v=DKIM1; p="), 0, "retired"),
    ("retiring", 10 * DAY + 901, shows(""), 0, "retired"),
    ("retiring", 10 * DAY + 901, shows(RECORD), 1, "retiring"),
    ("retiring", 10 * DAY + 901, shows("nonsense"), 1, "retiring"),
    ("retiring", 10 * DAY + 901, silent, 75, "retiring"),
    ("retiring", -1, shows("v=DKIM1; p="), 1, "retiring"),
]


@pytest.mark.parametrize(("stage", "after", "ask", "status", "then"), WAITS)
def test_a_step_is_taken_when_caches_and_mail_on_its_way_have_had_their_time(
    stage: Any, after: float, ask: Any, status: int, then: str
) -> None:
    key = KeyState("s", "/k", stage, 1000.0, 900)
    step = take_step(key, "example.org", PUBLIC, 10 * DAY, ask, 1000.0 + after)
    assert (step.status, step.after.stage) == (status, then)
    if after < 0:  # the clock went back: the wait begins anew
        assert step.after.since == 1000.0 + after


def test_absence_that_caches_may_remember_is_waited_for() -> None:
    key = take_step(KeyState("s", "/k", "published", 0.0), "example.org", PUBLIC, 0, shows(""), 5.0).after
    assert key.ttl == 700
    assert take_step(key, "example.org", PUBLIC, 0, shows(RECORD), 6.0).after.ttl == 900


def test_no_selector_is_used_twice() -> None:
    assert new_selector(0, frozenset()) == "s19700101"
    assert new_selector(0, frozenset({"s19700101"})) == "s19700101b"
    with pytest.raises(ValueError, match="choose one"):
        new_selector(0, frozenset(f"s19700101{letter}" for letter in ["", *"bcdefghijklmnopqrstuvwxyz"]))
