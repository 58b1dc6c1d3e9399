"""The guard at work: tickets are taken before the directory is asked, and none gets lost."""

from types import SimpleNamespace

import pytest
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, fail, succeed
from twisted.internet.task import Clock

from directory.identity import Credentials, Unavailable
from ledger.charges import Unavailable as LedgerUnavailable
from ledger.marks import Marks
from saslauthd import guard
from saslauthd.returns import AGAIN, SOON
from saslauthd.sentry import Guarded, Sentry

ALICE, HOME = Credentials("alice", b"pass"), b"198.51.100.7"
BINDS = guard.binds("alice")


class Ledger:
    """Marks that are kept at once; answers come at once, or when `tell` is called."""

    def __init__(self):
        self.marks, self.now, self.trips = Marks(), 0.0, 0
        self.is_slow = False
        self.waiting = []

    def secret(self, name):
        return succeed(b"k" * 16)

    def guard_look(self, pairs):
        return self._answer(self.marks.look(pairs, self.now))

    def guard_note(self, marks):
        return self._answer(self.marks.note(marks, self.now))

    def guard_drop(self, pairs):
        return self._answer(self.marks.drop(pairs))

    def tickets(self):
        return self.marks.names(BINDS, self.now)

    def tell(self, failure=None):
        self.trips += 1
        waiting, self.waiting = self.waiting, []
        for one, answer in waiting:
            if not one.called:
                one.errback(failure) if failure else one.callback(answer)

    def _answer(self, answer):
        waiting = Deferred()
        self.waiting.append((waiting, answer))
        if not self.is_slow:
            self.tell()
        return waiting


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def sentry(ledger):
    return start(ledger)


def start(ledger):
    """A process of its own, which knows alice's network."""
    made = Sentry(
        guard.Rules(),
        ledger,
        reactor=Clock(),
        log=SimpleNamespace(warning=lambda *_, **__: None),
        clock=lambda: ledger.now,
    )
    made.welcome("alice", guard.network_of(HOME, made.rules))
    return made


def run(coroutine):
    """What comes of it, as it comes."""
    heard = []
    running = ensureDeferred(coroutine)
    running.addBoth(lambda result: heard.append(getattr(result, "type", result)))
    return running, heard


async def whole(sentry, *, at_once=True):
    """Up to the moment in which the password goes to the directory."""
    case = await sentry.approach(ALICE, HOME, at_once=at_once)
    try:
        await sentry.admit(case)
    except BaseException:
        sentry.abandon(case)
        raise
    return case


@pytest.mark.parametrize(("at_once", "trips"), [(True, 1), (False, 2)])
def test_a_known_network_gets_its_ticket_in_the_trip_that_looks(sentry, ledger, at_once, trips):
    ledger.is_slow, ledger.trips = True, 0
    _, heard = run(whole(sentry, at_once=at_once))
    while not heard:
        ledger.tell()
    assert len(ledger.tickets()) == 1
    assert ledger.trips == trips


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("trips", [0, 1])
def test_who_hangs_up_on_the_way_leaves_no_ticket_behind(sentry, ledger, at_once, trips):
    ledger.is_slow = True
    running, heard = run(whole(sentry, at_once=at_once))
    for _ in range(trips):
        if not heard:
            ledger.tell()
    if heard:
        return  # it was in already, and a password may have gone out
    running.cancel()
    ledger.tell()
    assert heard == [CancelledError]
    sentry._reactor.advance(SOON)
    assert ledger.tickets() == ()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_ledger_that_goes_away_on_the_way_is_unavailable(sentry, ledger, at_once):
    ledger.is_slow = True
    _, heard = run(whole(sentry, at_once=at_once))
    ledger.tell(LedgerUnavailable("away"))
    assert heard == [Unavailable]


def test_an_attempt_that_does_not_go_to_the_directory_gives_its_ticket_back(sentry, ledger):
    _, heard = run(sentry.approach(ALICE, HOME, at_once=True))
    assert len(ledger.tickets()) == 1
    sentry.abandon(heard[0])
    sentry._reactor.advance(SOON)
    assert ledger.tickets() == ()


def test_tickets_go_back_together_and_before_their_login_takes_another(sentry, ledger):
    cases = [run(whole(sentry, at_once=True))[1][0] for _ in range(4)]
    ledger.trips = 0
    for case in cases[:3]:
        sentry.leave(case)
        sentry.succeeded(case)
    assert (len(ledger.tickets()), ledger.trips) == (4, 0)
    (_, heard) = run(whole(sentry, at_once=True))
    assert heard and heard != [Guarded]
    assert (len(ledger.tickets()), ledger.trips) == (2, 3)  # all of them back, one taken, and a look
    sentry.leave(cases[3])
    sentry.succeeded(cases[3])
    sentry._reactor.advance(SOON)
    assert len(ledger.tickets()) == 1
    assert sentry._reactor.getDelayedCalls() == []


