"""The script in a real Redis against the model, verb by verb, whatever order, clock and limits."""

from __future__ import annotations

import redis
from hypothesis import settings
from hypothesis.stateful import initialize, rule

from ledger import script
from ledger.charges import Submission
from ledger.limits import parse_limit
from ledger.redis import SCRIPT
from tests.ledger.test_limits import done
from tests.ledger.test_machine import (
    SHORT,
    BookAgainstModel,
    go_where_one_has_left_its_window_and_the_next_has_not,
)
from tests.redis.server import running


class Runner:
    """Runs verbs, one call each, at a time that the test tells."""

    def __init__(self, prefix: str) -> None:
        self.client = redis.Redis(unix_socket_path=str(running().socket))
        self.sha = self.client.script_load(SCRIPT)
        self.meta = f"{prefix}meta"

    def run(self, now: float, *verb, sweep: int = 1000):
        verb = [word if isinstance(word, bytes) else word() for word in verb]
        _at, answer = self.client.evalsha(self.sha, 1, self.meta, repr(now), sweep, *verb)
        assert not (isinstance(answer, bytes) and answer.startswith(b"!")), answer
        return answer


class ScriptAgainstModel(BookAgainstModel):
    @initialize()
    def open(self):
        self.now = 1.8e9 + 5.0
        self.model = self.promising()
        self.runner = Runner(running().prefix())
        self.book = True

    def teardown(self):
        if hasattr(self, "runner"):
            self.runner.client.close()

    def both(self, verb, *arguments, **named):
        moved = self.model._generation
        before = self.generation()
        expected = done(getattr(self.model, verb)(*arguments, **named))
        got = getattr(self, f"_{verb}")(*arguments, **named)
        assert got == expected, verb
        assert (self.generation() != before) == (self.model._generation != moved)

    def generation(self):
        return self.runner.client.hget(self.runner.meta, "generation") or b"0"

    def _reserve(self, charge, submission, amounts, limits, *, final=False):
        answer = self.runner.run(self.now, *script.reserve(charge, submission, amounts, limits, final))
        return script.read_outcome(answer, limits, script.Clock())

    def _settle(self, charge, amounts):
        answer, limits = self.runner.run(self.now, *script.settle(charge, amounts))
        return script.read_outcome(answer, script.read_limits(limits), script.Clock())

    def _release(self, charge):
        return self.runner.run(self.now, *script.release(charge)) == b"1"

    def _refund(self, mta, queue_id, subject):
        return self.runner.run(self.now, *script.refund(mta, queue_id, subject)) == b"1"

    def _take_up(self, mta, queue_id):
        answer = self.runner.run(self.now, *script.take_up(mta, queue_id))
        return Submission(*map(script.read, answer)) if answer else None

    def _record(self, mta, queue_id):
        answer = self.runner.run(self.now, *script.record(mta, queue_id))
        return Submission(*map(script.read, answer)) if answer else None

    def _refund_untaken(self, mta, older_than):
        return int(self.runner.run(self.now, *script.refund_untaken(mta, lambda: older_than)))

    def _reset(self, subject, author, reason):
        return int(self.runner.run(self.now, *script.reset(subject, author, reason)))

    def _standing(self, pairs):
        held = tuple((subject, limit, True) for subject, limit in pairs)
        return script.read_outcome(
            self.runner.run(self.now, *script.standing(pairs)), held, script.Clock()
        ).standings

    @rule()
    def tidying_changes_no_answer(self):
        self.runner.run(self.now, *script.look(b"e"))


class WithShortWindows(ScriptAgainstModel):
    limits = tuple(map(parse_limit, SHORT))
    back = False


TestScriptAgainstModel = ScriptAgainstModel.TestCase
TestWithShortWindows = WithShortWindows.TestCase
for machine in (TestScriptAgainstModel, TestWithShortWindows):
    machine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
del machine


def test_what_has_left_its_window_takes_nothing_else_along():
    go_where_one_has_left_its_window_and_the_next_has_not(ScriptAgainstModel())


def test_nothing_leaks_every_key_has_an_end_but_the_few_that_are_the_ledgers_own():
    from tests.ledger.test_contract import ALICE, LIMITS, Amounts, charge

    runner = Runner(running().prefix())
    for number in range(3):
        runner.run(1.8e9, *script.reserve(charge(number), ALICE, Amounts(1, 1, 1), LIMITS, number == 2))
    runner.run(1.8e9, *script.settle(charge(0), Amounts(1, 1, 5)))
    runner.run(1.8e9, *script.reset("login:bob", "root", "x"))
    prefix = runner.meta[: -len("meta")]
    lasting = {key for key in runner.client.scan_iter(f"{prefix}*") if runner.client.ttl(key) == -1}
    assert lasting == {f"{prefix}{name}".encode() for name in ("meta", "due", "audit", "n:mx1", "spenders")}
    runner.run(1.8e9 + 3600, *script.look(b"e"))
    runner.run(1.8e9 + 3600 + 86400, *script.look(b"e"))
    assert runner.client.zcard(f"{prefix}due") == 0
