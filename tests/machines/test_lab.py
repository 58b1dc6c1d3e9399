"""The lab of the Vagrantfile: machines provision themselves as Vagrant would have it, and mail goes through.

What Vagrant adds (boxes, a hypervisor, the synced folder) is not there: the machines are those of the other
tests, at the addresses of the table, and /vagrant is a copy of this tree.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.machines.deployment import ROOT
from tests.machines.machine import Machine
from tests.machines.network import Network
from tests.machines.scene import FROM_POOL
from tests.machines.vagrant import provision, table

pytestmark = pytest.mark.timeout(1800)

_SEND = """
import smtplib, ssl, sys
login, sender = sys.argv[1:]
with smtplib.SMTP("127.0.0.1", 587, timeout=60) as relay:
    relay.starttls(context=ssl._create_unverified_context())
    relay.login(login, f"lab-{login}")
    text = f"From: {sender}\\nSubject: of {login}\\n\\nhello\\n"
    try:
        relay.sendmail(sender, "someone@elsewhere.example", text)
    except smtplib.SMTPRecipientsRefused as refused:
        print(*refused.recipients.values())
"""


@pytest.fixture(scope="module")
def machines(
    tmp_path_factory: pytest.TempPathFactory, wheelhouse: Callable[[str], Path]
) -> Iterator[dict[str, Machine]]:
    here = tmp_path_factory.mktemp("lab")
    synced = here / "vagrant"
    shutil.copytree(ROOT, synced, symlinks=True, ignore=shutil.ignore_patterns(".*", "__pycache__", "wheels"))
    shutil.copytree(wheelhouse("3.11"), synced / "wheels/0.1.0")
    rows = [row for row in table() if row.starts]
    prefix = rows[0].address.rpartition(".")[0] + "."
    with contextlib.ExitStack() as ending:
        network = ending.enter_context(Network(prefix))
        made = {
            row.name: Machine(
                row.name, "bookworm", here, network.place(int(row.address.removeprefix(prefix))),
                shared=(f"{synced}:/vagrant",),
            )
            for row in rows
        }  # fmt: skip
        for machine in made.values():
            ending.callback(machine.stop)
        for machine in made.values():
            ending.callback(machine.power_off)
            machine.start({})
        for machine in made.values():
            machine.wait_until_up()
            machine.shell(FROM_POOL)
        yield made


def sent(relay: Machine, login: str, sender: str) -> str:
    """What was answered, ``""`` when the message was taken."""
    return relay.run("python3", "-c", _SEND, login, sender).stdout


def test_each_machine_provisions_itself_and_mail_goes_through(machines: dict[str, Machine]) -> None:
    relay, sink = machines["mta1"], machines["sink"]
    rows = {row.name: row for row in table() if row.starts}
    around = [name for name in rows if name != "mta1"]
    with ThreadPoolExecutor() as at_once:
        list(at_once.map(lambda name: provision(machines[name], rows[name]), around))
    provision(relay, rows["mta1"])
    assert sent(relay, "alice", "alice_lastname@example.net") == ""
    assert "553" in sent(relay, "bob", "alice@example.org")
    deadline = time.monotonic() + 120
    while "of alice" not in sink.run("cat", "/var/mail/sink", check=False).stdout:
        assert time.monotonic() < deadline, sink.journal("--unit=postfix@-.service")
        time.sleep(0.5)
    assert "redis ok" in relay.submitward("status").stdout
    assert [machine.failed_units() for machine in machines.values()] == [""] * len(machines)
