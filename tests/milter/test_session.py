"""Which step may follow which, what is remembered for how long, and who gets an answer."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milter import wire
from milter.session import LEGAL, MACRO_MAX, SYMBOLS, Answer, End, Judge, Message, Overrule, Session, Stage
from milter.wire import CONTINUE, Packet, Violation, encode_reply

ALL = 0x1FFFFF
REFUSAL = encode_reply(b"550 5.7.1 not yours")


def offer(version: int = 6, actions: int = 0x1FF, protocol: int = ALL) -> Packet:
    return Packet(b"O", struct.pack("!III", version, actions, protocol))


def macros(stage: str, **values: str) -> Packet:
    pairs = "".join(f"{{{name}}}\0{value}\0" for name, value in values.items())
    return Packet(b"D", stage.encode() + pairs.encode())


def header(name: str, value: str) -> Packet:
    return Packet(b"L", f"{name}\0{value}\0".encode())


def mail(sender: str = "<alice@example.org>") -> Packet:
    return Packet(b"M", sender.encode() + b"\0")


def begun(protocol: int = ALL) -> Session:
    session = Session()
    session.receive(offer(protocol=protocol))
    return session


def run(session: Session, *steps: Packet) -> object:
    last: object = None
    for step in steps:
        last = session.receive(step)
    return last


def judged(session: Session, *steps: Packet) -> Message:
    step = run(session, *steps, Packet(b"N"))
    assert isinstance(step, Judge)
    return step.message


def negotiated(answer: object) -> tuple[int, int, int, bytes]:
    assert isinstance(answer, Answer)
    version, actions, protocol = struct.unpack_from("!III", answer.data, 5)
    return version, actions, protocol, answer.data[17:]


def test_the_negotiation_asks_for_what_is_needed() -> None:
    version, actions, protocol, lists = negotiated(Session().receive(offer()))
    assert (version, actions) == (6, wire.SETSYMLIST | wire.CHGHDRS)
    assert protocol & wire.NR_HDR
    assert not protocol & (wire.NR_MAIL | wire.NR_EOH | wire.NOMAIL | wire.NOHDRS | wire.NOEOH)
    for names in SYMBOLS.values():
        assert names + b"\0" in lists
    assert protocol & wire.NOBODY
    _, _, protocol, _ = negotiated(Session(body=True).receive(offer()))
    assert protocol & wire.NR_BODY
    assert not protocol & wire.NOBODY


@pytest.mark.parametrize("protocol", [ALL, 0])
def test_a_long_line_overrules_what_had_passed_and_nothing_else(protocol: int) -> None:
    session = Session(body=True)
    session.receive(offer(protocol=protocol))
    for verdict in (CONTINUE, REFUSAL):
        judged(session, mail())
        session.judged(verdict, b"edits")
        run(session, Packet(b"B", b"x" * 600), Packet(b"B", b"x" * 600))
        step = session.receive(Packet(b"E"))
        if verdict == REFUSAL:
            assert step == Answer(b"edits" + REFUSAL)
            continue
        assert isinstance(step, Overrule)
        assert session.judged(REFUSAL) == Answer(REFUSAL)
        assert session.is_idle


def test_a_long_line_of_one_message_does_not_hurt_the_next() -> None:
    session = Session(body=True)
    session.receive(offer())
    judged(session, mail())
    session.judged(CONTINUE)
    run(session, Packet(b"B", b"x" * 1200), Packet(b"A"))
    judged(session, mail())
    session.judged(CONTINUE, b"edits")
    assert run(session, Packet(b"B", b"x\r\n"), Packet(b"E")) == Answer(b"edits" + CONTINUE)
    judged(session, mail())
    session.judged(CONTINUE)
    assert session.receive(Packet(b"E")) == Answer(CONTINUE)


@given(st.sampled_from(wire.VERSIONS), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_nothing_is_set_that_was_not_offered(version: int, actions: int, protocol: int) -> None:
    got = negotiated(Session().receive(offer(version, actions, protocol)))
    assert got[0] == version
    assert not got[1] & ~actions
    assert not got[2] & ~protocol
    assert bool(got[3]) == bool(actions & wire.SETSYMLIST)


def test_without_leave_to_be_silent_every_step_is_answered() -> None:
    session = begun(protocol=0)
    for step in (
        Packet(b"C", b"x\0U"),
        Packet(b"H", b"x\0"),
        mail(),
        Packet(b"R", b"<x@y>\0"),
        Packet(b"T"),
        header("From", "a"),
    ):
        assert session.receive(step) == Answer(CONTINUE), step
    run(session, Packet(b"N"))
    session.judged(CONTINUE)
    assert session.receive(Packet(b"B", b"body")) == Answer(CONTINUE)
    assert session.receive(Packet(b"E")) == Answer(CONTINUE)


def test_headers_cost_no_round_trip() -> None:
    session = begun()
    assert run(session, mail(), header("From", "a")) == Answer()


def test_mail_is_answered_so_that_a_dead_milter_is_noticed_before_anything_is_charged() -> None:
    assert run(begun(), mail()) == Answer(CONTINUE)


def test_a_message_knows_its_macros_sender_and_header() -> None:
    message = judged(
        begun(),
        macros("C", client_addr="192.0.2.1"),
        macros("M", auth_authen="alice", mail_addr="alice@example.org"),
        mail(),
        macros("L", i="ABC"),
        header("From", " a@b"),
        macros("N", i="ABC"),
    )
    assert message.macro(b"i") == "ABC"
    assert message.macro(b"auth_authen") == "alice"
    assert message.macro(b"client_addr") == "192.0.2.1"
    assert message.envelope_sender == "<alice@example.org>"
    assert message.header.author == b" a@b"


@pytest.mark.parametrize("between", [[], [Packet(b"A")], [Packet(b"K")]], ids=["end", "abort", "quit_nc"])
def test_nothing_of_one_message_is_known_of_the_next(between: list[Packet]) -> None:
    session = begun()
    judged(session, macros("M", auth_authen="alice"), mail(), macros("N", i="ONE"), header("From", "a"))
    session.judged(CONTINUE)
    run(session, Packet(b"E"), *between)
    message = judged(session, mail("<>"), header("Subject", "x"))
    assert message.macros == {}
    assert message.header.author is None
    assert message.envelope_sender == "<>"


def test_a_second_mail_in_one_transaction_begins_anew() -> None:
    session = begun()
    run(session, macros("M", auth_authen="alice"), mail(), macros("M", auth_authen="bob"), mail("<b@b>"))
    assert judged(session, header("From", "a")).macro(b"auth_authen") == "bob"
    session = begun()
    run(session, macros("M", auth_authen="alice"), mail(), mail("<b@b>"))
    assert judged(session, header("From", "a")).macro(b"auth_authen") == ""


def test_a_body_without_mail_is_judged_and_not_passed() -> None:
    session = begun()
    judged(session, mail(), header("From", "a"))
    session.judged(CONTINUE)
    run(session, Packet(b"E"))
    message = judged(session, macros("L", i="TWO", auth_authen="alice"), header("From", "b"))
    assert message.header.author == b"b"
    assert message.macro(b"i") == "TWO"


def test_a_refusal_holds_to_the_end_of_its_message_and_no_longer() -> None:
    session = begun(protocol=0)
    judged(session, mail(), header("From", "a"))
    assert session.judged(REFUSAL) == Answer(REFUSAL)
    assert run(session, Packet(b"B", b"x")) == Answer(REFUSAL)
    assert run(session, Packet(b"E")) == Answer(REFUSAL)
    judged(session, mail(), header("From", "a"))
    assert session.judged(CONTINUE) == Answer(CONTINUE)
    assert run(session, Packet(b"E")) == Answer(CONTINUE)


def test_the_end_of_a_message_without_a_verdict_is_a_violation() -> None:
    for steps in ([], [mail()], [mail(), header("From", "a")]):
        session = begun()
        run(session, *steps)
        with pytest.raises(Violation):
            session.receive(Packet(b"E"))


def test_while_a_verdict_is_awaited_nothing_may_come() -> None:
    session = begun()
    judged(session, mail())
    with pytest.raises(Violation):
        session.receive(Packet(b"A"))


def test_quit_ends_the_connection() -> None:
    assert isinstance(run(begun(), Packet(b"Q")), End)
    assert isinstance(Session().receive(Packet(b"Q")), End)


def test_a_macro_that_is_too_long_is_a_violation() -> None:
    with pytest.raises(Violation, match="too long"):
        run(begun(), macros("M", auth_authen="x" * (MACRO_MAX + 1)))
    run(begun(), macros("M", other="x" * 100000))


def test_a_verdict_that_nobody_asked_for_is_a_mistake_of_ours() -> None:
    with pytest.raises(RuntimeError):
        begun().judged(CONTINUE)


COMMANDS = st.sampled_from(sorted(wire.COMMANDS))
DATA = st.sampled_from([b"", b"a\0b\0", b"<a@b>\0", b"Mi\0x\0", offer().data, b"\xff"])


@given(st.lists(st.tuples(COMMANDS, DATA), max_size=30), st.booleans())
def test_no_order_of_packets_says_continue_at_the_end_of_a_message_that_was_refused(steps, refuse) -> None:
    session, verdict = Session(), REFUSAL if refuse else CONTINUE
    for command, data in steps:
        legal = command in LEGAL[session.stage]
        try:
            step = session.receive(Packet(command, data))
        except Violation:
            return
        assert legal
        if isinstance(step, Judge):
            session.judged(verdict)
        elif command == b"E":
            assert step == Answer(verdict)
        elif isinstance(step, End):
            return


def test_every_stage_has_its_legal_steps() -> None:
    assert set(LEGAL) == set(Stage)
