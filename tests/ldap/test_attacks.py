"""A table of attacks against a real slapd with a password policy that locks at the fifth wrong password.

What the directory saw, whether the owner still gets in from a network that it has used, and that nobody is
locked. `A` and `B` stand for two saslauthd processes that share a ledger.
"""

import io
import subprocess

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.internet.task import deferLater

from directory.cache import CacheSettings
from directory.identity import Credentials, Unavailable, Verified
from directory.ldap_directory import LdapDirectory, own_checker
from ledger.sqlite import SqliteLedger
from saslauthd import guard
from saslauthd.answers import Request
from saslauthd.mechanisms import Refused
from saslauthd.sentry import Guarded
from saslauthd.service import AuthService
from saslauthd.settings import AuthSettings, GuardSettings, Settings
from sidecar.log import Log
from sidecar.metrics import Metrics
from tests.ldap.house import READING, Lines, settings_for
from tests.ldap.slapd import BASE, dn_of, password, user

HOME = b"192.0.2.10"  # where the owners have logged in before
LOCKS_AT = 5
GUESSES = 60
VICTIM = "bob"


def phone(n):
    return VICTIM, b"old password", HOME


#: name → the n-th attempt: login, password, client address
ATTACKS = {
    "one address, many logins": lambda n: (user(n), b"Winter2026!", b"203.0.113.1"),
    "many addresses, one login": lambda n: (VICTIM, b"guess %d" % n, b"203.0.113.%d" % n),
    "one address, one login": lambda n: (VICTIM, b"guess %d" % n, b"203.0.113.1"),
    "a sprayed password, many addresses": lambda n: (
        user(n % 8),
        b"Summer%d" % (n // 8),
        b"203.0.113.%d" % n,
    ),
    "one phone with an old password": phone,
    "hopping within a /64": lambda n: (VICTIM, b"guess %d" % n, b"2001:db8:1:2:%x::%x" % (n, n * 7)),
    "every spelling of one login": lambda n: (
        [VICTIM, "BOB", "bob@example.com", "Bob@Example.COM"][n % 4],
        b"guess %d" % n,
        b"203.0.113.%d" % n,
    ),
    "success and failure mixed": lambda n: (
        ("user0900", password("user0900"), b"203.0.113.1")
        if n % 2
        else (VICTIM, b"guess %d" % n, b"203.0.113.1")
    ),
    "from the owner's own network": lambda n: ("fred", b"guess %d" % n, HOME),
}


class Counting:
    """Binds, and counts those that fail, by entry."""

    def __init__(self, settings, log):
        self._own = own_checker(settings, reactor=reactor, log=log)
        self.start, self.stop = self._own.start, self._own.stop
        self.failed = {}

    async def _check(self, dn, secret, deadline):
        result = await self._own.check(dn, secret, deadline)
        if result.code:
            self.failed[dn] = self.failed.get(dn, 0) + 1
        return result

    def check(self, dn, secret, deadline):
        return ensureDeferred(self._check(dn, secret, deadline))


class House:
    """Two services on one ledger file and one slapd."""

    def __init__(self, slapd, path, **guard):
        self.slapd = slapd
        section = settings_for(slapd.url)
        self.log = Lines()
        self.counting = Counting(section, self.log)
        self.directory = LdapDirectory(
            section, READING, CacheSettings(), reactor=reactor, log=self.log, checker=self.counting
        )
        settings = Settings(
            version=1, auth=AuthSettings(guard=GuardSettings(**{"floor": 0.0, "delay": 0.0, **guard}))
        )
        self.services = [
            AuthService(
                settings,
                reactor=reactor,
                load=lambda: settings,
                log=Log(io.StringIO(), program="test"),
                metrics=Metrics(),
                open_directory=lambda *_, **__: self.directory,
                open_ledger=lambda *_, **__: SqliteLedger(path, reactor=reactor, log=self.log),
            )
            for _ in "AB"
        ]
        for service in self.services:
            service._ledger.start()
            service._follow(service._ledger)
        self.directory.start()

    async def ready(self):
        while any(service._judge.blocks is None for service in self.services):
            await deferLater(reactor, 0.01)
        assert await self.auth(VICTIM, password(VICTIM), HOME) == Verified(VICTIM)

    async def auth(self, login, secret, rip, which=0):
        request = Request(1, reactor.seconds(), "PLAIN", b"smtp", True, rip, asked_at=reactor.seconds())
        credentials = Credentials(login.lower(), secret)
        try:
            return await self.services[which].judge(credentials, request)
        except Unavailable as away:
            return away

    async def stop(self):
        for service in self.services:
            await service._ledger.stop()
        self.directory.stop()

    def locked(self):
        """Entries that slapd has locked, and how many failures it holds of each."""
        command = ["ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-H", self.slapd.ldapi, "-x", "-D"]
        command += [f"cn=root,{BASE}", "-w", "root", "-b", f"ou=people,{BASE}", "(pwdFailureTime=*)"]
        told = subprocess.run(
            [*command, "pwdFailureTime", "pwdAccountLockedTime"], capture_output=True, text=True, check=True
        ).stdout
        return [r.splitlines()[0] for r in told.split("\n\n") if "pwdAccountLockedTime" in r]


@pytest.fixture
def stores(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("at_once", [1, 20])
async def test_no_attack_locks_anybody_and_the_owner_gets_in(own_slapd, stores, name, at_once):
    house = House(own_slapd, stores)
    try:
        await house.ready()
        outcomes = []
        for n in range(0, GUESSES, at_once):
            tries = [
                ensureDeferred(house.auth(*ATTACKS[name](i), which=i % 2)) for i in range(n, n + at_once)
            ]
            outcomes += [outcome for _, outcome in await DeferredList(tries)]
        assert max(house.counting.failed.values()) < LOCKS_AT
        assert house.locked() == []
        for which in 0, 1:
            assert await house.auth(VICTIM, password(VICTIM), HOME, which) == Verified(VICTIM)
        # Nobody is refused whose password was not checked: every other answer is "later".
        refused = [one for one in outcomes if isinstance(one, Refused)]
        assert all(one.reason in ("wrong_password", "unknown_login") for one in refused)
        assert all(isinstance(one, (Refused, Guarded, Verified)) for one in outcomes), outcomes
        assert sum(isinstance(one, Guarded) for one in outcomes) > 0 or name in MILD
    finally:
        await house.stop()


#: Attacks that stay below every bound: they are spread over many logins, or repeat one password.
MILD = {"one phone with an old password", "a sprayed password, many addresses"}


@pytest_twisted.ensureDeferred
async def test_where_the_directory_never_forgets_a_success_is_what_refills_the_budget(
    own_slapd, stores, monkeypatch
):
    monkeypatch.setattr(guard, "FLIGHT", 0.2)  # guesses that are older than this are forgiven
    house = House(own_slapd, stores, binds_window=0.0)
    try:
        await house.ready()
        for round_ in range(3):
            await deferLater(reactor, 0.5)
            assert await house.auth(VICTIM, password(VICTIM), HOME) == Verified(VICTIM)
            for n in range(6):
                await house.auth(VICTIM, b"guess %d %d" % (round_, n), b"203.0.113.%d" % (10 * round_ + n))
            assert house.locked() == []
        assert house.counting.failed[dn_of(VICTIM)] == 9
    finally:
        await house.stop()


@pytest_twisted.ensureDeferred
async def test_a_directory_that_goes_away_costs_nobody_the_budget(own_slapd, stores):
    house = House(own_slapd, stores)
    try:
        await house.ready()
        own_slapd.stop()
        for _ in range(12):
            assert isinstance(await house.auth(VICTIM, password(VICTIM), HOME), Unavailable)
        own_slapd.start()
        outcome = None
        for _ in range(100):
            outcome = await house.auth(VICTIM, password(VICTIM), HOME)
            if outcome == Verified(VICTIM):
                break
            await deferLater(reactor, 0.1)
        assert outcome == Verified(VICTIM)
    finally:
        await house.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("binds_window", [900.0, 0.0])
async def test_who_retries_while_the_directory_is_frozen_is_let_in_once_it_is_back(
    own_slapd, stores, monkeypatch, binds_window
):
    monkeypatch.setattr("directory.binds.PATIENCE", 1.0)
    house = House(own_slapd, stores, binds_window=binds_window)
    try:
        await house.ready()
        own_slapd.freeze()
        try:
            for _ in range(12):
                assert isinstance(await house.auth(VICTIM, password(VICTIM), HOME), Unavailable)
                await deferLater(reactor, 0.7)
        finally:
            own_slapd.thaw()
        until = reactor.seconds() + 10
        while (outcome := await house.auth(VICTIM, password(VICTIM), HOME)) != Verified(VICTIM):
            assert reactor.seconds() < until, outcome
            await deferLater(reactor, 0.3)
    finally:
        await house.stop()
