"""A name server that hangs costs the server whose name it is, and nobody else."""

import socket
import threading

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.internet.task import deferLater

from directory.identity import Unavailable, Verified
from tests.ldap.house import directory, look_up, settings_for, verify
from tests.ldap.slapd import password, user

HANGING = "hangs.example.org"


@pytest.fixture
def hanging(monkeypatch):
    """Names whose name server says nothing until the test is over; the names that were asked for."""
    real, over, asked = socket.getaddrinfo, threading.Event(), []

    def getaddrinfo(host, port, *args, **named):
        if host == HANGING and not named.get("flags", 0) & socket.AI_NUMERICHOST:
            asked.append(host)
            assert over.wait(120)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, port, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(reactor.nameResolver, "_getaddrinfo", getaddrinfo)
    yield asked
    over.set()


@pytest_twisted.ensureDeferred
async def test_the_next_server_is_asked_when_the_name_of_the_first_is_not_answered(slapd, authority, hanging):
    named = slapd.tls_url.replace("127.0.0.1", "localhost")
    with directory(settings_for(f"ldaps://{HANGING}", named, authority=authority)) as made:
        began = reactor.seconds()
        assert (await look_up(made, "alice")).name == "alice"
        assert reactor.seconds() - began < 8  # 2 s for the name; READ_ALL is 30 s
        logins = [user(number) for number in range(20)]
        verified = await DeferredList([verify(made, login, password(login)) for login in logins])
        assert [result for _, result in verified] == [Verified(login) for login in logins]
        for login in logins:
            assert (await look_up(made, login)).name == login
        assert made.log.events().count("ldap_server_failed") >= 2  # by searches and by binds
        assert len(hanging) < 10  # not a thread for everybody who waits


@pytest_twisted.ensureDeferred
async def test_closing_the_directory_does_not_wait_for_a_name_server(slapd, authority, hanging):
    with directory(settings_for(f"ldaps://{HANGING}", slapd.tls_url, authority=authority)) as made:
        asked = [ensureDeferred(look_up(made, user(number))) for number in range(5)]
        while not hanging:
            await deferLater(reactor, 0.01)
        began = reactor.seconds()
        made.stop()
        assert reactor.seconds() - began < 1  # not even the 2 s of a name: the reactor serves everybody
        for succeeded, result in await DeferredList(asked, consumeErrors=True):
            assert not succeeded
            assert isinstance(result.value, Unavailable)
