"""From credential to outcome: memory, guard, app passwords, networks, and what nobody may ever read."""

import base64
import dataclasses
import gc
import re

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

from directory.identity import Denied, Principal, Unanswered, Unavailable, Verified
from ledger.app_passwords import AppPassword, digest_of, format_app_password
from saslauthd import guard
from saslauthd.settings import (
    AppPasswordOnly,
    AuthCacheSettings,
    AuthSettings,
    GuardSettings,
    RealmSettings,
)
from tests.saslauthd.stage import PASSWORDS, QUICK, block, stage

HOME, ELSEWHERE = b"198.51.100.7", b"203.0.113.9"
SECRET = b"\x11" * 16
OK, NO, LATER = "OK", "FAIL", "CLOSED"


def settings(set_up, **auth):
    set_up.settings = dataclasses.replace(set_up.settings, auth=AuthSettings(**{"guard": QUICK, **auth}))
    set_up.service.reload()


def tight(**values):
    return GuardSettings(**{"floor": 0.0, "delay": 0.0, **values})


class House:
    """A stage whose directory lists people, and one question at a time."""

    def __init__(self, set_up):
        self.set_up = set_up
        self.people = {name: Principal("login", name) for name in ("alice", "bob", "zoë")}
        set_up.directory.look_up = lambda question: self.people.get(question.name)

    async def ask(self, login="alice", password=b"pass", rip=HOME):
        client = await self.set_up.greeted()
        response = base64.b64encode(b"\0" + login.encode() + b"\0" + password)
        client.send(b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\trip=" + rip + b"\tresp=" + response + b"\n")
        line = await client.line()
        await client.leave()
        self.line = line.decode()
        return self.line.partition("\t")[0] if line else LATER

    async def tickets(self, login, wanted, seconds=10.0):
        """How many tickets are out, once it is `wanted`: they go back a moment after the answer."""
        end = reactor.seconds() + seconds
        while True:
            found = len(await self.set_up.ledger.guard_names(guard.binds(login)))
            if found == wanted or reactor.seconds() > end:
                return found
            await deferLater(reactor, 0.01)

    @property
    def asked(self):
        return len(self.set_up.directory.asked)

    async def give(self, **values):
        ledger = self.set_up.ledger
        key = await ledger.secret("app-passwords")
        one = AppPassword("abcdefgh", "alice", digest_of(SECRET, key), **values)
        assert await ledger.keep_app_password(one, "root")
        return format_app_password(one.id, SECRET).encode()


def scene(test):
    """A test with a House."""

    @pytest_twisted.ensureDeferred
    async def wrapped():
        async with stage(reactor) as set_up:
            await test(House(set_up))

    wrapped.__name__ = test.__name__
    return wrapped


# ---- memory


@scene
async def test_a_wrong_credential_is_remembered_and_another_one_is_asked_about(house):
    for password, asked in ((b"x", 1), (b"x", 1), (b"y", 2), (b"pass", 3), (b"x", 3)):
        assert await house.ask(password=password) == (OK if password == b"pass" else NO)
        assert house.asked == asked
    assert "memory=wrong" in house.set_up.log


@scene
async def test_a_right_one_is_not_remembered_without_a_setting(house):
    for asked in 1, 2:
        assert await house.ask() == OK
        assert house.asked == asked


@scene
async def test_a_right_one_is_remembered_until_another_outcome_for_the_login(house):
    settings(house.set_up, cache=AuthCacheSettings(successes=100.0))
    assert [await house.ask() for _ in range(3)] == [OK] * 3
    assert house.asked == 1
    assert await house.ask(password=b"x") == NO
    assert await house.ask() == OK
    assert house.asked == 3


@scene
async def test_what_is_remembered_is_judged_anew_for_blocks_networks_and_the_entry(house):
    settings(house.set_up, cache=AuthCacheSettings(successes=100.0))
    assert await house.ask() == OK
    house.set_up.ledger.tell(block("login:alice", "login"))
    assert await house.ask() == NO
    house.set_up.ledger.tell()
    assert await house.ask() == OK
    assert house.asked == 2  # the block has dropped it
    house.people["alice"] = Principal("login", "alice", disabled=True)
    assert await house.ask() == NO
    house.people["alice"] = Principal("login", "alice", networks=("192.0.2.0/24",))
    assert await house.ask() == NO
    del house.people["alice"]
    settings(house.set_up, cache=AuthCacheSettings(successes=100.0))
    assert {"blocked", "disabled", "network_refused"} <= set(re.findall(r"reason=(\w+)", house.set_up.log))


@scene
async def test_after_a_change_the_old_password_ends_with_the_memory_or_at_once_with_a_flush(house):
    settings(house.set_up, cache=AuthCacheSettings(successes=0.4))
    known = dict(PASSWORDS)
    try:
        assert await house.ask() == OK
        PASSWORDS["alice"] = b"new"
        assert await house.ask() == OK
        await deferLater(reactor, 0.5)
        assert await house.ask() == NO
        assert await house.ask(password=b"new") == OK
        settings(house.set_up, cache=AuthCacheSettings(successes=100.0))
        assert await house.ask(password=b"new") == OK
        PASSWORDS["alice"] = b"newer"
        assert await house.ask(password=b"new") == OK
        await house.set_up.ledger.guard_note((guard.flush("alice", "1"),))
        house.set_up.ledger.tell()
        await deferLater(reactor, 0)
        assert await house.ask(password=b"new") == NO
        assert await house.ask(password=b"newer") == OK
    finally:
        PASSWORDS.update(known)


async def flush(house, login):
    await house.set_up.ledger.guard_note((guard.flush(login, "1"),))
    house.set_up.ledger.tell()
    await deferLater(reactor, 0.05)


@scene
async def test_a_flush_by_any_name_of_a_login_forgets_its_old_password(house):
    settings(
        house.set_up, cache=AuthCacheSettings(successes=100.0), realm=RealmSettings(strip=("home.example",))
    )
    house.people["alias@example.org"] = house.people["alice"]
    known = dict(PASSWORDS)
    try:
        for turn, name in enumerate(("alias@example.org", "alice@home.example", "alice")):
            PASSWORDS["alice"] = PASSWORDS["alias@example.org"] = b"old%d" % turn
            assert await house.ask(name, b"old%d" % turn) == OK
            PASSWORDS["alice"] = PASSWORDS["alias@example.org"] = b"new"
            assert await house.ask(name, b"old%d" % turn) == OK
            await house.set_up.ledger.guard_drop((("flushes", ""),))
            await flush(house, name)
            assert await house.ask(name, b"old%d" % turn) == NO
    finally:
        PASSWORDS.clear()
        PASSWORDS.update(known)


@scene
async def test_what_is_being_asked_while_a_login_is_flushed_is_not_remembered(house):
    settings(house.set_up, cache=AuthCacheSettings(successes=100.0))
    verify, answers = house.set_up.directory.verify, []
    house.set_up.directory.verify = lambda credentials: answers.append(Deferred()) or answers[-1]
    first = ensureDeferred(house.ask())
    while not answers:
        await deferLater(reactor, 0.002)
    await flush(house, "alice")
    second = ensureDeferred(house.ask())  # which must not join in
    while len(answers) < 2:
        await deferLater(reactor, 0.002)
    answers[0].callback(Verified("alice"))
    assert await first == OK
    answers[1].callback(Denied("wrong_password"))
    assert await second == NO
    house.set_up.directory.verify = verify
    assert await house.ask(password=b"pass") == NO  # remembered as wrong, not as right


@scene
async def test_an_app_password_is_judged_by_the_address_of_each_who_uses_it_at_once(house):
    text = await house.give(networks=("2001:db8::1/128",))
    real, gate = house.set_up.ledger.app_passwords, Deferred()

    async def slow(login):
        if not gate.called:
            waiting = Deferred()
            gate.addCallback(lambda _: waiting.callback(None))
            await waiting
        return await real(login)

    house.set_up.ledger.app_passwords = lambda login: ensureDeferred(slow(login))
    asked = []
    for rip in b"2001:db8::bad", b"2001:db8::1", b"2001:db8::bad":
        asked.append(ensureDeferred(house.ask(password=text, rip=rip)))
        await deferLater(reactor, 0.05)
    gate.callback(None)
    assert [await one for one in asked] == [NO, OK, NO]


@scene
async def test_whoever_asks_the_same_at_once_shares_one_answer(house):
    asked = [ensureDeferred(house.ask("stuck", b"x")) for _ in range(5)]
    while not house.set_up.directory.held:
        await deferLater(reactor, 0.002)
    await deferLater(reactor, 0.05)
    (_, answer), *others = house.set_up.directory.held
    assert others == []
    answer.callback(Denied("wrong_password"))
    assert [await one for one in asked] == [NO] * 5


# ---- the guard


@scene
async def test_too_many_failures_are_a_hang_up_and_the_directory_is_not_asked(house):
    settings(house.set_up, guard=tight(pair=3, binds=100))
    outcomes = [await house.ask(password=b"%d" % n) for n in range(5)]
    assert outcomes == [NO, NO, NO, LATER, LATER]
    assert house.asked == 3
    assert await house.ask() == LATER
    assert await house.ask(rip=ELSEWHERE) == OK
    assert "reason=guarded" in house.set_up.log


@scene
async def test_where_a_login_has_succeeded_it_stays_open(house):
    settings(house.set_up, guard=tight(pair=3, network=5, login=7))
    assert await house.ask() == OK
    for n in range(12):
        await house.ask(password=b"%d" % n, rip=ELSEWHERE)
        await house.ask("bob", b"%d" % n, rip=HOME)
    assert await house.ask(rip=ELSEWHERE) == LATER
    assert await house.ask() == OK


@scene
async def test_with_the_ledger_away_it_is_a_hang_up_and_never_a_refusal(house):
    house.set_up.ledger.is_away = True
    assert await house.ask() == LATER
    assert await house.ask(password=b"x") == LATER
    assert house.asked == 0
    house.set_up.ledger.is_away = False
    assert await house.ask() == OK


@scene
async def test_a_directory_that_is_away_costs_no_ticket_and_an_unanswered_password_does(house):
    settings(house.set_up, guard=tight(binds=2))
    for n in range(5):
        assert await house.ask("away", b"%d" % n) == LATER
    assert await house.tickets("away", 0) == 0

    async def unanswered(credentials):
        raise Unanswered("gone")

    house.set_up.directory.verify = unanswered
    assert await house.ask() == LATER
    assert await house.tickets("alice", 1) == 1


@scene
async def test_a_success_forgives_what_was_judged_before_it_where_the_directory_does(house):
    settings(house.set_up, guard=tight(binds_window=0.0))
    taken = guard.binds("alice")
    assert await house.ask(password=b"x") == NO
    assert await house.ask() == OK
    assert await house.tickets("alice", 1) == 1  # it may have been under way at the same time
    await house.set_up.ledger.guard_drop(((taken, ""),))
    await house.set_up.ledger.guard_note(
        (guard.spent("alice", guard.ticket(1.0, "a"), guard.Rules(), surely=True),)
    )
    assert await house.ask() == OK
    assert await house.tickets("alice", 0) == 0


@scene
async def test_refusals_take_the_same_time_whatever_they_say(house):
    settings(house.set_up, guard=tight(floor=0.2))
    for login in "alice", "nobody":
        began = reactor.seconds()
        assert await house.ask(login, b"x") == NO
        assert 0.19 < reactor.seconds() - began < 2
    began = reactor.seconds()
    assert await house.ask() == OK
    assert reactor.seconds() - began < 0.19


@scene
async def test_a_refusal_that_is_put_off_is_told_when_the_process_ends(house):
    settings(house.set_up, guard=tight(floor=2.0))
    waiting = ensureDeferred(house.ask(password=b"x"))
    while not house.asked:
        await deferLater(reactor, 0.002)
    await deferLater(reactor, 0.05)
    began = reactor.seconds()
    await house.set_up.service.drain()
    assert await waiting == NO
    assert reactor.seconds() - began < 1


# ---- app passwords, and where a login may come from


@scene
async def test_an_app_password_is_right_without_the_directory_and_its_use_is_noted(house):
    text = await house.give()
    assert await house.ask(password=text) == OK
    assert "user=alice" in house.line and "#" not in house.line
    assert house.asked == 0
    (kept,) = await house.set_up.ledger.app_passwords("alice")
    assert kept.used_from == HOME.decode()
    assert await house.ask("bob", text) == NO
    assert await house.ask("nobody", text) == NO
    assert await house.ask(password=text[:-1] + b"0") == NO
    assert house.asked == 0


@scene
async def test_a_narrowing_one_goes_out_with_its_id(house):
    assert await house.ask(password=await house.give(senders=("alice@example.org",))) == OK
    assert house.line == "OK\t1\tuser=alice#abcdefgh"


@scene
async def test_it_is_refused_from_elsewhere_when_it_is_over_revoked_or_its_login_is_blocked(house):
    text = await house.give(networks=("198.51.100.0/24",))
    assert await house.ask(password=text, rip=ELSEWHERE) == NO
    assert await house.ask(password=text) == OK
    house.set_up.ledger.tell(block("login:alice", "login"))
    assert await house.ask(password=text) == NO
    house.set_up.ledger.tell()
    house.people["alice"] = Principal("login", "alice", disabled=True)
    assert await house.ask(password=text) == NO
    house.people["alice"] = Principal("login", "alice")
    assert await house.ask(password=text) == OK
    await house.set_up.ledger.revoke_app_password("alice", "abcdefgh", "root")
    assert await house.ask(password=text) == NO


@scene
async def test_one_that_has_ended_is_refused(house):
    assert await house.ask(password=await house.give(end=1.0)) == NO
    assert "reason=expired" in house.set_up.log


@scene
async def test_a_login_a_plan_or_a_group_can_be_told_to_take_nothing_else(house):
    text = await house.give()
    house.people["alice"] = Principal("login", "alice", groups=frozenset({"staff"}))
    for only in {"logins": ("alice",)}, {"plans": ("default",)}, {"groups": ("other", "staff")}:
        settings(house.set_up, app_password_only=AppPasswordOnly(**only))
        assert await house.ask() == NO
        assert house.asked == 0
        assert await house.ask(password=text) == OK
    assert house.set_up.log.count("reason=app_password_only") == 3
    settings(house.set_up, app_password_only=AppPasswordOnly(groups=("other",)))
    assert await house.ask() == OK


@scene
async def test_what_is_remembered_ends_where_an_app_password_is_needed_from_now_on(house):
    memory = AuthCacheSettings(successes=100.0)
    settings(house.set_up, cache=memory, app_password_only=AppPasswordOnly(groups=("staff",)))
    assert await house.ask() == OK
    assert await house.ask() == OK
    house.people["alice"] = Principal("login", "alice", groups=frozenset({"staff"}))
    assert await house.ask() == NO
    assert await house.ask() == NO
    assert house.asked == 1
    assert house.set_up.log.count("reason=app_password_only") == 2


@scene
async def test_an_entry_and_a_plan_say_where_a_login_may_come_from(house):
    house.people["bob"] = Principal("login", "bob", networks=("203.0.113.0/24",))
    settings(house.set_up, networks={"default": ("198.51.100.0/24",)})
    outcomes = [
        await house.ask(login, word, rip)
        for login, word in (("alice", b"pass"), ("bob", b"secret"))
        for rip in (HOME, ELSEWHERE)
    ]
    assert outcomes == [OK, NO, NO, OK]
    assert await house.ask("bob", b"secret", b"") == NO
    assert house.set_up.log.count("reason=network_refused") == 3


# ---- what nobody may read

#: what the directory says, or where the login comes from → the class in the log and in the metrics
CLASSES = {
    "wrong_password": Denied("wrong_password"),
    "unknown_login": Denied("unknown_login"),
    "locked": Denied("locked"),
    "expired": Denied("expired"),
    "not_in_group": Denied("not_in_group"),
    "disabled": Denied("disabled"),
    "network_refused": None,
    "guarded": None,
    "unavailable": Unavailable("away"),
}


@scene
async def test_every_class_of_reasons_is_in_the_log_and_in_the_metrics_with_the_time_of_each_step(house):
    answer = None

    async def verify(credentials):
        if isinstance(answer, Unavailable):
            raise answer
        return answer or Verified(credentials.login)

    house.set_up.directory.verify = verify
    settings(house.set_up, cache=AuthCacheSettings(failures=0.0))
    for reason, answer in CLASSES.items():  # noqa: B007  verify reads it
        networks = ("192.0.2.0/24",) if reason == "network_refused" else ()
        house.people["alice"] = Principal("login", "alice", networks=networks)
        if reason == "guarded":
            settings(house.set_up, guard=tight(pair=1), cache=AuthCacheSettings(failures=0.0))
        answered = await house.ask(password=reason.encode())
        assert answered == (LATER if reason in ("guarded", "unavailable") else NO), reason
        if reason == "guarded":
            settings(house.set_up, cache=AuthCacheSettings(failures=0.0))
    page = house.set_up.metrics.page().decode()
    for reason in CLASSES:
        assert house.set_up.log.count(f"reason={reason} ") == 1, reason
        assert f'submitward_auth_reasons_total{{reason="{reason}"}} 1.0' in page
    assert 'outcomes_total{mechanism="PLAIN",result="refused",tls="yes"} 7.0' in page
    for step in "guard", "verify":
        assert f'submitward_auth_step_seconds_total{{step="{step}"}}' in page
        assert f" {step}_ms=" in house.set_up.log


CANARY = b"canary-7Hq2Zx"


@scene
async def test_no_line_no_metric_and_no_form_of_an_object_holds_a_password(house):
    settings(house.set_up, cache=AuthCacheSettings(successes=100.0))
    PASSWORDS["carol"] = CANARY
    house.people["carol"] = Principal("login", "carol")
    try:
        for login in ("alice", "carol", "nobody", "away", "faulty", "tabbed", "a b", "x" * 300, ""):
            first = await house.ask(login, CANARY)
            assert await house.ask(login, CANARY) == first
        house.set_up.ledger.is_away = True
        await house.ask("alice", CANARY)
        house.set_up.ledger.is_away = False
        client = await house.set_up.greeted()
        response = base64.b64encode(b"\0alice\0" + CANARY)
        for line in (
            b"AUTH\t4\t" + response + b"\tservice=smtp\tsecured\n",
            b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\tresp=" + response + b"\n",
            b"AUTH\t2\tLOGIN\tservice=smtp\tsecured\tresp=YWxpY2U=\n",
            b"CONT\t2\t" + base64.b64encode(CANARY) + b"\n",
            b"CONT\t2\t" + CANARY + b"\n",
            b"AUTH\t3\tPLAIN\tservice=smtp\tsecured\tresp=" + response + b"\tresp=" + response + b"\n",
        ):
            client.send(line)
        await client.closed()
        spelled = [CANARY.decode(), base64.b64encode(CANARY).decode().rstrip("=")]
        spelled += [base64.b64encode(b"\0%s\0%s" % (n, CANARY)).decode()[8:-8] for n in (b"alice", b"carol")]
        ours = [
            one
            for one in gc.get_objects()
            if str(type(one).__module__).split(".")[0] in ("saslauthd", "directory")
        ]
        forms = "\n".join(repr(one) for one in ours)
        page = house.set_up.metrics.page().decode()
        for word in spelled:
            assert word.lower() not in house.set_up.log.lower()
            assert word.lower() not in page.lower()
            assert word not in forms
    finally:
        del PASSWORDS["carol"]


@scene
async def test_who_guesses_cannot_tell_a_login_that_takes_nothing_else_from_one_that_nobody_has(house):
    guarded = tight(pair=5, binds=4)
    only, memory = AppPasswordOnly(logins=("alice",)), AuthCacheSettings(failures=0.0)
    settings(house.set_up, guard=guarded, app_password_only=only, cache=memory)
    told = {}
    for number, login in enumerate(("alice", "nobody")):
        rip = b"203.0.113.%d" % number
        told[login] = [await house.ask(login, b"guess%d" % n, rip) for n in range(7)]
        marks = [guard.Trace(login, f"203.0.113.{number}/32", "")]
        told[login].append(await house.set_up.ledger.guard_look(guard.questions(marks[0])))
    counts = {login: (*rest, tuple(seen.count for seen in looked)) for login, (*rest, looked) in told.items()}
    assert counts["alice"] == counts["nobody"]
    assert {NO, LATER} <= set(counts["alice"])
    assert await house.ask(password=await house.give()) == OK  # from home, the app password is let in
