"""Attacks on two processes or hosts that share a ledger; behind them a real slapd that locks at five.

An attack is a line of the table: who is tried, with what, from where. To add one, add a line. Each is shown
what no attack may reach: the directory sees no more wrong passwords of a login than the budget, nobody is
locked in it, and the owner still gets in from where they have been.
"""

import base64
import collections
import itertools
import re
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import DeferredSemaphore, ensureDeferred

from directory.cache import CacheSettings
from directory.ldap_directory import LdapDirectory
from ledger.settings import LedgerSettings, RedisSettings, SqliteSettings, open_ledger
from saslauthd.settings import AuthCacheSettings, AuthSettings, GuardSettings
from tests.ldap.house import READING, Lines, settings_for
from tests.ldap.slapd import Slapd, dn_of, password, user
from tests.redis.server import running
from tests.saslauthd.stage import stage

BUDGET = 4  # slapd locks at 5, and counts until a success
GUARD = GuardSettings(binds=BUDGET, binds_window=0.0, floor=0.0, delay=0.0)
HOME = "198.51.100.7"
OWNERS = ("alice", "bob")
TOGETHER = 12  # attempts at a time

#: name → attempts as (login, password, address); "right" is the login's own password.
ATTACKS = {
    "one address, many logins": [(user(n), f"guess{k}", "192.0.2.66") for n in range(40) for k in range(5)],
    "many addresses, one login": [("alice", f"guess{n}", f"192.0.2.{n}") for n in range(200)],
    "a sprayed password": [
        (login, "Summer2026", f"192.0.2.{n % 250}")
        for n, login in enumerate([*map(user, range(150)), *OWNERS] * 2)
    ],
    "one phone with an old password": [("alice", "the old one", HOME)] * 60,
    "IPv6 hopping within a /64": [("alice", f"guess{n}", f"2001:db8:1:2::{n:x}") for n in range(1, 120)],
    "IPv6 hopping over many /64": [("alice", f"guess{n}", f"2001:db8:1:{n:x}::1") for n in range(120)],
    "success and failure mixed": [
        attempt
        for n in range(60)
        for attempt in ((user(1), "right", "192.0.2.66"), ("alice", f"guess{n}", "192.0.2.66"))
    ],
    "guesses while the owner is at work": [
        attempt
        for n in range(100)
        for attempt in (
            *(("alice", f"guess{n}-{k}", f"192.0.2.{(3 * n + k) % 250}") for k in range(3)),
            ("alice", "right", HOME),
        )
    ],
    "other spellings of one login": [
        (spelled, f"guess{n}", f"192.0.2.{n}")
        for n, spelled in enumerate(["alice", "ALICE", "Alice", "alice@example.org"] * 15)
    ],
    "one password for everybody from one address": [
        (user(n), "Summer2026", "192.0.2.66") for n in range(120)
    ],
}


class House:
    """Two stages on one ledger and one slapd."""

    def __init__(self, slapd, hosts):
        self.slapd = slapd
        self.hosts = itertools.cycle(hosts)
        self.answers = collections.Counter()

    async def ask(self, login, word, address):
        client = await next(self.hosts).greeted()
        secret = password(login) if word == "right" else word.encode()
        response = base64.b64encode(b"\0%s\0%s" % (login.encode(), secret))
        client.send(
            b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\trip=%s\tresp=%s\n" % (address.encode(), response)
        )
        line = await client.line()
        await client.leave()
        answer = line.partition(b"\t")[0].decode() or "454"
        self.answers[answer] += 1
        return answer

    async def attack(self, attempts):
        turns = DeferredSemaphore(TOGETHER)
        asked = [turns.run(lambda one=one: ensureDeferred(self.ask(*one))) for one in attempts]
        return [await one for one in asked]

    def wrong_binds(self):
        """The most wrong passwords of each login in a row that slapd has seen."""
        said = self.slapd.stats.read_text("utf-8", "replace")
        names, row, most = {}, collections.Counter(), collections.Counter()
        for line in said.splitlines():
            if asked := re.search(r'(conn=\d+ op=\d+) BIND dn="uid=([^,"]+),ou=people[^"]*" method', line):
                names[asked[1]] = asked[2].lower()
            elif told := re.search(r"(conn=\d+ op=\d+) RESULT tag=97 err=(\d+)", line):
                name = names.get(told[1])
                row[name] = 0 if told[2] == "0" else row[name] + 1
                most[name] = max(most[name], row[name])
        del most[None]
        return most

    def state(self, login):
        """How many failures slapd counts for a login, and whether it is locked."""
        entry = self.slapd.operational(dn_of(login))
        return entry.count("pwdFailureTime:"), "pwdAccountLockedTime:" in entry


@asynccontextmanager
async def house(kind):
    place = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    slapd = Slapd(place / "slapd", None, certificate="", stats=True).make().start()
    slapd.add_groups()
    auth = AuthSettings(guard=GUARD, cache=AuthCacheSettings(failures=0.0))
    try:
        redis = running()
        shared = RedisSettings(f"unix://{redis.socket}", prefix=redis.prefix())
        # one file for both is two processes of one host; with Redis each host has its own
        names = ("one", "other") if kind == "redis" else ("one", "one")
        ledgers = [
            LedgerSettings(kind, SqliteSettings(place / f"{name}.sqlite"), redis=shared) for name in names
        ]
        async with host(ledgers[0], slapd, auth) as one, host(ledgers[1], slapd, auth) as other:
            yield House(slapd, (one, other))
    finally:
        slapd.stop()
        shutil.rmtree(place)


@asynccontextmanager
async def host(settings, slapd, auth):
    ldap = settings_for(slapd.url)
    lines = Lines()
    directory = LdapDirectory(ldap, READING, CacheSettings(), reactor=reactor, log=lines)
    ledger = open_ledger(settings, reactor=reactor, log=lines)
    async with stage(reactor, ledger, directory=directory, auth=auth) as set_up:
        try:
            yield set_up
        finally:
            await set_up.service.drain()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.timeout(120)
@pytest_twisted.ensureDeferred
async def test_nobody_is_locked_and_the_owner_gets_in(name, kind):
    async with house(kind) as there:
        for owner in OWNERS:
            assert await there.ask(owner, "right", HOME) == "OK"
        attempts = ATTACKS[name]
        half = len(attempts) // 2
        await there.attack(attempts[:half])
        for owner in OWNERS:
            assert await there.ask(owner, "right", HOME) == "OK", "in the midst of it"
        answers = await there.attack(attempts[half:])
        for owner in OWNERS:
            assert await there.ask(owner, "right", HOME) == "OK", "after it"
        guesses = [n for n, (_, word, _) in enumerate(attempts[half:]) if word != "right"]
        assert {answers[n] for n in guesses} <= {"FAIL", "454"}
        seen = there.wrong_binds()
        assert seen, "the directory was never asked, so this is no attack"
        assert max(seen.values()) <= BUDGET, seen
        tried = {login.lower().partition("@")[0] for login, _, _ in attempts}
        states = {login: there.state(login) for login in sorted(tried)[:50]}
        assert not [login for login, (count, is_locked) in states.items() if is_locked or count > BUDGET]
