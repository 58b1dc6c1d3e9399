"""The directory in a file, with a real file, real threads and the running reactor."""

import os

import argon2
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.task import deferLater

from directory import file as module
from directory.address import Rules
from directory.drafts import Reading
from directory.file import FileDirectory, read_file
from directory.identity import Credentials, Denied, Login, Network, Unavailable, Verified
from directory.settings import (
    DirectorySettings,
    DomainSettings,
    FileSettings,
    load_directory_settings,
    open_directory,
    read_directory,
)
from sidecar.settings import SettingsError

hash_password = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash  # at the least cost


class Notebook:
    """A log that keeps what was written."""

    def __init__(self):
        self.events = []

    def notice(self, event, **fields):
        self.events.append((event, fields))

    error = notice

    def named(self, event):
        return [fields for name, fields in self.events if name == event]


@pytest.fixture
def log():
    return Notebook()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "directory.yaml"


@pytest.fixture
def open_file(path, log):
    opened = []

    def opener(text=None):
        if text is not None:
            path.write_text(text)
        directory = FileDirectory(path, Reading(), reactor=reactor, log=log)
        opened.append(directory)
        directory.start()
        return directory

    yield opener
    for directory in opened:
        directory.stop()


def replace(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


async def until(claim, seconds=5.0):
    deadline = reactor.seconds() + seconds
    while not claim():
        assert reactor.seconds() < deadline, "this did not come true in time"
        await deferLater(reactor, 0.02)


def with_password(password, **values):
    entry = "".join(f", {key}: {value}" for key, value in values.items())
    return f'logins: {{alice: {{password: "{password}"{entry}}}, bob: {{}}}}'


@pytest_twisted.ensureDeferred
async def test_directory_answers_at_once_when_it_is_started(open_file):
    directory = open_file("logins: {alice: {mailboxes: [alice@example.org]}}")
    assert directory.state() == "ok"
    assert directory.look_up(Login("alice")).domain == "example.org"
    assert directory.look_up(Login("bob")) is None
    assert directory.look_up(Network("unknown")) is None
    assert [p.subject for p in await directory.principals()] == ["login:alice"]


@pytest_twisted.ensureDeferred
async def test_change_is_picked_up_while_running(open_file, path, log):
    directory = open_file("logins: {alice: {}}")
    replace(path, "logins: {bob: {}}")
    await until(lambda: directory.look_up(Login("bob")))
    assert directory.look_up(Login("alice")) is None
    path.write_text("logins: {carol: {}}")
    await until(lambda: directory.look_up(Login("carol")))
    assert len(log.named("directory_read")) == 3


@pytest_twisted.ensureDeferred
async def test_change_of_equal_size_and_time_is_picked_up(open_file, path):
    directory = open_file("logins: {alice: {}}")
    status = path.stat()
    path.write_text("logins: {carol: {}}")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    await until(lambda: directory.look_up(Login("carol")))


@pytest_twisted.ensureDeferred
async def test_broken_file_keeps_the_last_good_one_and_is_said_once(open_file, path, log):
    directory = open_file("logins: {alice: {}}")
    replace(path, "logins:\n  alice: {mailboxes: [x]}\n  bob: {plan: ''}\n")
    await until(lambda: directory.state() == "stale")
    assert directory.look_up(Login("alice"))
    await deferLater(reactor, 3 * module.POLL)
    said = log.named("directory_broken")
    assert [str(fields["problem"]) for fields in said] == [
        f"{path}:2:23: logins.alice.mailboxes: 'x': the address has no domain",
        f"{path}:3:15: logins.bob.plan: must be a text that is not empty",
    ]
    assert {fields["kept"] for fields in said} == {"last good"}
    replace(path, "logins: {bob: {}}")
    await until(lambda: directory.state() == "ok")
    assert directory.look_up(Login("bob"))


@pytest_twisted.ensureDeferred
async def test_vanished_or_emptied_file_keeps_the_last_good_one(open_file, path):
    directory = open_file("logins: {alice: {}}")
    path.unlink()
    await until(lambda: directory.state() == "stale")
    path.write_text("")
    await deferLater(reactor, 3 * module.POLL)
    assert directory.state() == "stale"
    assert directory.look_up(Login("alice"))


@pytest_twisted.ensureDeferred
async def test_directory_without_a_file_is_unavailable_until_there_is_one(open_file, path, log):
    directory = open_file()
    assert directory.state() == "unavailable"
    with pytest.raises(Unavailable):
        directory.look_up(Login("alice"))
    with pytest.raises(Unavailable):
        await directory.principals()
    with pytest.raises(Unavailable):
        await directory.verify(Credentials("alice", b"x"))
    assert log.named("directory_broken")[0]["kept"] == "none"
    path.write_text("logins: {alice: {}}")
    await until(lambda: directory.state() == "ok")
    assert directory.look_up(Login("alice"))


@pytest_twisted.ensureDeferred
async def test_file_that_is_still_being_written_is_left_alone(open_file, path, log):
    directory = open_file("logins: {alice: {}}")
    with path.open("w") as unfinished:
        for number in range(5):
            unfinished.write(f"# line {number}\nlogins: {{}}\n"[: 9 if number else 99])
            unfinished.flush()
            await deferLater(reactor, module.POLL / 2)
            assert directory.look_up(Login("alice"))
        unfinished.truncate(0)
        unfinished.seek(0)
        unfinished.write("logins: {bob: {}}")
    await until(lambda: directory.look_up(Login("bob")))
    assert not log.named("directory_broken")


@pytest_twisted.ensureDeferred
async def test_large_file_is_read_beside_the_reactor(open_file, path, log, monkeypatch):
    monkeypatch.setattr(module, "LARGE_AT_START", 1000)
    lines = "".join(f"  user{n}: {{mailboxes: [user{n}@example.org]}}\n" for n in range(3000))
    directory = open_file("logins:\n" + lines)
    assert directory.state() == "unavailable"
    given_up = directory.look_up(Login("user1"))
    given_up.addErrback(lambda failure: failure.trap(CancelledError))
    waiting = directory.look_up(Login("user2999"))
    denied = directory.verify(Credentials("user1", b"x"))
    everybody = directory.principals()
    given_up.cancel()
    assert (await waiting).name == "user2999"
    assert await denied == Denied("wrong_password")
    assert len(await everybody) == 3000
    assert directory.look_up(Login("user2999")).name == "user2999"
    replace(path, f"logins:\n{lines}  alice: {{mailboxes: [user1@example.org]}}\n")
    await until(lambda: directory.state() == "stale", 20)
    replace(path, f"logins:\n{lines}  alice: {{}}\n")
    await until(lambda: directory.state() == "ok", 20)
    assert directory.look_up(Login("alice"))
    assert len(log.named("directory_broken")) == 1


@pytest_twisted.ensureDeferred
async def test_who_waits_for_the_first_reading_of_a_broken_file_hears_that_it_is_unavailable(
    open_file, monkeypatch
):
    monkeypatch.setattr(module, "LARGE_AT_START", 10)
    directory = open_file("logins: {alice: {plan: ''}}")
    with pytest.raises(Unavailable):
        await directory.look_up(Login("alice"))
    with pytest.raises(Unavailable):
        directory.look_up(Login("alice"))


@pytest_twisted.ensureDeferred
async def test_who_waits_when_the_process_ends_hears_that_it_is_unavailable(open_file, monkeypatch):
    monkeypatch.setattr(module, "LARGE_AT_START", 10)
    directory = open_file("logins: {alice: {}}")
    waiting = directory.look_up(Login("alice"))
    directory.stop()
    with pytest.raises(Unavailable):
        await waiting


@pytest_twisted.ensureDeferred
async def test_mistakes_that_are_logged_are_bounded(open_file, log):
    open_file("logins:\n" + "".join(f"  user{n}: {{plan: ''}}\n" for n in range(1000)))
    said = log.named("directory_broken")
    assert len(said) == module.SHOWN
    assert said[0]["problems"] == 1000


@pytest_twisted.ensureDeferred
async def test_right_password_is_verified_with_the_login_in_normal_form(open_file):
    directory = open_file(with_password(hash_password(b"swordfish")))
    assert await directory.verify(Credentials("ALICE", b"swordfish")) == Verified("alice")


@pytest.mark.parametrize(
    ("login", "password", "reason"),
    [
        ("alice", b"Swordfish", "wrong_password"),
        ("alice", b"", "wrong_password"),
        ("alice", b"swordfish\0", "wrong_password"),
        ("alice", b"x" * 4097, "wrong_password"),
        ("alice", b"\xff\xfe", "wrong_password"),
        ("bob", b"swordfish", "wrong_password"),
        ("carol", b"swordfish", "unknown_login"),
        ("al\x01ice", b"swordfish", "unknown_login"),
        ("", b"swordfish", "unknown_login"),
        ("*", b"swordfish", "unknown_login"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_credential_that_is_wrong_is_denied(open_file, login, password, reason):
    directory = open_file(with_password(hash_password(b"swordfish")))
    assert await directory.verify(Credentials(login, password)) == Denied(reason)


@pytest_twisted.ensureDeferred
async def test_disabled_login_is_told_apart_after_its_password_was_judged(open_file):
    directory = open_file(with_password(hash_password(b"swordfish"), disabled="true"))
    assert directory.look_up(Login("alice")).disabled
    assert await directory.verify(Credentials("alice", b"swordfish")) == Denied("disabled")
    assert await directory.verify(Credentials("alice", b"wrong")) == Denied("wrong_password")


@pytest_twisted.ensureDeferred
async def test_unknown_login_and_missing_password_cost_what_a_known_one_costs(open_file, monkeypatch):
    judged = []

    def matches(encoded, password):
        judged.append(encoded.split("$")[3])
        return True  # even a dummy that matched would let nobody in

    monkeypatch.setattr(module, "matches", matches)
    directory = open_file(with_password(hash_password(b"swordfish")))
    assert await directory.verify(Credentials("alice", b"x")) == Verified("alice")
    assert await directory.verify(Credentials("bob", b"x")) == Denied("wrong_password")
    assert await directory.verify(Credentials("carol", b"x")) == Denied("unknown_login")
    assert judged == ["m=8,t=1,p=1"] * 3


@pytest_twisted.ensureDeferred
async def test_more_passwords_than_may_wait_are_unavailable_and_the_rest_are_judged(open_file):
    directory = open_file(with_password(hash_password(b"swordfish")))
    waiting = [directory.verify(Credentials("alice", b"swordfish")) for _ in range(module.WAITING_MAX)]
    with pytest.raises(Unavailable):
        await directory.verify(Credentials("alice", b"swordfish"))
    assert await gatherResults(waiting) == [Verified("alice")] * module.WAITING_MAX
    assert await directory.verify(Credentials("alice", b"swordfish")) == Verified("alice")


@pytest_twisted.ensureDeferred
async def test_passwords_that_were_given_up_wait_until_their_thread_is_done(open_file):
    directory = open_file(with_password(hash_password(b"swordfish")))
    given_up = [directory.verify(Credentials("alice", b"swordfish")) for _ in range(module.WAITING_MAX)]
    for waiting in given_up:
        waiting.addErrback(lambda failure: failure.trap(CancelledError))
        waiting.cancel()
    with pytest.raises(Unavailable):
        await directory.verify(Credentials("alice", b"swordfish"))
    while directory._waiting:
        await deferLater(reactor, 0.01)
    assert await directory.verify(Credentials("alice", b"swordfish")) == Verified("alice")


@pytest_twisted.ensureDeferred
async def test_hash_that_cannot_be_computed_is_unavailable(open_file, monkeypatch):
    def matches(encoded, password):
        raise module.Unjudged("Memory allocation error")

    monkeypatch.setattr(module, "matches", matches)
    directory = open_file(with_password(hash_password(b"swordfish")))
    for _ in range(module.WAITING_MAX + 1):
        with pytest.raises(Unavailable, match="Memory"):
            await directory.verify(Credentials("alice", b"swordfish"))


@pytest_twisted.ensureDeferred
async def test_changed_password_holds_when_the_change_was_read(open_file, path):
    directory = open_file(with_password(hash_password(b"old")))
    replace(path, with_password(hash_password(b"new")))
    seen = directory._roll
    await until(lambda: directory._roll is not seen)
    assert await directory.verify(Credentials("alice", b"old")) == Denied("wrong_password")
    assert await directory.verify(Credentials("alice", b"new")) == Verified("alice")


@pytest_twisted.ensureDeferred
async def test_stopped_directory_judges_no_more(open_file):
    directory = open_file(with_password(hash_password(b"swordfish")))
    directory.stop()
    with pytest.raises(Unavailable):
        await directory.verify(Credentials("alice", b"swordfish"))


@pytest.mark.parametrize("kind", ["missing", "directory", "latin-1", "huge", "forbidden name"])
def test_file_that_cannot_be_read_is_a_mistake_in_it(path, kind, monkeypatch):
    match kind:
        case "directory":
            path.mkdir()
        case "latin-1":
            path.write_bytes(b"logins:\n  m\xfcller: {}\n")
        case "huge":
            monkeypatch.setattr(module, "LARGEST", 10)
            path.write_text("logins: {alice: {}}")
        case "forbidden name":
            path = path.with_name("a" * 300)
    with pytest.raises(SettingsError) as wrong:
        read_file(path, Reading())
    assert str(wrong.value).startswith(str(path))
    if kind == "latin-1":
        assert str(wrong.value) == f"{path}:2:1: is not UTF-8 here"


def test_settings_open_the_directory_they_name(path, log):
    path.write_text("logins: {alice: {mailboxes: [alice@example.org]}}")
    settings = DirectorySettings(
        file=FileSettings(path), domains={"example.org": DomainSettings(("example.net",))}
    )
    everyone = read_directory(settings)
    assert list(everyone.look_up(Login("alice")).addresses) == ["alice@example.org", "alice@example.net"]
    directory = open_directory(settings, reactor=reactor, log=log)
    assert directory.state() == "unavailable"


@pytest.mark.parametrize(
    "domains",
    [
        {"a.example": ("b.example",), "b.example": ()},
        {"a.example": ("c.example",), "b.example": ("c.example",)},
        {"a.example": ("b.example", "b.example")},
        {"a.example": ("a.example",)},
    ],
)
def test_domain_is_alias_of_one_domain_only(domains):
    with pytest.raises(ValueError, match=r"alias"):
        DirectorySettings(domains={name: DomainSettings(aliases) for name, aliases in domains.items()})


def test_section_is_read_from_the_settings_file_and_its_mistakes_are_named(tmp_path):
    settings = tmp_path / "config.yaml"
    settings.write_text(
        "version: 1\n"
        "directory:\n"
        "  file: {path: /etc/x.yaml}\n"
        "  domains: {Example.ORG: {aliases: [EXAMPLE.net, пример.рф]}}\n"
        "  addresses: {recipient_delimiter: +, fold_local_part: false}\n"
        "  terms: {required: true, url: 'https://example.org/terms'}\n"
        "  cache: {ttl: 5 min, negative_ttl: 1 s, stale: 1 day, entries: 7}\n"
    )
    section = load_directory_settings(settings)
    assert section.domain_aliases == {"example.org": ("example.net", "xn--e1afmkfd.xn--p1ai")}
    assert section.addresses == Rules(fold_local_part=False, recipient_delimiter="+")
    assert (section.cache.ttl, section.cache.stale, section.terms.required) == (300, 86400, True)
    settings.write_text(
        "directory: {domains: {'*.b': {}}, addresses: {recipient_delimiter: '@'}, kind: sql}\n"
    )
    with pytest.raises(SettingsError) as wrong:
        load_directory_settings(settings)
    said = [f"{problem.path}: {problem.text}" for problem in wrong.value.problems]
    assert len(said) == 3
    assert any("the domain is not a domain name" in text for text in said)
    assert any("recipient_delimiter is a few signs" in text for text in said)
