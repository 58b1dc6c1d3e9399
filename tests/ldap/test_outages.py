"""What mail clients hear while the directory is away, through a real Postfix: try later, in time, never no.

AUTH is 454 within 8 s; RCPT is answered from the cache or put off with 450 within policyd's deadline; who
does not need the directory is let in meanwhile; and all is well again within 10 s of the directory's return.
"""

import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

AUTH, RCPT, BACK = 8.0, 5.0, 10.0
LOADED = 1.0  # seconds that a loaded machine may add to what a client measures
SLOW = 5.0  # and to what takes several steps


class Stopped:
    def go_wrong(self, relay):
        relay.lab.stop_slapd()

    def go_right(self, relay):
        relay.lab.start_slapd()


class Frozen:
    def go_wrong(self, relay):
        relay.lab.kill("slapd", signal.SIGSTOP)

    def go_right(self, relay):
        relay.lab.kill("slapd", signal.SIGCONT)


class Restarting:
    """Stopped and started without end."""

    def go_wrong(self, relay):
        self._ended = threading.Event()
        relay.lab.stop_slapd()
        self._thread = threading.Thread(target=self._restart, args=(relay,))
        self._thread.start()

    def _restart(self, relay):
        while not self._ended.wait(0.3):
            relay.lab.start_slapd()
            self._ended.wait(0.1)
            relay.lab.stop_slapd()

    def go_right(self, relay):
        self._ended.set()
        self._thread.join()
        relay.lab.start_slapd()


class Certificate:
    def __init__(self, label):
        self.label = label

    def go_wrong(self, relay):
        relay.restart_slapd(self.label)

    def go_right(self, relay):
        relay.restart_slapd("good")


class ServicePassword:
    """Changed at the server; kept connections are ended, as they would stay bound."""

    def go_wrong(self, relay):
        relay.set_service_password("rotated")
        relay.restart_slapd("good")

    def go_right(self, relay):
        relay.set_service_password("lab")


class Hanging:
    def go_wrong(self, relay):
        relay.proxy.is_open = False

    def go_right(self, relay):
        relay.proxy.open()


class Dropped:
    def go_wrong(self, relay):
        relay.proxy.drop()

    def go_right(self, relay):
        relay.proxy.open()


#: How the directory is reached, what goes wrong, and what the log says of it.
FAULTS = [
    pytest.param("ldaps", Stopped(), "refused", id="stopped"),
    pytest.param("ldaps", Frozen(), "did not answer|does not answer|timed out", id="frozen"),
    pytest.param("ldaps", Restarting(), "", id="restarting"),
    pytest.param(
        "ldaps", Certificate("expired"), "certificate has expired|certificate verify failed", id="expired"
    ),
    pytest.param("ldaps", Certificate("other"), "VerificationError|ertificate", id="wrong name"),
    pytest.param("ldaps", ServicePassword(), "refuses the service account", id="service password"),
    pytest.param("proxy", Hanging(), "did not answer|does not|timed out", id="black hole, connected"),
    pytest.param("proxy", Dropped(), "did not answer|does not|timed out|imeout", id="black hole, dropped"),
    pytest.param("starttls", Certificate(""), "StartTLS", id="refusing StartTLS"),
    pytest.param("starttls", Certificate("expired"), "ertificate", id="StartTLS, expired"),
    pytest.param("starttls", Certificate("other"), "ertificate|VerificationError", id="StartTLS, wrong name"),
]


@pytest.fixture
def reached(relay, way):
    relay.reach(way)
    return relay


@pytest.mark.parametrize(("way", "fault", "logged"), FAULTS)
def test_an_outage_is_put_off_in_time_and_ends_by_itself(reached, fault, logged):
    relay = reached
    app_password = relay.lab.submitward("app-password", "add", "bob", "--label", "phone").stdout
    app_password = re.search(r"[a-z0-9]{8}\.[0-9a-f]{32}", app_password)[0]
    known = relay.submitter("bob")  # policyd is about to know bob, and not the other one
    assert relay.rcpt_in(known, "bob@example.org")[0] == 250
    other = relay.fresh()
    unknown = relay.submitter(other)
    said_before = len(relay.lab.log("supervisor"))

    def shows():
        return re.search(logged, relay.lab.log("supervisor")[said_before:])

    fault.go_wrong(relay)
    try:
        many_are_put_off(relay, fault, app_password)
        sessions_are_answered(relay, known, unknown, other, fault, shows)
        many_are_put_off(relay, fault, app_password)  # and later on, when the breakers know
    finally:
        fault.go_right(relay)
    it_comes_back(relay, unknown, other)
    said = relay.lab.log("supervisor")[said_before:]
    if not isinstance(fault, Restarting):
        assert {"directory_stale", "directory_fresh"} <= set(re.findall(r"directory_\w+", said))
    known.close()
    unknown.close()


def many_are_put_off(relay, fault, app_password):
    """Nobody is refused, everybody is answered in time, and an app password lets in."""
    logins = ["alice", *(relay.fresh() for _ in range(5))]
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(relay.auth, login) for login in logins]
        wrong = threads.submit(relay.auth, relay.fresh(), "a wrong password")
        app = threads.submit(relay.auth, "bob", app_password)
        answers = [one.result() for one in asked]
        assert all(took < AUTH + LOADED for _, took in answers), answers
        codes = {code for code, _ in answers[1:]}
        up_now_and_then = isinstance(fault, Restarting)
        assert codes <= ({454, 235} if up_now_and_then else {454}), answers
        # alice was looked up before: where only searches fail, her password can be judged.
        judged = up_now_and_then or isinstance(fault, ServicePassword)
        assert answers[0][0] in ((454, 235) if judged else (454,)), answers
        assert wrong.result()[0] in ((454, 535) if up_now_and_then else (454,))
        code, took = app.result()
        assert code == 235
        assert took < AUTH + LOADED


def sessions_are_answered(relay, known, unknown, other, fault, shows):
    """Who policyd knows may go on; who it doesn't is asked to come again."""
    until = time.monotonic() + 20
    while True:
        code, text, took = relay.rcpt_in(known, "bob@example.org")
        assert (code, took < RCPT + SLOW) == (250, True), (text, took)
        if isinstance(fault, Restarting) or (shows() and relay.metric("directory_stale")):
            break
        assert time.monotonic() < until  # what is known is soon too old, and still answers
        time.sleep(0.2)
    code, text, took = relay.rcpt_in(unknown, f"{other}@example.org")
    assert code == 450 or (isinstance(fault, Restarting) and code == 250), text
    assert took < RCPT + SLOW


def it_comes_back(relay, unknown, other):
    until = time.monotonic() + BACK + SLOW
    login = relay.fresh()
    while (code := relay.auth(login)[0]) != 235:
        assert code == 454
        assert time.monotonic() < until
        time.sleep(0.1)
    while (answer := relay.rcpt_in(unknown, f"{other}@example.org"))[0] != 250:
        assert answer[0] == 450, answer
        assert time.monotonic() < until
        time.sleep(0.5)  # twenty refusals end a session
    assert relay.auth(relay.fresh(), "a wrong password")[0] == 535
    while relay.metric("directory_stale") or relay.metric("directory_unavailable"):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert relay.rcpt_in(unknown, "bob@example.org")[0] == 553