def test_a_repeated_credential_gets_no_more_than_half_of_the_tickets_however_it_comes(sentry, ledger):
    key = guard.fingerprint(b"k" * 16, "alice", b"pass")
    trace = guard.Trace("alice", guard.network_of(HOME, sentry.rules), key)
    ledger.marks.note(guard.failure([trace], sentry.rules), ledger.now)
    heard = []
    for _ in range(4):
        heard += run(whole(sentry, at_once=True))[1]
    assert len(heard) == 2  # the others wait for those inside
    assert len(ledger.tickets()) == 2


def test_nobody_is_known_before_a_success(sentry):
    assert sentry.knows("alice", HOME)
    assert not sentry.knows("alice", b"203.0.113.9")
    assert not sentry.knows("bob", HOME)
    sentry.forget()
    assert not sentry.knows("alice", HOME)


def test_tickets_run_out_at_the_bound(sentry, ledger):
    cases = [run(whole(sentry, at_once=True))[1] for _ in range(4)]
    assert all(cases)
    for (case,) in cases:
        sentry.leave(case)
    _, heard = run(whole(sentry, at_once=True))
    for _ in range(50):
        sentry._reactor.advance(0.1)
    assert heard == [Guarded]
    assert len(ledger.tickets()) == 4


def admitted(sentry):
    """Attempts of alice whose passwords are at the directory, as many as get there."""
    cases = []
    while True:
        running, heard = run(whole(sentry))
        if not heard:
            running.cancel()
            return cases
        cases += heard


def test_what_a_process_that_dies_leaves_at_the_directory_lapses_by_itself(sentry, ledger):
    assert len(admitted(sentry)) == 4
    assert admitted(start(ledger)) == []
    ledger.now += guard.HELD
    assert len(admitted(start(ledger))) == 4


def test_wrong_passwords_count_for_the_whole_window(sentry, ledger):
    for case in admitted(sentry):
        run(sentry.failed(case))
        sentry.leave(case)
        sentry.abandon(case)
    ledger.now += sentry.rules.binds_window
    assert len(ledger.tickets()) == 4
    ledger.now += guard.FLIGHT
    assert ledger.tickets() == ()


def test_a_wrong_password_is_noted_in_one_trip_with_its_ticket(sentry, ledger):
    case = admitted(sentry)[0]
    ledger.trips = 0
    run(sentry.failed(case))
    sentry.abandon(case)
    assert ledger.trips == 1


def test_passwords_that_nobody_knows_the_end_of_count_for_the_whole_window(sentry, ledger):
    for case in admitted(sentry):
        sentry.leave(case)
        sentry.abandon(case)
    ledger.now += sentry.rules.binds_window
    assert len(ledger.tickets()) == 4


@pytest.mark.parametrize("is_wrong", [True, False])
def test_a_ledger_that_is_away_is_told_again_what_has_reached_the_directory(sentry, ledger, is_wrong):
    case = admitted(sentry)[0]
    ledger.marks.drop([(BINDS, "")])
    note, ledger.guard_note = ledger.guard_note, lambda marks: fail(LedgerUnavailable("away"))
    if is_wrong:
        run(sentry.failed(case))
    sentry.abandon(case)
    for _ in range(30):
        sentry._reactor.advance(AGAIN)
    assert ledger.tickets() == ()
    ledger.guard_note = note
    sentry._reactor.advance(AGAIN)
    ledger.now += sentry.rules.binds_window
    assert len(ledger.tickets()) == 1


def test_a_right_password_that_is_given_back_is_not_counted_after_all(sentry, ledger):
    for case in admitted(sentry):
        sentry.leave(case)
        sentry.succeeded(case)
        sentry.abandon(case)
    sentry._reactor.advance(SOON)
    assert ledger.tickets() == ()


@pytest.mark.parametrize(("surely", "left"), [(True, 1), (False, 0)])
def test_where_only_a_success_forgives_nothing_that_was_surely_not_counted_stays_for_ever(
    sentry, ledger, surely, left
):
    sentry.rules = guard.Rules(binds_window=0.0)
    case = admitted(sentry)[0]
    ledger.marks.drop([(BINDS, "")])
    run(sentry.failed(case, surely=surely))
    ledger.now += sentry.rules.window + guard.FLIGHT
    assert len(ledger.tickets()) == left


def test_where_only_a_success_forgives_no_answer_does_not_count_for_ever(sentry, ledger):
    sentry.rules = guard.Rules(binds_window=0.0)
    for case in admitted(sentry):
        sentry.leave(case)
        sentry.abandon(case)
    ledger.now += sentry.rules.window - 1
    assert len(ledger.tickets()) == 4
    ledger.now += guard.FLIGHT + 1
    assert ledger.tickets() == ()
