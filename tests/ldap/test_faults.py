"""An outage never becomes a wrong password: what is unavailable says so in time, and comes back by itself.

8 s is what AUTH may take until its 454; 5 s is policyd's deadline; within 10 s of the directory's return all
is well again.
"""

import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, DeferredList

from directory.cache import CacheSettings
from directory.identity import Denied, Login, Network, Unavailable, Verified
from sidecar.settings import Secret
from tests.ldap.house import directory, look_up, settings_for, verify
from tests.ldap.proxy import Proxy
from tests.ldap.slapd import BASE, SERVICE, Slapd, password, user

AUTH, RCPT, BACK = 8.0, 5.0, 10.0


class Fault:
    """Something that goes wrong with a slapd, and right again."""

    def __init__(self, slapd):
        self.slapd = slapd
        self.url = slapd.tls_url
        self.start_tls = False

    def end(self):
        pass


class Stopped(Fault):
    def go_wrong(self):
        self.slapd.stop()

    def go_right(self):
        self.slapd.start()


class Frozen(Fault):
    def go_wrong(self):
        self.slapd.freeze()

    def go_right(self):
        self.slapd.thaw()


class BlackHole(Fault):
    def __init__(self, slapd):
        super().__init__(slapd)
        self.proxy = Proxy(slapd.tls_port)
        self.url = f"ldaps://127.0.0.1:{self.proxy.port}"

    def go_wrong(self):
        self.proxy.is_open = False

    def go_right(self):
        self.proxy.is_open = True

    def end(self):
        self.proxy.stop()


class OtherCertificate(Fault):
    certificate = "expired"

    def go_wrong(self):
        self._restart(self.certificate)

    def go_right(self):
        self._restart("good")

    def _restart(self, certificate):
        self.slapd.stop()
        self.slapd.configure(certificate)
        self.slapd.start()


class WrongName(OtherCertificate):
    certificate = "other"


class StartTlsRefused(OtherCertificate):
    certificate = ""

    def __init__(self, slapd):
        super().__init__(slapd)
        self.url, self.start_tls = slapd.url, True


class StartTlsWrongName(StartTlsRefused):
    certificate = "other"


class WrongServicePassword(Fault):
    def go_wrong(self):
        self._change("rotated")

    def go_right(self):
        self._change("service-password")

    def _change(self, secret):
        change = (
            "replace: userPassword",
            f"userPassword: {secret}",
            "-",
            "replace: pwdReset",
            "pwdReset: FALSE",
        )
        self.slapd.modify(SERVICE, *change)
        self.slapd.stop()  # kept connections stay bound as they are
        self.slapd.start()


FAULTS = [
    Stopped,
    Frozen,
    BlackHole,
    OtherCertificate,
    WrongName,
    StartTlsRefused,
    StartTlsWrongName,
    WrongServicePassword,
]


@contextmanager
def ended(fault):
    try:
        yield fault
    finally:
        fault.end()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("kind", "checker"),
    [*((kind, "own") for kind in FAULTS), (Frozen, "ldap3"), (WrongServicePassword, "ldap3")],
    indirect=["checker"],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_an_outage_is_unavailable_in_time_and_ends_by_itself(own_slapd, authority, kind, checker):
    with ended(kind(own_slapd)) as fault:
        settings = settings_for(fault.url, authority=authority, start_tls=fault.start_tls)
        with directory(settings, checker=checker) as made:
            assert await verify(made, "alice", password("alice")) == Verified("alice")
            fault.go_wrong()
            await task.deferLater(reactor, 0.1)  # the loop stood still meanwhile
            await everybody_is_put_off(made, may_bind=kind is WrongServicePassword)
            assert (await look_up(made, "alice")).name == "alice"  # from the cache
            began = time.monotonic()
            with pytest.raises(Unavailable):
                await look_up(made, user(99))
            assert time.monotonic() - began < RCPT
            # a second later the breaker answers, or a probe
            await everybody_is_put_off(made, may_bind=kind is WrongServicePassword)
            fault.go_right()
            await comes_back(made)


