"""What a real Exim makes of our answers: 235, 535 and 435, with and without an initial response."""

from contextlib import asynccontextmanager

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from saslauthd.session import Rules
from tests.saslauthd import postfix as real
from tests.saslauthd.exim import Exim
from tests.saslauthd.smtp import MANNERS, exchange
from tests.saslauthd.stage import Ledger, Stage


@pytest.fixture(scope="module")
def exim():
    made = Exim()
    yield made
    made.stop()


@asynccontextmanager
async def served(exim):
    """Our server where this Exim asks."""
    set_up = Stage(reactor, Ledger())
    set_up.factory.rules = Rules(require_tls=False)
    set_up.service.start()
    real.unlink(exim.socket)
    port = reactor.listenUNIX(exim.socket, set_up.factory, backlog=4096, mode=0o666)
    try:
        yield set_up
    finally:
        await port.stopListening()
        await set_up.service.drain()


@pytest.mark.parametrize(("mechanism", "initial"), MANNERS)
@pytest_twisted.ensureDeferred
async def test_the_right_password_is_235_and_a_wrong_one_535(exim, mechanism, initial):
    async with served(exim) as set_up:
        code, _ = await deferToThread(exchange, exim.port, mechanism, initial, "alice", "pass")
        assert code == 235, exim.log
        code, _ = await deferToThread(exchange, exim.port, mechanism, initial, "alice", "wrong")
        assert code == 535
        assert set_up.directory.asked == ["alice", "alice"]


@pytest.mark.parametrize(("mechanism", "initial"), MANNERS)
@pytest_twisted.ensureDeferred
async def test_a_directory_that_is_away_is_a_temporary_failure(exim, mechanism, initial):
    async with served(exim) as set_up:
        set_up.directory.is_away = True
        code, _ = await deferToThread(exchange, exim.port, mechanism, initial, "alice", "pass")
        assert code == 435
        set_up.directory.is_away = False
        code, _ = await deferToThread(exchange, exim.port, mechanism, initial, "alice", "pass")
        assert code == 235
