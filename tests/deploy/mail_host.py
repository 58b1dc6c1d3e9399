"""An existing Postfix on loopback: one of tests/postfix/existing, moved to ports and directories of its own.

Knows what has to be moved so that it runs here. Must not know of the graft. Where a configuration names other
programs (amavis, postgrey), a sink and a policy server that says DUNNO stand in for them.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from submitward.graft.texts import logical_lines
from submitward.replacing import replace_files
from tests.deploy.existing import EXISTING
from tests.deploy.stand_ins import Dunno
from tests.lab.certificates import make_authority, make_certificate
from tests.lab.client import Client, Reply, compose, token
from tests.lab.processes import answers, is_free, wait_for
from tests.lab.remains import CLONE

#: service column → port of the loopback interface, by what stands in front of the port
_PORTS = {"smtp": 25, "submission": 587, "submissions": 465, "smtps": 465, "25": 25, "587": 587}
#: Below the ports that outgoing connections get, and in no order: another suite looks for its ports, too.
_BASES = random.sample(range(10000, 31000), 100)


@dataclass(frozen=True)
class MailHost:
    """A running Postfix; `directory` holds its configuration in ``postfix``."""

    directory: Path
    base: int

    @property
    def postfix(self) -> Path:
        return self.directory / "postfix"

    @property
    def sockets(self) -> Path:
        """Where the sidecars would listen."""
        return self.directory / "queue/submitward"

    def command(self, verb: str) -> None:
        """``postfix -c DIRECTORY verb``."""
        done = subprocess.run(
            ["postfix", "-c", str(self.postfix), verb], stdin=subprocess.DEVNULL, capture_output=True,
            start_new_session=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, self.log()

    def end(self) -> None:
        """Stop it, by its pid if need be: its directory goes next."""
        try:
            self.command("stop")
        except (AssertionError, subprocess.TimeoutExpired):
            os.killpg(int((self.directory / "queue/pid/master.pid").read_text()), signal.SIGKILL)
            raise

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def outsider(self) -> tuple[Reply, bytes]:
        """Mail from outside to alice: the reply, and what arrived of it behind its trace fields."""
        word, sender = token(), "outsider@elsewhere.example"
        message = compose(sender, word, to="alice@example.org")
        with Client(f"127.0.0.1:{self.base + 25}", self.directory / "ca.crt", tls=False).open() as session:
            reply = session.send(sender, ["alice@example.org"], message)
        if reply.code != 250:
            return reply, b"not taken"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for path in (self.directory / "sink/new").iterdir():
                content = path.read_bytes()
                if word.encode() in content:
                    return reply, b"as sent" if content.endswith(message) else content
            time.sleep(0.05)
        return reply, b"lost: " + self.log()[-2000:].encode()


@contextlib.contextmanager
def mail_host(name: str) -> Iterator[MailHost]:
    """The configuration `name` in its state `before`, running."""
    directory = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    directory.chmod(0o755)
    base = next(b for b in _BASES if all(is_free("127.0.0.1", b + p) for p in (25, 465, 587, 1587)))
    host = MailHost(directory, base)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, directory)
        sink = undo.enter_context(_sink(directory / "sink"))
        policy = undo.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dunno))
        policy.daemon_threads = True
        threading.Thread(target=policy.serve_forever, daemon=True).start()
        undo.callback(policy.shutdown)
        _place(host, name, sink, policy.server_address[1])
        host.command("start")
        undo.callback(host.end)
        wait_for("Postfix listens", lambda: answers("127.0.0.1", base + 25), seconds=60)
        yield host


@contextlib.contextmanager
def _sink(directory: Path) -> Iterator[int]:
    directory.mkdir()
    process = subprocess.Popen([sys.executable, "-m", "tests.lab.sink", str(directory)], cwd=CLONE)
    try:
        wait_for("the sink listens", (directory / "port").exists, seconds=60)
        yield int((directory / "port").read_text())
    finally:
        process.terminate()
        process.wait()


def replace_cold(contents: dict[Path, bytes]) -> None:
    """Postfix waits two seconds with a main.cf that has just changed; most tests need not."""
    replace_files(contents)
    let_cool(contents)


def let_cool(paths: Iterable[Path]) -> None:
    for path in paths:
        os.utime(path, (time.time() - 60, time.time() - 60))


def _place(host: MailHost, name: str, sink: int, policy: int) -> None:
    directory = host.directory
    shutil.copytree(EXISTING / name / "before", host.postfix)
    for folder in ("queue", "data"):
        (directory / folder).mkdir()
    shutil.chown(directory / "data", "postfix", "postfix")
    make_authority(directory)
    make_certificate(directory, "server")
    here = f"smtp:[127.0.0.1]:{sink}"
    overrides = {
        "queue_directory": directory / "queue",
        "data_directory": directory / "data",
        "maillog_file": directory / "log",
        "maillog_file_prefixes": directory,
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "mynetworks": "192.0.2.0/24",  # the test is an outsider
        "alias_maps": "",
        "alias_database": "",
        "local_recipient_maps": "",
        **{f"{what}_transport": here for what in ("local", "relay", "virtual", "default")},
        "transport_maps": "",
        "smtpd_peername_lookup": "no",
        "smtp_dns_support_level": "disabled",
        "smtp_tls_security_level": "none",
        "smtpd_tls_chain_files": f"{directory / 'server.key'}, {directory / 'server.crt'}",
        "smtpd_tls_cert_file": "",
        "smtpd_tls_key_file": "",
        "multi_instance_enable": "no",
        "postscreen_greet_wait": "1s",
    }
    main = (host.postfix / "main.cf").read_text()
    main = main.replace("127.0.0.1:10023", f"127.0.0.1:{policy}").replace(
        "[127.0.0.1]:10024", f"[127.0.0.1]:{sink}"
    )
    main = main.replace("reject_unknown_sender_domain", "reject_non_fqdn_sender")  # there is no DNS here
    for logical in reversed(list(logical_lines(main))):
        # Not overridden but replaced: with many warnings at once, Postfix waits for its own log for ever.
        if logical.text.partition("=")[0].strip() in overrides:
            main = main[: logical.places[0]] + main[logical.end :]
    end = "" if main.endswith("\n") else "\n"
    added = "".join(f"{key} = {value}\n" for key, value in overrides.items())
    (host.postfix / "main.cf").write_text(main + end + added)
    master = (host.postfix / "master.cf").read_text().splitlines(keepends=True)
    moved = "".join(_moved(line, host.base) for line in master)
    moved = moved.replace("content_filter=spamassassin", f"content_filter={here}")
    (host.postfix / "master.cf").write_text(moved)
    let_cool([host.postfix / "main.cf"])
    os.chmod(host.postfix, 0o755)


def _moved(line: str, base: int) -> str:
    """An entry on a port of loopback that is ours; `submission` stays recognisable by its port alone."""
    words = line.split()
    if line[:1] in " \t#" or len(words) < 2 or words[1] != "inet":
        return line
    port = _PORTS.get(words[0].rpartition(":")[2])
    place = f"127.0.0.1:{base + port}" if port else "127.0.0.1:0"
    return place + line[len(words[0]) :] if port else f"#{line}"
