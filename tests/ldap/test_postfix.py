"""Through a real Postfix: the story with its people in a slapd, and what AUTH and RCPT say in an outage."""

import signal
import smtplib
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lab import Lab
from tests.lab.__main__ import STEPS
from tests.lab.processes import is_free
from tests.lab.story import reset
from tests.postfix.conftest import free_port_base


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    announce = tmp_path_factory.mktemp("announced") / ".lab"
    with Lab(port_base=free_port_base(40000), announce=announce, directory="ldap") as running:
        yield running


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_every_line_of_the_story_is_the_same_with_ldap(lab, step):
    reset(lab, "alice")
    lines = list(step(lab))
    assert lines
    assert not [str(line) for line in lines if not line.good]


def auth(lab, login="alice", password=None):
    """The code of AUTH and how long it took."""
    host, _, port = lab.submission.rpartition(":")
    context = ssl.create_default_context(cafile=str(lab.places.tls / "ca.crt"))
    context.check_hostname = False
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        client.starttls(context=context)
        client.ehlo()
        client.user, client.password = login, password or lab.logins[login]
        began = time.monotonic()
        try:
            code, _ = client.auth("PLAIN", client.auth_plain)
        except smtplib.SMTPAuthenticationError as refused:
            code = refused.smtp_code
        return code, time.monotonic() - began


def rcpt(lab):
    """The code of RCPT in a session that was let in before; closed by the caller."""
    host, _, port = lab.submission.rpartition(":")
    context = ssl.create_default_context(cafile=str(lab.places.tls / "ca.crt"))
    context.check_hostname = False
    client = smtplib.SMTP(host, int(port), timeout=30)
    client.starttls(context=context)
    client.login("bob", lab.logins["bob"])
    return client


def slapd(lab):
    return lab.running._children["slapd"]


@pytest.mark.parametrize("fault", ["frozen", "stopped"])
def test_an_outage_is_454_within_8_s_and_ends_by_itself(lab, fault):
    client = rcpt(lab)
    child = slapd(lab)
    command, port = child_command(lab)
    if fault == "frozen":
        lab_signal(child.pid, signal.SIGSTOP)
    else:
        lab.running._stop("slapd")
    try:
        with ThreadPoolExecutor(8) as threads:
            asked = [threads.submit(auth, lab, login) for login in ["alice", "bob"] * 4]
            for answer in asked:
                code, took = answer.result()
                assert code == 454
                assert took < 8.5
        client.mail("bob@example.org")
        began = time.monotonic()
        code, _ = client.rcpt("friend@elsewhere.example")
        assert code in (250, 450)
        assert time.monotonic() - began < 6
        client.rset()
        client.mail("alice@example.org")
        code, _ = client.rcpt("friend@elsewhere.example")
        assert code in (450, 553)  # what is known still holds; what is not is put off
    finally:
        client.close()
        if fault == "frozen":
            lab_signal(child.pid, signal.SIGCONT)
        else:
            lab.running.start_slapd(command, port)
    until = time.monotonic() + 10
    while (code := auth(lab)[0]) != 235:
        assert code == 454
        assert time.monotonic() < until
    assert auth(lab, password="wrong")[0] == 535


def child_command(lab):
    from tests.lab.ldap import Slapd

    port = int(next(p for p in lab.places.settings.read_text().split() if "ldaps://" in p).rpartition(":")[2])
    again = Slapd(lab.places)
    again.port = port
    assert not is_free("127.0.0.1", port)
    return again.command, port


def lab_signal(pid, number):
    import os

    os.kill(pid, number)
