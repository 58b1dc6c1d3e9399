"""The verdict as pure judgement: order, modes, what cannot be known, and the texts that senders read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.identity import Address, Certificate, Login, Network, Principal
from ledger.blocks import Block, Blocklist
from ledger.charges import Admitted, Amounts, Refused, Submission
from ledger.limits import Standing, parse_limit
from policyd import replies
from policyd.facts import AWAY, RESTRICTIONS, Facts, Rules
from policyd.inquiry import networks, plan
from policyd.restrictions import conclude, decide, review
from policyd.spending import predict
from policyd.wire import DUNNO, DeferIfPermit, Reply, Request, encode, words

NOW = 1_790_000_000.0
DAILY, EACH = parse_limit("5 recipients per day"), parse_limit("3 recipients per message")
RULES = Rules(plans={"default": (DAILY, EACH)}, contact="postmaster@example.org")
ALICE = Principal("login", "alice", {Address("alice@example.org"): "mailbox alice"}, domain="example.org")
RCPT = Request(
    protocol_state="RCPT",
    instance="1.2.3.4",
    sender="alice@example.org",
    recipient="x@elsewhere.example",
    client_address="192.0.2.7",
    sasl_username="alice",
    encryption_protocol="TLSv1.3",
)
DATA = RCPT._replace(protocol_state="DATA", queue_id="Q1", recipient_count=2)
END = DATA._replace(protocol_state="END-OF-MESSAGE", size=100)
FACTS = Facts(NOW, "mx1", ALICE, Blocklist())


def verdict(request: Request = RCPT, facts: Facts = FACTS, rules: Rules = RULES):
    return decide(request, plan(request, "submission"), facts, rules)


def with_modes(rules: Rules = RULES, **modes: str) -> Rules:
    return replace(
        rules, restrictions=tuple((name, modes.get(name, "enforce")) for name, _ in rules.restrictions)
    )


def everything_wrong() -> tuple[Request, Facts]:
    """A request that each of the first five restrictions would refuse."""
    block = Block("b1", "relay", "sending", "ops", "spam", "call us", NOW, None)
    principal = replace(ALICE, disabled=True)
    request = RCPT._replace(sender="bob@example.org", encryption_protocol="")
    return request, FACTS._replace(principal=principal, blocks=Blocklist([block]), recipients=9)


def test_the_first_restriction_in_the_order_of_the_settings_refuses() -> None:
    request, facts = everything_wrong()
    for first in ("principal", "tls", "block", "sender", "recipients"):
        order = (first, *(name for name in RESTRICTIONS if name != first))
        found = verdict(
            request, facts, replace(RULES, restrictions=tuple((n, "enforce") for n in order))
        ).found
        assert found is not None
        assert found.restriction == first


def test_observed_restrictions_are_told_and_let_pass() -> None:
    request, facts = everything_wrong()
    judged = verdict(request, facts, with_modes(**dict.fromkeys(RESTRICTIONS, "observe")))
    assert judged.action == DUNNO
    assert [f.restriction for f in judged.observed] == ["principal", "tls", "block", "sender", "recipients"]
    mixed = verdict(request, facts, with_modes(principal="observe", tls="off"))
    assert [f.restriction for f in mixed.observed] == ["principal"]
    assert mixed.found is not None
    assert mixed.found.restriction == "block"


def test_restrictions_that_are_off_say_nothing() -> None:
    request, facts = everything_wrong()
    judged = verdict(request, facts, with_modes(**dict.fromkeys(RESTRICTIONS, "off")))
    assert (judged.action, judged.observed) == (DUNNO, ())
    assert len(review(request, plan(request, "submission"), facts, RULES)) == 6


@pytest.mark.parametrize("name", RESTRICTIONS)
def test_a_directory_that_is_away_defers_whatever_is_enforced(name: str) -> None:
    only = with_modes(**{other: "off" for other in RESTRICTIONS if other != name})
    judged = verdict(RCPT, FACTS._replace(principal=AWAY), only)
    assert isinstance(judged.action, DeferIfPermit)
    observed = with_modes(**dict.fromkeys(RESTRICTIONS, "observe"))
    assert verdict(RCPT, FACTS._replace(principal=AWAY), observed).action == DUNNO


def test_blocks_that_were_never_read_defer() -> None:
    judged = verdict(facts=FACTS._replace(blocks=None))
    assert isinstance(judged.action, DeferIfPermit)


def test_a_login_is_the_only_question_about_itself() -> None:
    both = RCPT._replace(ccert_fingerprint="AA" * 32)
    assert plan(both, "submission").questions == (Login("alice"),)
    assert plan(both._replace(sasl_username="Jürgen"), "submission").questions == (Login("jürgen"),)
    assert plan(both._replace(sasl_username="a b"), "submission").questions == ()


def test_without_a_login_the_certificate_is_asked_for_before_the_network() -> None:
    nobody = RCPT._replace(sasl_username="", ccert_fingerprint="AA" * 32, ccert_pubkey_fingerprint="bb" * 20)
    assert plan(nobody, "submission").questions == (
        Certificate(("sha256:" + "aa" * 32, "sha1:" + "bb" * 20)),
        Network("192.0.2.7"),
    )
    assert plan(nobody._replace(ccert_fingerprint="", ccert_pubkey_fingerprint="x"), "mx").questions == (
        Network("192.0.2.7"),
    )
    assert plan(nobody._replace(client_address="unknown"), "mx").questions[1:] == ()


def test_the_networks_of_an_address_are_all_that_hold_it() -> None:
    found = networks("192.0.2.7")
    assert found[0] == "network:192.0.2.7/32"
    assert "network:192.0.2.0/24" in found
    assert found[-1] == "network:0.0.0.0/0"
    assert len(networks("2001:db8::1")) == 129
    assert networks("::ffff:192.0.2.7") == found
    for junk in ("", "unknown", "192.0.2.256", "x" * 100_000, "1.2.3.4\n"):
        assert networks(junk) == ()


BLOCKED = {
    "a login for good": ("login:alice", None, 554),
    "a login for a while": ("login:alice", NOW + 60, 554),
    "a domain": ("domain:example.org", NOW + 60, 554),
    "the relay": ("relay", NOW + 60, 554),
    "a network for good": ("network:192.0.2.0/24", None, 554),
    "a network for a while": ("network:192.0.2.0/24", NOW + 60, 450),
    "the host for a while": ("network:192.0.2.7/32", NOW + 60, 450),
    "somebody else": ("login:bob", None, 0),
    "another domain": ("domain:example.net", None, 0),
    "another network": ("network:192.0.3.0/24", None, 0),
    "until now": ("login:alice", NOW, 0),
}


@pytest.mark.parametrize(("subject", "end", "code"), BLOCKED.values(), ids=BLOCKED.keys())
def test_a_block_stops_its_subject(subject: str, end: float | None, code: int) -> None:
    block = Block("b1", subject, "sending", "ops", "secret reason", "call 555 0100", NOW - 1, end)
    action = verdict(facts=FACTS._replace(blocks=Blocklist([block]))).action
    if not code:
        assert action == DUNNO
        return
    assert isinstance(action, Reply)
    assert action.code == code
    assert "call 555 0100" in action.text
    assert "secret reason" not in action.text


LISTED, SECOND, UNLISTED = ("sha256:" + digits * 32 for digits in ("aa", "bb", "cc"))
PRINTER = Principal(
    "certificate", LISTED, {Address("printer@example.org"): "certificate"}, fingerprints=(LISTED, SECOND)
)
PRESENTED = {
    "the first that is listed": (PRINTER, LISTED, LISTED),
    "another of the same certificate than is presented": (PRINTER, LISTED, SECOND),
    "the second, presented": (PRINTER, SECOND, SECOND),
    "the first, while the second is presented": (PRINTER, SECOND, LISTED),
    "one that the directory does not list, from a listed network": (
        Principal("network", "192.0.2.0/24", {Address("printer@example.org"): "network"}),
        UNLISTED,
        UNLISTED,
    ),
    "one that a login presents": (
        replace(ALICE, addresses={Address("printer@example.org"): "mailbox"}),
        UNLISTED,
        UNLISTED,
    ),
}


@pytest.mark.parametrize(("principal", "shown", "blocked"), PRESENTED.values(), ids=PRESENTED.keys())
def test_a_block_of_any_fingerprint_of_a_certificate_stops_it(
    principal: Principal, shown: str, blocked: str
) -> None:
    request = RCPT._replace(sasl_username="", sender="printer@example.org", ccert_fingerprint=shown[7:])
    stopped = Block("b1", f"certificate:{blocked}", "sending", "ops", "stolen", "", NOW, None)
    other = replace(stopped, subject="certificate:sha256:" + "dd" * 32)
    facts = FACTS._replace(principal=principal)
    refused = verdict(request, facts._replace(blocks=Blocklist([stopped])))
    assert isinstance(refused.action, Reply)
    assert (refused.action.code, dict(refused.found.detail)["subject"]) == (554, stopped.subject)
    assert verdict(request, facts._replace(blocks=Blocklist([other]))).action == DUNNO
    by_key = request._replace(ccert_fingerprint="", ccert_pubkey_fingerprint=shown[7:])
    assert verdict(by_key, facts._replace(blocks=Blocklist([stopped]))).action == refused.action


def test_data_asks_for_the_reservation_of_the_whole_message() -> None:
    charge = verdict(DATA).charge
    assert charge is not None
    assert charge.submission == Submission("login:alice", "alice@example.org")
    assert charge.amounts == Amounts(1, 2, 0)
    assert charge.limits == (("login:alice", DAILY, True),)


def test_rcpt_takes_nothing_unless_sites_are_charged_there() -> None:
    assert verdict(RCPT).charge is None
    at_rcpt = replace(RULES, charge="rcpt")
    first = verdict(RCPT._replace(size=9), rules=at_rcpt).charge
    later = verdict(RCPT._replace(size=9), FACTS._replace(recipients=2), at_rcpt).charge
    assert first is not None
    assert later is not None
    assert (first.amounts, later.amounts) == (Amounts(1, 1, 9), Amounts(0, 1, 0))
    assert first.submission is None
    assert verdict(DATA, rules=at_rcpt).charge is None
    assert verdict(END, rules=at_rcpt).charge is None


def test_limits_that_are_observed_count_and_those_that_are_off_do_not_but_the_record_is_written() -> None:
    observed = verdict(DATA, rules=with_modes(limits="observe")).charge
    off = verdict(DATA, rules=with_modes(limits="off")).charge
    assert observed is not None
    assert off is not None
    assert observed.limits == (("login:alice", DAILY, False),)
    assert off.limits == ()
    assert off.submission is not None


def test_nobody_is_not_charged() -> None:
    judged = verdict(
        DATA._replace(sasl_username=""), FACTS._replace(principal=None), with_modes(principal="observe")
    )
    assert (judged.action, judged.charge) == (DUNNO, None)


def outcome_of(request: Request, outcome, rules: Rules = RULES, facts: Facts = FACTS):
    inquiry = plan(request, "submission")
    return conclude(request, inquiry, facts, rules, decide(request, inquiry, facts, rules), outcome)


def test_what_the_ledger_refuses_waits_with_what_was_used_and_when_it_reopens() -> None:
    refused = Refused(DAILY, Standing("login:alice", DAILY, 4), NOW + 700)
    action = outcome_of(DATA, refused).action
    assert isinstance(action, Reply)
    assert (action.code, action.enhanced) == (450, "4.7.1")
    assert "used 4 of 5 recipients per day, this message needs 2, reopens at" in action.text
    assert "(in 12 min), incident" in action.text
    never = outcome_of(DATA, Refused(DAILY, Standing("login:alice", DAILY, 0), None)).action
    assert words(never).startswith("554 5.7.1 login alice may send 5 recipients per day")


def test_a_ledger_that_is_away_defers_at_data_and_not_at_the_end() -> None:
    assert isinstance(outcome_of(DATA, AWAY).action, DeferIfPermit)
    assert outcome_of(END, AWAY, facts=FACTS._replace(judged=True)).action == DUNNO
    observed = outcome_of(DATA, AWAY, with_modes(limits="observe"))
    assert observed.action == DUNNO
    assert [f.reason for f in observed.observed] == ["ledger unavailable"]


def test_an_observed_limit_that_is_exceeded_is_told() -> None:
    judged = outcome_of(
        DATA, Admitted((Standing("login:alice", DAILY, 7, NOW + 60),)), with_modes(limits="observe")
    )
    assert judged.action == DUNNO
    assert [(f.restriction, dict(f.detail)["used"]) for f in judged.observed] == [("limits", 7)]


def test_at_the_end_only_421_is_ever_said() -> None:
    refused = Refused(DAILY, Standing("login:alice", DAILY, 4), NOW + 700)
    for judged in (
        outcome_of(END, refused, facts=FACTS._replace(judged=True)),
        verdict(END._replace(sender="bob@example.org")),
        verdict(END._replace(recipient_count=4), FACTS._replace(judged=True)),
        verdict(END, FACTS._replace(principal=AWAY)),
    ):
        assert isinstance(judged.action, Reply)
        assert judged.action.code == 421


def test_a_message_that_has_passed_at_data_is_not_judged_again_at_its_end() -> None:
    request, facts = everything_wrong()
    end = END._replace(sender=request.sender)
    for principal in (facts.principal, None, AWAY):
        passed = verdict(end, facts._replace(judged=True, principal=principal))
        assert passed.action == DUNNO
        assert passed.charge is not None
        assert passed.charge.amounts == Amounts(1, 2, 100)


def test_a_standing_refuses_at_rcpt_only_what_is_used_up_now_and_still_in_the_plan() -> None:
    full = Standing("login:alice", DAILY, 5, NOW + 60)
    cases = {
        (full,): 450,
        (replace(full, used=4),): 0,
        (replace(full, reopens_at=NOW),): 0,
        (replace(full, reopens_at=None),): 0,
        (replace(full, limit=parse_limit("5 recipients per week")),): 0,
    }
    for standings, code in cases.items():
        action = verdict(facts=FACTS._replace(standings=standings)).action
        assert (action.code if isinstance(action, Reply) else 0) == code
        assert verdict(DATA, FACTS._replace(standings=standings)).action == DUNNO  # the ledger decides there


def test_the_ledgers_answer_can_be_predicted_by_arithmetic() -> None:
    charge = verdict(DATA).charge
    assert charge is not None
    assert predict(charge, (Standing("login:alice", DAILY, 3),), NOW) == Admitted(
        (Standing("login:alice", DAILY, 5),)
    )
    some = predict(charge, (Standing("login:alice", DAILY, 4),), NOW)
    assert isinstance(some, Refused)
    assert some.reopens_at is not None
    never = predict(charge._replace(amounts=Amounts(1, 6, 0)), (Standing("login:alice", DAILY, 0),), NOW)
    assert isinstance(never, Refused)
    assert never.reopens_at is None


def test_an_incident_is_the_same_for_a_repeat_and_another_for_another_message() -> None:
    refused = RCPT._replace(sender="bob@example.org")
    one, again = verdict(refused).found, verdict(refused).found
    other = verdict(refused._replace(instance="9.9.9.9")).found
    assert one is not None
    assert again is not None
    assert other is not None
    assert one.incident == again.incident != other.incident
    assert len(one.incident) == 8


@given(
    st.builds(
        Request,
        protocol_state=st.sampled_from(["RCPT", "DATA", "END-OF-MESSAGE", "MAIL", "odd", ""]),
        sender=st.text(max_size=400),
        recipient=st.text(max_size=50),
        recipient_count=st.integers(0, 10**18),
        size=st.integers(0, 10**18),
        client_address=st.text(max_size=70),
        sasl_username=st.text(max_size=300),
        encryption_protocol=st.sampled_from(["", "TLSv1.3"]),
        policy_context=st.sampled_from(["", "mx"]),
    ),
    st.sampled_from(
        [None, AWAY, ALICE, replace(ALICE, disabled=True, name="ä" * 300), replace(ALICE, plan="no")]
    ),
    st.text(max_size=900),
    st.booleans(),
)
def test_any_request_gets_an_answer_of_the_closed_set(
    request_: Request, principal, words_, blocked: bool
) -> None:
    block = Block("b", "relay", "sending", words_, words_, words_, NOW, None)
    facts = Facts(NOW, "mx", principal, Blocklist([block] if blocked else []))
    rules = replace(RULES, contact=words_)
    judged = verdict(request_, facts, rules)
    assert len(encode(judged.action)) < 450
    if principal is None and request_.policy_context != "mx":
        assert judged.action != DUNNO
    for outcome in (
        AWAY,
        Refused(DAILY, Standing("s", DAILY, 5), None),
        Refused(DAILY, Standing("s", DAILY, 5), NOW),
    ):
        inquiry = plan(request_, "submission")
        assert encode(conclude(request_, inquiry, facts, rules, judged, outcome).action)


def test_sender_refusals_are_one_short_line() -> None:
    principal = replace(ALICE, name="a" * 255)
    text = replies.not_owned(principal, Address("b" * 64 + "@" + "c" * 180 + ".example"), "d" * 200).text
    assert len(text) <= 200
    assert len(replies.malformed("x" * 5000, "y" * 500).text) <= 200


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (1, "(in 1 min)"),
        (60, "(in 1 min)"),
        (61, "(in 2 min)"),
        (119 * 60, "(in 119 min)"),
        (7200, "(in 2 h)"),
        (86400, "(in 24 h)"),
    ],
)
def test_the_time_of_reopening_is_rounded_up_and_in_utc(after: int, said: str) -> None:
    start = NOW - NOW % 86400
    text = replies.reopening(start + after, start)
    assert text.endswith(said)
    assert " UTC " in text
    assert ("2026-" in text) is (after >= 86400)