async def everybody_is_put_off(made, *, may_bind):
    """Nobody gets a refusal for a right password, and nobody waits too long."""
    began = time.monotonic()
    known = verify(made, "alice", password("alice"))
    others = [verify(made, user(index), password(user(index))) for index in range(20)]
    results = await DeferredList([known, *others], consumeErrors=True)
    assert time.monotonic() - began < AUTH
    for (succeeded, result), is_known in zip(results, [True] + [False] * 20, strict=True):
        if succeeded:
            assert may_bind
            assert is_known
            assert result == Verified("alice")
        else:
            assert result.check(Unavailable), result
    if may_bind:
        assert results[0][0]


async def comes_back(made):
    until = time.monotonic() + BACK
    while True:
        try:
            assert await verify(made, user(5), password(user(5))) == Verified(user(5))
            assert (await look_up(made, user(6))).name == user(6)
            assert await verify(made, user(5), b"wrong") == Denied("wrong_password")
            return
        except Unavailable:
            assert time.monotonic() < until
        await task.deferLater(reactor, 0.2)


@pytest_twisted.ensureDeferred
async def test_a_restart_under_load_refuses_nobody(own_slapd, authority, checker):
    with directory(settings_for(own_slapd.tls_url, authority=authority), checker=checker) as made:
        outcomes = []

        def one(index):
            login = user(index % 50)
            return verify(made, login, password(login)).addBoth(outcomes.append)

        for round in range(3):
            running = [one(index) for index in range(30)]
            await task.deferLater(reactor, 0.05)
            own_slapd.stop()
            await task.deferLater(reactor, 0.1)
            own_slapd.start()
            await DeferredList(running)
            await task.deferLater(reactor, 1.5 if round < 2 else 0)
        assert not [outcome for outcome in outcomes if isinstance(outcome, Denied)]
        await comes_back(made)


@pytest.fixture
def second(slapd, place, authority):
    home = Path(tempfile.mkdtemp(prefix="two", dir=place))
    shutil.copytree(slapd.home / "db", home / "db")
    server = Slapd(home, authority)
    server.configure("good")
    yield server.start()
    server.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", [Stopped, Frozen, BlackHole], ids=lambda kind: kind.__name__)
async def test_the_next_server_answers_and_the_first_one_gets_its_place_back(
    own_slapd, second, authority, kind
):
    with ended(kind(own_slapd)) as fault:
        settings = settings_for(fault.url, second.tls_url, authority=authority)
        with directory(settings) as made:
            fault.go_wrong()
            began = time.monotonic()
            assert await verify(made, "alice", password("alice")) == Verified("alice")
            assert time.monotonic() - began < AUTH
            began = time.monotonic()
            assert await verify(made, "bob", password("bob")) == Verified("bob")
            assert time.monotonic() - began < AUTH
            fault.go_right()
            await task.deferLater(reactor, 6)
            second.stop()  # now only the first one can answer
            await comes_back(made)


@pytest_twisted.ensureDeferred
async def test_stale_answers_bridge_an_outage_and_the_state_says_so(own_slapd, authority):
    times = CacheSettings(ttl=0.2)
    with directory(settings_for(own_slapd.tls_url, authority=authority), times=times) as made:
        alice = await look_up(made, "alice")
        own_slapd.stop()
        await task.deferLater(reactor, 0.3)
        assert await look_up(made, "alice") == alice
        assert made.state() == "stale"
        assert "directory_stale" in made.log.events()
        own_slapd.start()
        await comes_back(made)
        await look_up(made, "alice")
        assert made.state() == "ok"


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_before_an_outage_makes_nobody_unknown_in_it(own_slapd, authority):
    with directory(settings_for(own_slapd.tls_url, authority=authority)) as made:
        assert await verify(made, "alice", b"wrong") == Denied("wrong_password")
        own_slapd.stop()
        assert (await look_up(made, "alice")).name == "alice"


