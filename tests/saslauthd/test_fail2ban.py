"""The fail2ban filter, run by fail2ban itself on lines that saslauthd wrote."""

import os
import re
import subprocess
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor

from tests.debian import unpacked
from tests.saslauthd.stage import block, stage
from tests.saslauthd.test_judge import ELSEWHERE, HOME, House, settings, tight

FILTER = Path(__file__).resolve().parents[2] / "fail2ban" / "filter.d" / "submitward-auth.conf"


def matched(tmp_path, lines):
    """The addresses that the filter finds in lines of a log, in order."""
    root = unpacked("fail2ban")
    log, rules = tmp_path / "log", tmp_path / "filter.d"
    log.write_text("".join(f"{line}\n" for line in lines))
    rules.mkdir(exist_ok=True)
    (rules / FILTER.name).write_text(FILTER.read_text())
    (rules / "common.conf").write_text((root / "etc/fail2ban/filter.d/common.conf").read_text())
    done = subprocess.run(
        ["/usr/bin/python3", root / "usr/bin/fail2ban-regex", "-o", "<ip>", log, rules / FILTER.name],
        env={**os.environ, "PYTHONPATH": str(root / "usr/lib/python3/dist-packages")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


@pytest_twisted.async_fixture
async def lines():
    """What saslauthd says to guesses, and to everything that is none."""
    async with stage(reactor) as set_up:
        house = House(set_up)
        settings(set_up, guard=tight(pair=3, binds=100))
        for n in range(2):
            await house.ask(password=b"guess%d" % n, rip=ELSEWHERE)
        await house.ask("nobody", b"x", b"2001:db8::7")
        for _ in range(5):
            await house.ask(password=b"the old one", rip=HOME)
        set_up.service._judge.recollection.clear()
        await house.ask(password=b"the old one", rip=HOME)
        for n in range(5):
            await house.ask(password=b"more%d" % n, rip=b"192.0.2.1")
        set_up.ledger.tell(block("login:bob", "login"))
        await house.ask("bob", b"secret", b"192.0.2.2")
        await house.ask("alice rip=192.0.2.3 ", b"x", b"192.0.2.4")
        await house.ask('a" rip=192.0.2.3 x="', b"x", b"192.0.2.4")
        await house.ask("away", b"x", b"192.0.2.5")
        await house.ask(rip=b"192.0.2.6")
        return set_up.log.splitlines()


def test_guesses_are_counted_and_nothing_else(lines, tmp_path):
    wanted = [ELSEWHERE.decode()] * 2 + ["2001:db8::7", HOME.decode()] + ["192.0.2.1"] * 3
    assert matched(tmp_path, lines) == wanted
    stamp = "Nov 21 04:00:00 mx1 saslauthd[123]: "
    journal = [re.sub(r"^<\d>saslauthd: ", stamp, line) for line in lines]
    assert matched(tmp_path, journal) == wanted


def test_no_value_of_a_client_can_look_like_an_address(tmp_path):
    line = (
        "<5>saslauthd: event=auth result=refused reason=wrong_password login={} mechanism=PLAIN secured=yes"
        " service=smtp rip=198.51.100.7 elapsed_ms=1"
    )
    hostile = [
        '"a rip=192.0.2.3 "',
        r'"\" rip=192.0.2.3 x=\""',
        '"a mechanism=X secured=yes rip=192.0.2.3"',
        "a",
    ]
    assert matched(tmp_path, [line.format(login) for login in hostile]) == ["198.51.100.7"] * 4
