"""What may come next on a connection, and that each request gets exactly one answer."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from directory.identity import Verified
from saslauthd.answers import Answer, Ask, Drop, Event, Request, Send
from saslauthd.mechanisms import Realm, Refused
from saslauthd.session import HALF_OPEN_MAX, OUTSTANDING_MAX, HangUp, Rules, Session
from saslauthd.wire import Broken, Reader

GOOD = base64.b64encode(b"\0Alice\0pass").decode()
TEMPORARY = b"\tcode=temp_fail\treason=Temporary authentication failure\ttemp\n"


class Talk:
    """A session that is spoken to in lines; `minor` None leaves the handshake to the test."""

    def __init__(self, minor: int | None = 0, rules: Rules | None = None) -> None:
        self.session = Session(rules or Rules())
        self.now = 1000.0
        if minor is not None:
            assert self.say(f"VERSION\t1\t{minor}", "CPID\t1") == []

    def say(self, *lines: str) -> list[Event]:
        data = "".join(line + "\n" for line in lines).encode()
        return [event for command in Reader().feed(data) for event in self.session.receive(command, self.now)]

    def auth(self, id: int = 1, mechanism: str = "PLAIN", resp: str | None = f"resp={GOOD}") -> list[Event]:
        line = f"AUTH\t{id}\t{mechanism}\tservice=smtp\tsecured"
        return self.say(line if resp is None else f"{line}\t{resp}")

    def ask(self, id: int = 1) -> Request:
        (event,) = self.auth(id)
        assert isinstance(event, Ask)
        return event.request


def only(events: list[Event]) -> Answer:
    (event,) = events
    assert isinstance(event, Answer)
    return event


def test_the_handshake_is_whole_and_names_mechanisms_before_the_pid() -> None:
    lines = Session(Rules()).greet(12, 3, bytes(16)).split(b"\n")
    assert lines == [
        b"VERSION\t1\t4",
        b"MECH\tPLAIN\tplaintext",
        b"MECH\tLOGIN\tplaintext",
        b"SPID\t12",
        b"CUID\t3",
        b"COOKIE\t" + b"0" * 32,
        b"DONE",
        b"",
    ]


@pytest.mark.parametrize(
    "lines",
    [
        ["CPID\t1"],
        ["VERSION\t2\t0"],
        ["VERSION\t0\t0"],
        ["VERSION\t1\t0", "VERSION\t1\t0"],
        ["AUTH\t1\tPLAIN\tservice=smtp"],
        ["VERSION\t1\t0", f"AUTH\t1\tPLAIN\tservice=smtp\tsecured\tresp={GOOD}"],
        ["VERSION\t1\t0", "CONT\t1\t"],
        ["VERSION\t1\t0", "CANCEL\t1"],
        ["VERSION\t1\t0", "CPID\t1", "CPID\t1"],
        ["VERSION\t1\t0", "CPID\t1", "VERSION\t1\t0"],
    ],
)
def test_a_command_out_of_its_place_ends_the_connection(lines: list[str]) -> None:
    talk = Talk(None)
    assert talk.say(*lines[:-1]) == []
    with pytest.raises(Broken):
        talk.say(lines[-1])


def test_the_right_password_is_answered_with_the_directorys_login() -> None:
    talk = Talk()
    (event,) = talk.auth()
    assert isinstance(event, Ask)
    assert event.credentials.login == "alice"
    answer = talk.session.settle(event.request, Verified("alice"))
    assert answer is not None
    assert (answer.line, answer.result, answer.login) == (b"OK\t1\tuser=alice\n", "ok", "alice")
    assert talk.session.asked == 0


@pytest.mark.parametrize(
    ("strip", "add", "typed", "asked"),
    [
        ((), "", "Alice@Example.ORG", "alice@example.org"),
        (("example.org",), "", "Alice@Example.ORG", "alice"),
        (("example.org",), "", "alice", "alice"),
        (("example.org",), "", "alice@example.com", "alice@example.com"),
        (("example.org",), "", "alice@sub.example.org", "alice@sub.example.org"),
        (("example.org",), "", "a@b@example.org", "a@b"),
        (("example.org",), "", "@example.org", None),
        ((), "example.org", "Alice", "alice@example.org"),
        ((), "example.org", "alice@example.com", "alice@example.com"),
        ((), "example.org", "a" * 250, None),
        (("example.net",), "example.org", "alice@example.net", "alice@example.org"),
        (("example.net",), "example.org", "alice", "alice@example.org"),
    ],
)
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_login_has_one_name_whichever_spelling_was_typed(
    strip: tuple[str, ...], add: str, typed: str, asked: str | None, mechanism: str
) -> None:
    talk = Talk(rules=Rules(realm=Realm(frozenset(strip), add)))
    secret = base64.b64encode(b"pass").decode()
    if mechanism == "PLAIN":
        resp = base64.b64encode(b"\0" + typed.encode() + b"\0pass").decode()
        (event,) = talk.auth(resp=f"resp={resp}")
    else:
        talk.auth(mechanism="LOGIN", resp=f"resp={base64.b64encode(typed.encode()).decode()}")
        (event,) = talk.say(f"CONT\t1\t{secret}")
    if asked is None:
        assert isinstance(event, Answer)
        assert event.reason == "bad_login"
    else:
        assert isinstance(event, Ask)
        assert (event.credentials.login, event.credentials.password) == (asked, b"pass")


def test_the_answer_to_a_refusal_is_the_same_whatever_the_reason() -> None:
    lines = set()
    for reason in ("wrong_password", "unknown_login", "disabled", "blocked", "bad_login", "empty_password"):
        talk = Talk()
        answer = talk.session.settle(talk.ask(), Refused(reason, "alice"))
        assert answer is not None
        lines.add(answer.line)
    (line,) = lines
    assert line.startswith(b"FAIL\t1\tuser=alice\treason=")
    assert b"code=" not in line


def test_a_second_answer_is_never_given() -> None:
    talk = Talk()
    request = talk.ask()
    assert talk.session.settle(request, Verified("alice")) is not None
    assert talk.session.settle(request, Verified("alice")) is None
    assert talk.session.give_up(request) is None


def test_a_late_answer_does_not_reach_the_next_request_with_that_id() -> None:
    talk = Talk(4)
    first = talk.ask(5)
    assert talk.say("CANCEL\t5") == [Drop(first), Send(b"CANCELLED\t5\n")]
    second = talk.ask(5)
    assert talk.session.settle(first, Verified("mallory")) is None
    answer = talk.session.settle(second, Refused("wrong_password", "alice"))
    assert answer is not None
    assert answer.result == "refused"


def test_only_verified_is_a_yes() -> None:
    talk = Talk()
    for outcome in (True, None, "alice", object()):
        with pytest.raises(TypeError):
            talk.session.settle(talk.ask(), outcome)  # type: ignore[arg-type]
        talk.say("CANCEL\t1")


def test_requests_interleave_and_are_answered_out_of_order() -> None:
    talk = Talk(2)
    first, second = talk.ask(7), talk.ask(9)
    answers = [
        talk.session.settle(second, Verified("alice")),
        talk.session.settle(first, Refused("wrong_password", "alice")),
    ]
    assert [answer.line[:6] for answer in answers if answer] == [b"OK\t9\tu", b"FAIL\t7"]


@pytest.mark.parametrize("resp", [f"resp={GOOD}", None])
def test_an_id_in_use_ends_the_connection(resp: str | None) -> None:
    talk = Talk()
    talk.auth(1, resp=resp)
    with pytest.raises(Broken, match="in use"):
        talk.auth(1)


def test_an_id_may_be_used_again_after_its_answer() -> None:
    talk = Talk()
    for _ in range(100):
        assert talk.session.settle(talk.ask(1), Verified("alice"))


@pytest.mark.parametrize(
    ("mechanism", "minor", "resp", "expected"),
    [
        ("PLAIN", 0, None, b"CONT\t1\t\n"),
        ("PLAIN", 0, "resp=", b"CONT\t1\t\n"),
        ("PLAIN", 1, "resp=", b"CONT\t1\t\n"),
        ("PLAIN", 2, "resp=", b"FAIL\t1\treason=Malformed authentication data\n"),
        ("PLAIN", 0, "resp==", b"FAIL\t1\treason=Malformed authentication data\n"),
        ("PLAIN", 2, "resp==", b"FAIL\t1\treason=Malformed authentication data\n"),
        ("PLAIN", 0, "resp=%", b"FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in response\n"),
        ("PLAIN", 0, "resp===", b"FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in response\n"),
        ("LOGIN", 0, None, b"CONT\t1\tVXNlcm5hbWU6\n"),
        ("LOGIN", 0, "resp=", b"CONT\t1\tVXNlcm5hbWU6\n"),
        ("LOGIN", 1, "resp=", b"CONT\t1\tVXNlcm5hbWU6\n"),
        ("LOGIN", 2, "resp=", b"CONT\t1\tVXNlcm5hbWU6\n"),
        ("LOGIN", 3, "resp==", b"CONT\t1\tVXNlcm5hbWU6\n"),
        ("LOGIN", 0, "resp==", b"CONT\t1\tVXNlcm5hbWU6\n"),
        ("LOGIN", 0, "resp=YWxpY2U=", b"CONT\t1\tUGFzc3dvcmQ6\n"),
        ("login", 0, "resp=YWxpY2U=", b"CONT\t1\tUGFzc3dvcmQ6\n"),
    ],
)
def test_what_an_empty_response_means(mechanism: str, minor: int, resp: str | None, expected: bytes) -> None:
    (event,) = Talk(minor).auth(1, mechanism, resp)
    assert isinstance(event, Send | Answer)
    assert event.line == expected


def test_login_goes_through_both_challenges() -> None:
    talk = Talk()
    assert talk.auth(1, "LOGIN", None) == [Send(b"CONT\t1\tVXNlcm5hbWU6\n")]
    assert talk.say("CONT\t1\tQWxpY2U=") == [Send(b"CONT\t1\tUGFzc3dvcmQ6\n")]
    (event,) = talk.say("CONT\t1\tcGFzcw==")
    assert isinstance(event, Ask)
    assert (event.credentials.login, event.credentials.password) == ("alice", b"pass")


def test_bad_base64_in_a_continuation_ends_the_exchange_only() -> None:
    talk = Talk()
    talk.auth(1, "LOGIN", None)
    answer = only(talk.say("CONT\t1\tAB="))
    assert (answer.result, answer.reason) == ("refused", "invalid_base64")
    assert only(talk.say("CONT\t1\tQUI=")).reason == "timed_out"
    assert isinstance(talk.auth(2)[0], Ask)


def test_a_continuation_of_nothing_is_told_so() -> None:
    answer = only(Talk().say("CONT\t9\tQUI="))
    assert answer.line == b"FAIL\t9\treason=Authentication request timed out\n"


def test_a_continuation_that_nobody_asked_for_ends_the_request() -> None:
    talk = Talk()
    request = talk.ask(3)
    dropped, answer = talk.say("CONT\t3\tQUI=")
    assert dropped == Drop(request)
    assert isinstance(answer, Answer)
    assert answer.line == b"FAIL\t3\treason=Unexpected continuation\n"
    assert talk.session.settle(request, Verified("alice")) is None


@pytest.mark.parametrize(("minor", "expected"), [(0, []), (3, []), (4, [Send(b"CANCELLED\t1\n")])])
def test_cancel_is_acknowledged_to_who_knows_the_word(minor: int, expected: list[Event]) -> None:
    talk = Talk(minor)
    talk.auth(1, "LOGIN", None)
    assert talk.say("CANCEL\t1") == expected
    assert talk.say("CANCEL\t1") == []
    assert talk.say("CANCEL\t8") == []


def test_an_exchange_left_half_way_is_forgotten_after_150_seconds() -> None:
    talk = Talk()
    talk.auth(1, "LOGIN", None)
    talk.now += HALF_OPEN_MAX
    assert talk.say("CONT\t1\tQWxpY2U=") == [Send(b"CONT\t1\tUGFzc3dvcmQ6\n")]
    talk.now += HALF_OPEN_MAX + 0.1
    assert only(talk.say("CONT\t1\tcGFzcw==")).reason == "timed_out"
    assert isinstance(talk.auth(1)[0], Ask)


def test_a_request_that_is_being_verified_is_not_forgotten() -> None:
    talk = Talk()
    request = talk.ask(1)
    talk.now += 10 * HALF_OPEN_MAX
    talk.auth(2, "LOGIN", None)
    assert talk.session.settle(request, Verified("alice")) is not None


@pytest.mark.parametrize("mechanism", ["", "CRAM-MD5", "EXTERNAL", "XOAUTH2", "PLAIN2", "\xff"])
def test_an_unknown_mechanism_is_refused_and_the_connection_goes_on(mechanism: str) -> None:
    talk = Talk()
    if not mechanism:
        with pytest.raises(Broken):
            talk.auth(1, mechanism)
        return
    answer = only(talk.auth(1, mechanism))
    assert (answer.result, answer.reason) == ("refused", "unsupported_mechanism")
    assert isinstance(talk.auth(1)[0], Ask)


def test_a_mechanism_that_the_settings_leave_out_is_refused() -> None:
    talk = Talk(rules=Rules(("LOGIN",)))
    assert b"PLAIN" not in talk.session.greet(1, 1, bytes(16))
    assert only(talk.auth(1, "plain")).reason == "unsupported_mechanism"


@pytest.mark.parametrize(
    ("parameter", "passes"),
    [("secured", True), ("secured=tls", True), ("secured=", True), ("secured=no", False), ("Secured", False)],
)
def test_without_tls_nobody_is_asked(parameter: str, passes: bool) -> None:
    events = Talk().say(f"AUTH\t1\tPLAIN\tservice=smtp\t{parameter}\tresp={GOOD}")
    if passes:
        assert isinstance(events[0], Ask)
    else:
        assert (only(events).result, only(events).reason) == ("refused", "no_tls")


def test_without_tls_login_is_refused_before_it_asks_for_the_password() -> None:
    assert only(Talk().say("AUTH\t1\tLOGIN\tservice=smtp")).reason == "no_tls"


def test_the_settings_can_let_go_of_tls_on_a_live_connection() -> None:
    talk = Talk()
    talk.session.rules = Rules(require_tls=False)
    assert isinstance(talk.say(f"AUTH\t1\tPLAIN\tservice=smtp\tresp={GOOD}")[0], Ask)


def test_postfix_and_exim_are_hung_up_on_when_nothing_can_be_known() -> None:
    talk = Talk(0)
    with pytest.raises(HangUp):
        talk.session.give_up(talk.ask())


def test_an_abandoned_login_does_not_turn_the_hang_up_into_a_refusal() -> None:
    talk = Talk(0)
    talk.auth(1, "LOGIN", None)
    with pytest.raises(HangUp):
        talk.session.give_up(talk.ask(2))


def test_a_client_with_other_requests_under_way_keeps_its_connection() -> None:
    talk = Talk(0)
    first, second = talk.ask(1), talk.ask(2)
    answer = talk.session.give_up(first)
    assert answer is not None
    assert (answer.result, answer.line) == ("unavailable", b"FAIL\t1" + TEMPORARY)
    with pytest.raises(HangUp):
        talk.session.give_up(second)


@pytest.mark.parametrize("minor", [1, 2, 3, 4])
def test_a_client_of_a_later_minor_reads_temp_fail(minor: int) -> None:
    talk = Talk(minor)
    answer = talk.session.give_up(talk.ask(6))
    assert answer is not None
    assert (answer.result, answer.line) == ("unavailable", b"FAIL\t6" + TEMPORARY)


def test_the_33rd_verification_is_put_off() -> None:
    talk = Talk(0)
    requests = [talk.ask(id) for id in range(1, OUTSTANDING_MAX + 1)]
    answer = only(talk.auth(100))
    assert (answer.result, answer.line) == ("unavailable", b"FAIL\t100" + TEMPORARY)
    for request in requests:
        assert talk.session.settle(request, Verified("alice")) is not None
    assert isinstance(talk.auth(100)[0], Ask)


def test_at_the_bound_the_longest_abandoned_exchange_gives_way() -> None:
    talk = Talk(0)
    for id in range(1, OUTSTANDING_MAX + 1):
        talk.now += 1
        talk.auth(id, "LOGIN", None)
    evicted, asked = talk.auth(100)
    assert isinstance(evicted, Answer)
    assert evicted.line == b"FAIL\t1" + TEMPORARY
    assert isinstance(asked, Ask)
    assert talk.say("CONT\t2\tQWxpY2U=") == [Send(b"CONT\t2\tUGFzc3dvcmQ6\n")]


def test_a_login_that_cannot_go_out_is_never_ok() -> None:
    talk = Talk()
    with pytest.raises(ValueError, match="field"):
        talk.session.settle(talk.ask(), Verified("ali\tce"))


def test_a_refusal_that_cannot_go_out_leaves_the_client_an_answer() -> None:
    talk = Talk()
    request = talk.ask()
    with pytest.raises(ValueError, match="field"):
        talk.session.settle(request, Refused("disabled", "ali\tce"))
    with pytest.raises(HangUp):
        talk.session.give_up(request)


LINES = st.one_of(
    st.sampled_from(
        ["AUTH\t{}\tPLAIN\tservice=smtp\tsecured", "AUTH\t{}\tLOGIN\tprotocol=smtp\tsecured=tls"]
    ),
    st.sampled_from(["CONT\t{}\tYQ==", "CONT\t{}\t", "CONT\t{}\t%%", "CANCEL\t{}"]),
    st.sampled_from(
        [f"AUTH\t{{}}\tplain\tservice=smtp\tsecured\tresp={text}" for text in (GOOD, "", "=", "%")]
    ),
    st.just("AUTH\t{}\tX\tservice=smtp"),
    st.sampled_from(["ok", "no", "away", "wait"]),
)


@settings(max_examples=300)
@given(st.integers(0, 4), st.lists(st.tuples(LINES, st.integers(1, 4)), max_size=40))
def test_each_request_is_answered_at_most_once_and_ok_only_when_verified(
    minor: int, steps: list[tuple[str, int]]
) -> None:
    talk = Talk(minor)
    asked: list[Request] = []
    answered: list[Request] = []

    def judge(word: str) -> list[Event]:
        if not asked:
            return []
        request = asked.pop(0)
        if word == "away":
            given = talk.session.give_up(request)
        else:
            given = talk.session.settle(request, Verified("a") if word == "ok" else Refused("wrong_password"))
        assert given is None or (given.result == "ok") == (word == "ok")
        return [given] if given else []

    try:
        for step, id in steps:
            if step == "wait":
                talk.now += HALF_OPEN_MAX / 2
                continue
            word = step in ("ok", "no", "away")
            for event in judge(step) if word else talk.say(step.format(id)):
                if isinstance(event, Ask):
                    asked.append(event.request)
                elif isinstance(event, Answer):
                    assert event.request not in answered
                    assert event.result != "ok" or step == "ok"
                    assert event.result != "unavailable" or b"code=temp_fail" in event.line
                    answered.append(event.request)
    except (Broken, HangUp):
        pass