@pytest_twisted.ensureDeferred
async def test_who_is_known_waits_for_no_servers_that_are_known_to_be_away(own_slapd, authority):
    settings = settings_for(*[own_slapd.tls_url] * 5, authority=authority, hosts_base=f"ou=hosts,{BASE}")
    with directory(settings, times=CacheSettings(ttl=1)) as made:
        alice = await look_up(made, "alice")
        own_slapd.freeze()
        try:
            until = time.monotonic() + 40  # each of five takes 2 s to be found out
            while made.state() != "stale" or not made._lookups.is_away():
                assert time.monotonic() < until
                assert (await look_up(made, "alice")).name == "alice"
                await task.deferLater(reactor, 0.1)
            for _ in range(5):
                found = made.look_up(Login("alice"))
                assert not isinstance(found, Deferred)
                assert found.addresses == alice.addresses
        finally:
            own_slapd.thaw()
        await comes_back(made)
        until = time.monotonic() + BACK
        while made.state() != "ok":
            assert time.monotonic() < until
            await look_up(made, "alice")
            await task.deferLater(reactor, 0.1)


@pytest_twisted.ensureDeferred
async def test_the_first_look_up_waits_for_hosts_no_longer_than_for_anything_else(own_slapd, authority):
    own_slapd.freeze()
    try:
        settings = settings_for(*[own_slapd.tls_url] * 8, authority=authority, hosts_base=f"ou=hosts,{BASE}")
        with directory(settings) as made:
            began = time.monotonic()
            for question in (Login("alice"), Network("192.0.2.1")):
                with pytest.raises(Unavailable):
                    await look_up(made, question)
            assert time.monotonic() - began < 14  # 4 s each; eight servers take 16 s
    finally:
        own_slapd.thaw()


@pytest_twisted.ensureDeferred
async def test_old_hosts_bridge_an_outage_and_the_state_says_so(own_slapd, authority):
    printer = Network("192.0.2.10")
    times = CacheSettings(ttl=0.2, stale=30)
    with directory(settings_for(own_slapd.tls_url, authority=authority), times=times) as made:
        known = await look_up(made, printer)
        own_slapd.stop()
        await task.deferLater(reactor, 0.3)
        assert await look_up(made, printer) == known
        assert made.state() == "stale"
        told = [(*line[:2], line[2].get("what")) for line in made.log.lines]
        assert ("warning", "directory_stale", "hosts") in told
        own_slapd.start()
        await comes_back(made)
        assert await look_up(made, printer) == known
        assert made.state() == "ok"


@pytest_twisted.ensureDeferred
async def test_a_wrong_service_password_is_told_loudly(slapd, authority):
    settings = settings_for(slapd.tls_url, authority=authority, password=Secret("wrong"))
    with directory(settings) as made:
        with pytest.raises(Unavailable, match="service account"):
            await verify(made, "alice", password("alice"))
        assert "ldap_server_failed" in made.log.events()
        problems = [fields["problem"] for level, _, fields in made.log.lines if level == "error"]
        assert any(f"refuses the service account {SERVICE}" in problem for problem in problems)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("line", "words"), [("dbnosync", "restrict bind"), ("threads 4", "disallow bind_simple")]
)
async def test_a_server_that_lets_nobody_bind_for_a_while_makes_no_password_wrong(
    own_slapd, authority, checker, line, words
):
    with directory(settings_for(own_slapd.tls_url, authority=authority), checker=checker) as made:
        assert await verify(made, "alice", password("alice")) == Verified("alice")  # who she is, is known now
        own_slapd.reconfigure(line, f"{line}\n{words}")
        until = time.monotonic() + BACK
        said = ""  # first that the kept connection is gone
        while "result 53" not in said:
            assert time.monotonic() < until, said
            with pytest.raises(Unavailable) as put_off:
                await verify(made, "alice", password("alice"))
            said = str(put_off.value)
            await task.deferLater(reactor, 0.1)
        own_slapd.reconfigure(words, "")
        await comes_back(made)
