"""What the keeper of a directory got wrong puts people off, and the log says what it is."""

import time

import pytest
import pytest_twisted
from twisted.internet import reactor, task

from directory.cache import CacheSettings
from directory.identity import Certificate, Network, Unavailable
from tests.ldap.house import directory, look_up, settings_for
from tests.ldap.slapd import BASE, SERVICE, host


@pytest_twisted.ensureDeferred
async def test_a_background_that_the_server_refuses_is_told_loudly_with_its_reason(own_slapd, authority):
    own_slapd.reconfigure(f'limits dn.exact="{SERVICE}" size=unlimited', "")  # 500, as slapd has it
    settings = settings_for(own_slapd.tls_url, authority=authority)
    with directory(settings, times=CacheSettings(ttl=0.3)) as made:
        for _ in range(3):
            with pytest.raises(Unavailable, match="sizeLimitExceeded"):
                await look_up(made, "alice")
        told = [fields["problem"] for _, event, fields in made.log.lines if event == "directory_puzzle"]
        assert len(told) == 1
        assert "hosts and domain aliases cannot be read" in told[0]
        assert "sizeLimitExceeded" in told[0]
        assert made.state() == "unavailable"
        own_slapd.reconfigure(
            "overlay memberof", f"overlay memberof\nlimits dn.exact={SERVICE} size=unlimited"
        )
        await eventually(made, "alice")
        assert made.state() == "ok"


@pytest_twisted.ensureDeferred
async def test_what_was_never_read_is_unavailable(slapd, authority):
    with directory(settings_for(slapd.tls_url, authority=authority)) as made:
        assert made.state() == "unavailable"
        assert await look_up(made, "alice")
        assert made.state() == "ok"


@pytest_twisted.ensureDeferred
async def test_what_is_stale_says_why(own_slapd, authority):
    settings = settings_for(own_slapd.tls_url, authority=authority, hosts_base=f"ou=hosts,{BASE}")
    with directory(settings, times=CacheSettings(ttl=0.3)) as made:
        assert await look_up(made, Network("192.0.2.10"))
        places = [f"cn={one}," for one in ("printer", "net", "web")] + [""]
        own_slapd.change("ldapdelete", "".join(f"{place}ou=hosts,{BASE}\n" for place in places))
        await pause(0.5)
        assert await look_up(made, Network("192.0.2.10"))  # of old
        assert made.state() == "stale"
        stale = next(fields for _, event, fields in made.log.lines if event == "directory_stale")
        assert "noSuchObject" in stale["problem"]


@pytest_twisted.ensureDeferred
async def test_a_certificate_at_one_host_and_its_key_at_another_is_neither(own_slapd, authority):
    first, second, third = ("sha256:" + two * 32 for two in ("11", "22", "33"))
    own_slapd.change("ldapadd", host("w1", serialNumber="11" * 32, mailLocalAddress="w1@example.org"))
    both = ["22" * 32, "33" * 32]
    own_slapd.change("ldapadd", host("w2", serialNumber=both, mailLocalAddress="w2@example.org"))
    with directory(settings_for(own_slapd.tls_url, authority=authority)) as made:
        with pytest.raises(Unavailable, match="more than one host"):
            await look_up(made, Certificate((first, second)))
        told = [fields["problem"] for _, event, fields in made.log.lines if event == "directory_puzzle"]
        assert len(told) == 1
        assert first in told[0]
        known = await look_up(made, Certificate((second, third)))
        assert [str(address) for address in known.addresses if "org" in str(address)] == ["w2@example.org"]
        assert (await look_up(made, Certificate((first, "sha256:" + "44" * 32)))).name == first


async def eventually(made, login):
    """Look a login up until that works."""
    until = time.monotonic() + 20
    while True:
        try:
            return await look_up(made, login)
        except Unavailable:
            assert time.monotonic() < until
        await pause(0.2)


def pause(seconds):
    return task.deferLater(reactor, seconds)
