"""The signer is asked whether it has read its tables, and mail waits until it has."""

import signal
import tempfile
from pathlib import Path
from socket import socketpair

import pytest
import pytest_twisted
from twisted.internet import reactor

from milter.probe import _signature
from milter.wire import Packet, encode
from submitward.dkim.keyfile import make_key
from tests.milter.stage import stage
from tests.milter.test_opendkim import CONF, started

OWN = ("From", " Alice <alice@example.org>")
KEYS, SIGNS = "k example.org:s:{home}/s.private\n", "*@example.org k\n"


@pytest.fixture
def home():
    with tempfile.TemporaryDirectory(prefix="sw", dir="/var/tmp") as folder:
        home = Path(folder)
        make_key(home / "s.private")
        (home / "KeyTable").write_text(KEYS.replace("{home}", str(home)))
        (home / "SigningTable").write_text(SIGNS)
        (home / "conf").write_text(CONF.replace("{home}", str(home)))
        yield home


def section(home: Path, ask: bool = True) -> str:
    more = f", socket: {home}/socket, confirm: true" if ask else ""
    return f"{{key_table: {home}/KeyTable, signing_table: {home}/SigningTable{more}}}"


async def send(set_up, number: int) -> str:
    """A message of alice's on a new connection: ``pass``, or the code of its refusal."""
    await set_up.record(f"Q{number}")
    mta = await set_up.greeted()
    answer = await mta.send(reactor, OWN, queue_id=f"Q{number}")
    return "pass" if answer == Packet(b"c") else answer.data[:9].decode()


@pytest_twisted.ensureDeferred
async def test_what_the_signer_has_read_passes_and_is_asked_once_a_minute(home: Path) -> None:
    with started(home) as daemon:
        async with stage(reactor, sign=section(home)) as set_up:
            assert await send(set_up, 1) == "pass"
            daemon.send_signal(signal.SIGSTOP)
            try:
                assert await send(set_up, 2) == "pass"
            finally:
                daemon.send_signal(signal.SIGCONT)


@pytest_twisted.ensureDeferred
async def test_a_line_that_the_signer_has_not_read_makes_mail_wait_for_the_reload(home: Path) -> None:
    (home / "SigningTable").write_text("")
    with started(home) as daemon:
        (home / "SigningTable").write_text(SIGNS)  # the milter starts after it, and takes it for an old one
        async with stage(reactor, sign=section(home, ask=False)) as set_up:
            assert await send(set_up, 1) == "pass"  # OpenDKIM relays that unsigned
        async with stage(reactor, sign=section(home)) as set_up:
            assert await send(set_up, 1) == "451 4.7.5"
            assert "reason=key_unread" in set_up.line()
            assert await set_up.used() == 0
            daemon.send_signal(signal.SIGUSR1)
            for number in range(2, 200):
                if await send(set_up, number) == "pass":
                    break
                await set_up.pause(0.05)
            else:
                raise AssertionError(set_up.log[-1])


@pytest_twisted.ensureDeferred
async def test_a_key_of_another_selector_is_not_the_one_that_is_published(home: Path) -> None:
    with started(home):
        (home / "KeyTable").write_text((home / "KeyTable").read_text().replace(":s:", ":other:"))
        async with stage(reactor, sign=section(home)) as set_up:
            assert await send(set_up, 1) == "451 4.7.5"


@pytest.mark.parametrize("how", ["away", "frozen"])
@pytest_twisted.ensureDeferred
async def test_a_signer_that_does_not_answer_makes_mail_wait(home: Path, how: str) -> None:
    async with stage(reactor, sign=section(home)) as set_up:
        if how == "away":
            assert await send(set_up, 1) == "451 4.3.0"
        else:
            with started(home) as daemon:
                daemon.send_signal(signal.SIGSTOP)
                try:
                    assert await send(set_up, 1) == "451 4.3.0"
                finally:
                    daemon.send_signal(signal.SIGCONT)
        assert "reason=signer_unavailable" in set_up.line()
        assert await set_up.used() == 0


@pytest.mark.parametrize("end", ["b=AAAA+s=", "b=AA/d==", "bh=AA+s=;\r\n\tb=A"])
def test_what_looks_like_a_tag_in_the_octets_of_a_signature_is_none(end: str) -> None:
    ours, theirs = socketpair()
    with ours, theirs:
        field = f"\0\0\0\1DKIM-Signature\0 v=1; a=rsa-sha256; d=a.example;\r\n\ts=s1; {end}\0"
        ours.sendall(encode(Packet(b"i", field.encode())) + encode(Packet(b"a")))
        assert _signature(theirs) == ("a.example", "s1")
