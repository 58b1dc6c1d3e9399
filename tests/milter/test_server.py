"""The milter on a real socket, with the real stores: verdicts, refunds, trouble, drain."""

import re

import pytest
import pytest_twisted
from twisted.internet import reactor

from milter import keys, wire
from milter.refunds import WAIT
from milter.wire import PACKET_MAX, Options, Packet, encode
from sidecar.settings import SettingsError
from tests.milter.stage import OFFER, Broken, Stage, stage

CONTINUE = Packet(b"c")
OWN = ("From", " Alice <alice@example.org>")
FOREIGN = ("From", " Bob <bob@example.org>")
PRINTER = "certificate:sha256:0001020304050607080900010203040506070809000102030405060708090001"
APP = "network:192.0.2.0/28"


def says(packet: Packet | None) -> str:
    assert packet is not None and packet.command == b"y", packet
    assert packet.data.endswith(b"\0")
    return packet.data[:-1].decode("ascii")


@pytest_twisted.ensureDeferred
async def test_an_own_author_passes_and_stays_charged() -> None:
    async with stage(reactor) as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        assert await mta.send(reactor, OWN, ("Subject", " x")) == CONTINUE
        mta.say(Packet(b"E"))
        assert await mta.hear(reactor) == CONTINUE
        assert await set_up.used() == 1
        line = set_up.line()
        for field in (
            "queue_id=ABC",
            "principal=login:alice",
            "sender=<alice@example.org>",
            "author=alice@example.org",
            "verdict=pass",
        ):
            assert field in line
        assert "incident" not in line


@pytest_twisted.ensureDeferred
async def test_a_foreign_author_is_refused_with_a_number_and_refunded_before_the_answer() -> None:
    async with stage(reactor) as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        text = says(await mta.send(reactor, FOREIGN))
        found = re.fullmatch(
            r"550 5\.7\.1 login alice does not own the From address <bob@example\.org>: send as its own"
            r" address, or ask postmaster@example\.org to add this one \(incident ([0-9a-f]{8})\)",
            text,
        )
        assert found, text
        assert await set_up.used() == 0
        assert f"incident={found[1]}" in set_up.line()
        assert "refund=done" in set_up.line()
        mta.say(Packet(b"A"))
        await set_up.record("DEF")
        assert await mta.send(reactor, OWN, queue_id="DEF") == CONTINUE


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ([("Subject", "x")], "550 5.6.0", "no_author"),
        ([], "550 5.6.0", "no_author"),
        ([OWN, OWN], "550 5.6.0", "field_repeated"),
        ([OWN, ("Subject", "a\x07b")], "550 5.6.0", "field_control"),
        ([OWN, ("Subject", "a\r\n b")], "550 5.6.0", "field_control"),
        ([OWN, ("Subject", "a\nFrom: b")], "550 5.6.0", "field_control"),
        ([OWN, ("References", "x" * 999)], "550 5.6.0", "long_line"),
        ([OWN, ("FROM ", "bob@example.org")], "550 5.6.0", "field_repeated"),
        ([OWN, ("To", "a"), ("to", "b")], "550 5.6.0", "field_repeated"),
        ([("From", "alice@example.org, bob@example.org")], "550 5.6.0", "from_list"),
        ([("From", "alice@example.org\udcff")], "550 5.6.0", "from_not_utf8"),
        ([OWN, ("Sender", "bob@example.org")], "550 5.7.1", "sender_not_owned"),
        ([OWN, ("Sender", "bob")], "550 5.6.0", "sender_no_domain"),
        ([FOREIGN, ("Sender", "alice@example.org")], "550 5.7.1", "from_not_owned"),
        ([OWN, ("Resent-From", "alice@example.org")], "550 5.7.1", "resent"),
        ([OWN, *[("X", "v" * 60_000)] * 5], "550 5.6.0", "header_too_large"),
        ([("From", f"a@{'x' * 70}.example")], "550 5.6.0", "from_malformed"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_header_that_cannot_pass_is_refused(fields, code: str, reason: str) -> None:
    async with stage(reactor) as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        assert says(await mta.send(reactor, *fields)).startswith(code)
        assert f"reason={reason}" in set_up.line()
        assert await set_up.used() == 0


@pytest.mark.parametrize(
    "fields",
    [
        [OWN, ("Sender", " alice@example.net")],
        [OWN, ("Reply-To", "bob@example.org")],
        [("From", " =?utf-8?q?A?=\n <alice_lastname@example.net>")],
        [*[(f"X-{number}", "v") for number in range(10_000)], OWN],
    ],
    ids=["own sender", "foreign reply-to", "folded alias", "10,000 fields"],
)
@pytest_twisted.ensureDeferred
async def test_a_header_that_is_fine_passes(fields) -> None:
    async with stage(reactor) as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        assert await mta.send(reactor, *fields) == CONTINUE


@pytest_twisted.ensureDeferred
async def test_settings_let_a_foreign_sender_and_resent_fields_pass() -> None:
    async with stage(reactor, author="{sender: any, resent: allow}") as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        fields = [OWN, ("Sender", "b"), ("Resent-From", "bob@example.org"), ("Resent-From", "x")]
        assert await mta.send(reactor, *fields) == CONTINUE


@pytest_twisted.ensureDeferred
async def test_strict_names_refuse_an_address_as_a_name() -> None:
    async with stage(reactor, author="{display_name: strict}") as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        answer = await mta.send(reactor, ("From", '"ceo@example.com" <alice@example.org>'))
        assert says(answer).startswith("550 5.6.0 the From field has a name like another address")


# -- who submits


@pytest.mark.parametrize(
    ("principal", "login", "client", "author", "expected"),
    [
        ("login:alice", "alice", "203.0.113.9", "alice@example.org", "pass"),
        ("login:alice", "ALICE", "203.0.113.9", "alice@example.org", "pass"),
        ("login:alice", "bob", "203.0.113.9", "alice@example.org", "451 4.3.0"),
        ("login:alice", "", "203.0.113.9", "alice@example.org", "451 4.3.0"),
        ("login:alice", "al ice", "203.0.113.9", "alice@example.org", "451 4.3.0"),
        ("login:rené", "rené", "", "rené@bücher.example", "pass"),
        ("login:nobody", "nobody", "203.0.113.9", "alice@example.org", "451 4.3.0"),
        ("login:dave", "dave", "203.0.113.9", "dave@example.org", "550 5.7.1"),
        (PRINTER, "", "203.0.113.9", "printer@example.org", "pass"),
        (PRINTER, "", "203.0.113.9", "alice@example.org", "550 5.7.1"),
        (PRINTER, "alice", "203.0.113.9", "printer@example.org", "451 4.3.0"),
        ("certificate:sha256:00", "", "203.0.113.9", "printer@example.org", "451 4.3.0"),
        (APP, "", "192.0.2.7", "app@example.org", "pass"),
        (APP, "", "192.0.2.7", "alice@example.org", "550 5.7.1"),
        (APP, "", "192.0.2.77", "app@example.org", "451 4.3.0"),
        (APP, "", "unknown", "app@example.org", "451 4.3.0"),
        (APP, "alice", "192.0.2.7", "app@example.org", "451 4.3.0"),
        ("relay", "", "192.0.2.7", "app@example.org", "451 4.3.0"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_record_tells_who_submits_and_the_macros_must_agree(
    principal: str, login: str, client: str, author: str, expected: str
) -> None:
    async with stage(reactor) as set_up:
        await set_up.record(principal=principal)
        mta = await set_up.greeted()
        answer = await mta.send(reactor, ("From", author), login=login, client=client)
        if expected == "pass":
            assert answer == CONTINUE
        else:
            assert says(answer).startswith(expected)


@pytest.mark.parametrize("queue_id", ["", "OTHER"])
@pytest_twisted.ensureDeferred
async def test_without_a_record_nobody_passes(queue_id: str) -> None:
    async with stage(reactor) as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        answer = says(await mta.send(reactor, OWN, queue_id=queue_id))
        assert answer.startswith("451 4.3.0 cannot check the From field now: try again in some minutes")
        assert "reason=submitter_unknown" in set_up.line()


@pytest.mark.parametrize(
    ("login", "client", "author", "expected"),
    [
        ("alice", "203.0.113.9", "alice@example.org", "pass"),
        ("alice", "203.0.113.9", "bob@example.org", "550 5.7.1 login alice does not own"),
        ("al ice", "203.0.113.9", "alice@example.org", "451 4.3.0"),
        ("nobody", "192.0.2.7", "app@example.org", "550 5.7.1 neither a login nor a listed network"),
        ("", "192.0.2.7", "app@example.org", "pass"),
        ("", "203.0.113.9", "printer@example.org", "550 5.7.1 neither a login nor a listed network"),
        ("", "unknown", "printer@example.org", "550 5.7.1 neither a login nor a listed network"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_with_charge_rcpt_the_macros_alone_tell_who_submits(
    login: str, client: str, author: str, expected: str
) -> None:
    async with stage(reactor, charge="rcpt") as set_up:
        mta = await set_up.greeted()
        answer = await mta.send(reactor, ("From", author), login=login, client=client)
        if expected == "pass":
            assert answer == CONTINUE
        else:
            assert says(answer).startswith(expected)


# -- modes


@pytest_twisted.ensureDeferred
async def test_observe_logs_what_would_have_been_and_lets_pass() -> None:
    async with stage(reactor, author="{mode: observe}") as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        assert await mta.send(reactor, FOREIGN) == CONTINUE
        mta.say(Packet(b"E"))
        assert await mta.hear(reactor) == CONTINUE
        assert "verdict=pass observed=refuse reason=from_not_owned" in set_up.line()
        assert await set_up.used() == 1
        assert await mta.send(reactor, OWN, queue_id="UNKNOWN") == CONTINUE
        assert "observed=defer" in set_up.out.getvalue()


@pytest_twisted.ensureDeferred
async def test_off_judges_nothing_and_needs_no_queue_id() -> None:
    async with stage(reactor, author="{mode: off}") as set_up:
        mta = await set_up.greeted()
        for queue_id in ("ABC", ""):
            assert await mta.send(reactor, FOREIGN, queue_id=queue_id) == CONTINUE
            mta.say(Packet(b"E"))
            assert await mta.hear(reactor) == CONTINUE
        assert "event=author" not in set_up.out.getvalue()


@pytest.mark.parametrize("how", ["fail", "hang"])
@pytest_twisted.ensureDeferred
async def test_off_waits_a_second_at_most_for_a_ledger_that_is_away(how: str) -> None:
    async with stage(reactor, author="{mode: off}") as set_up:
        set_up.service.judge.ledger = Broken(set_up.service.judge.ledger, how, "take_up")
        mta = await set_up.greeted()
        began = reactor.seconds()
        assert await mta.send(reactor, FOREIGN) == CONTINUE
        assert reactor.seconds() - began < WAIT + 0.5


# -- trouble


@pytest.mark.parametrize("verb", ["record", "take_up"])
@pytest_twisted.ensureDeferred
async def test_a_ledger_that_is_away_defers(verb: str) -> None:
    async with stage(reactor) as set_up:
        await set_up.record()
        set_up.service.judge.ledger = Broken(set_up.service.judge.ledger, "fail", verb)
        mta = await set_up.greeted()
        assert says(await mta.send(reactor, OWN)).startswith("451 4.3.0")
        assert "reason=ledger_unavailable" in set_up.line()
        assert await set_up.used() == 0  # what is deferred comes again, and is charged then


@pytest.mark.parametrize("verb", ["record", "take_up"])
@pytest_twisted.ensureDeferred
async def test_a_ledger_that_never_answers_defers_within_the_deadline(verb: str) -> None:
    async with stage(reactor) as set_up:
        await set_up.record()
        set_up.service.judge.ledger = Broken(set_up.service.judge.ledger, "hang", verb)
        mta, other = await set_up.greeted(), await set_up.greeted()
        waiting = mta.send(reactor, OWN)
        began = reactor.seconds()
        assert says(await waiting).startswith("451 4.3.0")
        assert reactor.seconds() - began < 11
        assert "reason=deadline" in set_up.line()
        other.say(Packet(b"M", b"<a@b>\0"))
        assert await other.hear(reactor) == CONTINUE


def rename(set_up: Stage, old: str, new: str) -> None:
    text = set_up.config.read_text("utf-8")
    set_up.config.write_text(text.replace(old, new), encoding="utf-8")
    set_up.service.reload()


async def until(set_up: Stage, text: str) -> None:
    """Wait until the log holds `text`."""
    while text not in set_up.out.getvalue():
        await set_up.pause(0.05)


@pytest_twisted.ensureDeferred
async def test_a_directory_that_is_away_defers() -> None:
    async with stage(reactor, directory="gone.yaml") as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        assert says(await mta.send(reactor, OWN)).startswith("451 4.3.0")
        assert "reason=directory_unavailable" in set_up.line()
        assert set_up.service.state().startswith("degraded")
        assert set_up.service.healthy()
        rename(set_up, "gone.yaml", "directory.yaml")
        await until(set_up, "the new directory serves")
        mta.say(Packet(b"A"))
        await set_up.record("B")
        assert await mta.send(reactor, OWN, queue_id="B") == CONTINUE


@pytest_twisted.ensureDeferred
async def test_a_reload_to_stores_that_cannot_serve_keeps_the_old_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sidecar.exchange.PATIENCE", 0.3)
    async with stage(reactor) as set_up:
        mta = await set_up.greeted()
        rename(set_up, "directory.yaml", "gone.yaml")
        rename(set_up, "ledger.sqlite", "no/such/ledger")
        for queue_id in ("A", "B"):  # before they are given up, and after
            await set_up.record(queue_id)
            assert await mta.send(reactor, OWN, queue_id=queue_id) == CONTINUE
            mta.say(Packet(b"A"))
            await set_up.record(f"{queue_id}2")
            assert says(await mta.send(reactor, FOREIGN, queue_id=f"{queue_id}2")).startswith("550 5.7.1")
            mta.say(Packet(b"A"))
            await until(set_up, "the new directory is unavailable; the old one goes on serving")
            await until(set_up, "the new ledger is unavailable; the old one goes on serving")
        assert await set_up.used() == 2
        assert set_up.out.getvalue().count("refund=done") == 2
        assert set_up.service.state() == "degraded directory=behind ledger=behind"


@pytest_twisted.ensureDeferred
async def test_a_reload_opens_another_ledger_and_takes_it_when_it_serves() -> None:
    async with stage(reactor) as set_up:
        mta = await set_up.greeted()
        rename(set_up, "ledger.sqlite", "other.sqlite")
        await until(set_up, "the new ledger serves")
        await set_up.record()
        assert await mta.send(reactor, OWN) == CONTINUE
        assert (set_up.home / "other.sqlite").exists()


@pytest.mark.parametrize("how", ["fail", "hang"])
@pytest_twisted.ensureDeferred
async def test_a_refund_that_cannot_be_delivered_delays_the_refusal_by_a_second_at_most(how: str) -> None:
    async with stage(reactor) as set_up:
        await set_up.record()
        broken = Broken(set_up.service.judge.ledger, how, "refund")
        set_up.service.judge.ledger = broken
        mta = await set_up.greeted()
        began = reactor.seconds()
        assert says(await mta.send(reactor, FOREIGN)).startswith("550 5.7.1")
        assert reactor.seconds() - began < WAIT + 0.5
        assert "refund=lost" in set_up.line()
        assert len(set_up.service.judge.refunds) == 1
        set_up.service.judge.ledger = broken.real
        while await set_up.used():
            await set_up.pause(0.1)
        assert "refund=late" in set_up.line("refund")


@pytest_twisted.ensureDeferred
async def test_a_mistake_of_ours_defers_with_a_traceback_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(reactor) as set_up:
        await set_up.record()

        def wrong(question: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(set_up.service.judge.directory, "look_up", wrong)
        mta = await set_up.greeted()
        assert says(await mta.send(reactor, OWN)).startswith("451 4.3.0")
        assert "reason=internal_error" in set_up.line()


# -- keys


def tables(home) -> str:
    return f"{{key_table: {home}/KeyTable, signing_table: {home}/SigningTable}}"


@pytest_twisted.ensureDeferred
async def test_a_domain_that_nothing_would_sign_is_deferred_until_the_signer_can_know_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keys, "SETTLE", 3.0)
    async with stage(reactor) as set_up:
        key_table, signing_table = set_up.home / "KeyTable", set_up.home / "SigningTable"
        key_table.write_text("org example.org:s:/k\nnet example.net:s:/k\n")
        signing_table.write_text("*@example.org org\n")
        set_up.write(sign=tables(set_up.home))
        set_up.service.reload()
        mta = await set_up.greeted()
        await set_up.record("A")
        assert await mta.send(reactor, OWN, queue_id="A") == CONTINUE
        mta.say(Packet(b"A"))
        await set_up.record("B")
        text = says(await mta.send(reactor, ("From", "alice@example.net"), queue_id="B"))
        assert text.startswith("451 4.7.5 no DKIM key for example.net is set up here")
        assert await set_up.used() == 1
        signing_table.write_text("*@example.org org\n*@example.net net\n")
        await set_up.pause(1.1)
        mta.say(Packet(b"A"))
        await set_up.record("C")
        text = says(await mta.send(reactor, ("From", "alice@example.net"), queue_id="C"))
        assert text.startswith("451 4.7.5 the DKIM key for example.net is new here")
        assert "reason=key_settling" in set_up.log[-1]
        await set_up.pause(3)
        mta.say(Packet(b"A"))
        await set_up.record("D")
        text = says(await mta.send(reactor, ("From", "alice@example.net"), queue_id="D"))
        assert text.startswith("451 4.7.5 the DKIM key for example.net is new here")
        later = await set_up.greeted()
        await set_up.record("E")
        assert await later.send(reactor, ("From", "alice@example.net"), queue_id="E") == CONTINUE


@pytest_twisted.ensureDeferred
async def test_a_key_of_another_domain_is_no_key() -> None:
    async with stage(reactor) as set_up:
        (set_up.home / "KeyTable").write_text("net example.net:s:/k\n")
        (set_up.home / "SigningTable").write_text("*@example.org net\n")
        set_up.write(sign=tables(set_up.home), author="{missing_key: permanent}")
        set_up.service.reload()
        mta = await set_up.greeted()
        await set_up.record()
        assert says(await mta.send(reactor, OWN)).startswith("550 5.7.5 no DKIM key for example.org")
        assert "From example.org would be signed by example.net" in set_up.line()


@pytest.mark.parametrize("text", ["broken line here\n", None], ids=["broken", "absent"])
@pytest_twisted.ensureDeferred
async def test_a_broken_table_defers_and_says_so_loudly(text: str | None) -> None:
    async with stage(reactor) as set_up:
        if text is not None:
            (set_up.home / "KeyTable").write_text(text)
        (set_up.home / "SigningTable").write_text("")
        set_up.write(sign=tables(set_up.home))
        set_up.service.reload()
        mta = await set_up.greeted()
        await set_up.record()
        assert says(await mta.send(reactor, OWN)).startswith("451 4.3.0")
        assert "<3>" in set_up.line("tables")
        assert "tables=broken" in set_up.service.state()


# -- settings and the life of the service


@pytest_twisted.ensureDeferred
async def test_wrong_settings_are_not_taken_over() -> None:
    async with stage(reactor) as set_up:
        set_up.config.write_text("version: 1\nauthor: {mode: sometimes}\n")
        with pytest.raises(SettingsError):
            set_up.service.reload()
        await set_up.record()
        mta = await set_up.greeted()
        assert says(await mta.send(reactor, FOREIGN)).startswith("550 5.7.1")


@pytest_twisted.ensureDeferred
async def test_a_reload_changes_the_mode_for_open_connections() -> None:
    async with stage(reactor) as set_up:
        mta = await set_up.greeted()
        set_up.write(author="{mode: off}")
        set_up.service.reload()
        assert await mta.send(reactor, FOREIGN) == CONTINUE


@pytest_twisted.ensureDeferred
async def test_draining_lets_a_message_end_and_closes_what_is_idle() -> None:
    async with stage(reactor) as set_up:
        await set_up.record()
        idle, busy = await set_up.greeted(), await set_up.greeted()
        assert await busy.send(reactor, OWN) == CONTINUE
        drained = set_up.service.drain()
        assert await idle.hear(reactor) is None
        assert not drained.called
        busy.say(Packet(b"E"))
        assert await busy.hear(reactor) == CONTINUE
        assert await busy.hear(reactor) is None
        await drained


# -- peers that break the protocol


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"\0\0\0\0",
        (PACKET_MAX + 1).to_bytes(4, "big"),
        b"\0\0\0\1E",
        b"\0\0\0\1N",
        b"\0\0\0\5O\0\0\0\6",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_broken_peer_is_dropped_without_an_answer(data: bytes) -> None:
    async with stage(reactor) as set_up:
        mta, other = await set_up.mta(), await set_up.greeted()
        mta.transport.write(data)
        assert await mta.hear(reactor) is None
        assert "event=protocol_error" in set_up.line("protocol_error")
        other.say(Packet(b"M", b"<a@b>\0"))
        assert await other.hear(reactor) == CONTINUE


HALVES = pytest.mark.parametrize("data", [b"\0", b"\0\0\0\x0aM<al"], ids=["half a length", "half a packet"])


@HALVES
@pytest_twisted.ensureDeferred
async def test_half_a_packet_is_waited_for_while_the_mta_may_wait_for_its_client(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milter.server.STALLED", 0.1)
    async with stage(reactor) as set_up:
        mta = await set_up.greeted()
        for _ in range(2):
            mta.transport.write(data)
            await set_up.pause(0.3)
            mta.transport.write(b"\0\0\0\x0aM<al@b.c>\0"[len(data) :])
            assert await mta.hear(reactor) == CONTINUE
            mta.say(Packet(b"A"))
        assert "event=protocol_error" not in set_up.out.getvalue()


@HALVES
@pytest_twisted.ensureDeferred
async def test_half_a_packet_is_not_waited_for_for_ever(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milter.server.HALF_READ", 0.1)
    async with stage(reactor) as set_up:
        slow, idle = await set_up.greeted(), await set_up.greeted()
        slow.transport.write(data)
        assert await slow.hear(reactor) is None
        assert "half a packet, or answers unread, for 0.1 s" in set_up.line("protocol_error")
        idle.say(Packet(b"M", b"<a@b>\0"))
        assert await idle.hear(reactor) == CONTINUE


@pytest_twisted.ensureDeferred
async def test_half_a_negotiation_is_not_waited_for_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milter.server.STALLED", 0.1)
    async with stage(reactor) as set_up:
        mta = await set_up.mta()
        mta.transport.write(OFFER[:7])
        assert await mta.hear(reactor) is None
        assert "half a packet" in set_up.line("protocol_error")


@pytest_twisted.ensureDeferred
async def test_the_patience_begins_anew_with_each_whole_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milter.server.HALF_READ", 0.5)
    async with stage(reactor) as set_up:
        mta = await set_up.greeted()
        one = encode(Packet(b"M", b"<al@b.c>\0"))
        mta.transport.write(one[:6])
        for _ in range(5):  # never between two packets
            await set_up.pause(0.2)
            mta.transport.write(one[6:] + one[:6])
            assert await mta.hear(reactor) == CONTINUE


@pytest_twisted.ensureDeferred
async def test_a_peer_that_does_not_read_is_dropped_soon_half_a_packet_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("milter.server.STALLED", 0.2)
    async with stage(reactor) as set_up:
        mta = await set_up.greeted()
        mta.transport.write(b"\0\0\0\7M<a")
        await set_up.pause(0.1)
        mta.transport.pauseProducing()
        mta.transport.write(b"@b>\0" + b"\0\0\0\7M<a@b>\0" * 400_000)
        while "event=protocol_error" not in set_up.out.getvalue():
            await set_up.pause(0.05)
        assert "for 0.2 s" in set_up.line("protocol_error")
        mta.transport.abortConnection()


@pytest_twisted.ensureDeferred
async def test_a_thousand_pipelined_messages_are_each_answered_in_order() -> None:
    async with stage(reactor, charge="rcpt") as set_up:
        mta = await set_up.greeted()
        for number in range(1000):
            mta.macros("M", auth_authen="alice")
            author = OWN if number % 2 else FOREIGN
            mta.say(Packet(b"M", b"<a@b>\0"), Packet(b"L", "\0".join((*author, "")).encode()), Packet(b"N"))
            mta.say(Packet(b"A"))
        for number in range(1000):
            assert await mta.hear(reactor) == CONTINUE
            verdict = await mta.hear(reactor)
            assert verdict is not None
            assert verdict.command == (b"c" if number % 2 else b"y")


@pytest_twisted.ensureDeferred
async def test_quit_closes_the_connection_and_quit_nc_does_not() -> None:
    async with stage(reactor) as set_up:
        mta = await set_up.greeted()
        mta.say(Packet(b"K"), Packet(b"M", b"<a@b>\0"))
        assert await mta.hear(reactor) == CONTINUE
        mta.say(Packet(b"Q"))
        assert await mta.hear(reactor) is None


@pytest_twisted.ensureDeferred
async def test_a_peer_that_does_not_read_is_held_bounded_and_harms_nobody() -> None:
    async with stage(reactor) as set_up:
        mta, other = await set_up.greeted(), await set_up.greeted()
        mta.transport.pauseProducing()
        for _ in range(200):
            mta.transport.write(b"\0\0\0\7M<a@b>\0" * 1000)
        await set_up.pause(0.3)
        held = max(len(one._reader._buffer) for one in set_up.service._factories[0][1].connections)
        assert held < PACKET_MAX
        other.say(Packet(b"M", b"<a@b>\0"))
        assert await other.hear(reactor) == CONTINUE
        mta.transport.abortConnection()


LONG = Packet(b"B", b"x" * 999 + b"\r\n")


@pytest_twisted.ensureDeferred
async def test_a_long_line_is_refused_at_the_end_and_given_back() -> None:
    async with stage(reactor) as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        assert await mta.send(reactor, OWN) == CONTINUE
        assert await set_up.used() == 1
        mta.say(Packet(b"B", b"Hello.\r\n"), LONG, Packet(b"E"))
        assert says(await mta.hear(reactor)).startswith("550 5.6.0 a line of the body is longer than 998")
        assert await set_up.used() == 0
        passed, refused = (line for line in set_up.log if "event=author " in line)
        assert "verdict=pass" in passed
        assert "verdict=refuse reason=long_line refund=done" in refused
        await set_up.record("DEF")
        assert await mta.send(reactor, OWN, queue_id="DEF") == CONTINUE
        mta.say(Packet(b"B", b"Hello.\r\n"), Packet(b"E"))
        assert await mta.hear(reactor) == CONTINUE


@pytest.mark.parametrize("author", ["{long_lines: pass}", "{mode: observe}", "{mode: off}"])
@pytest_twisted.ensureDeferred
async def test_a_long_line_passes_where_it_is_let_pass(author: str) -> None:
    async with stage(reactor, author=author) as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        assert await mta.send(reactor, OWN) == CONTINUE
        mta.say(LONG, Packet(b"E"))
        assert await mta.hear(reactor) == CONTINUE
        assert await set_up.used() == 1
        assert ("reason=long_line" in set_up.out.getvalue()) is ("observe" in author)


CLAIMS = (
    ("DKIM-Signature", "broken"),
    ("Authentication-Results", " mx1.example.org; a"),
    ("Authentication-Results", " elsewhere.example; b"),
    ("authentication-results", " MX2.example.org; c"),
    ("Authentication-Results", " sub.example.org; d"),
)


@pytest_twisted.ensureDeferred
async def test_what_is_not_the_clients_to_say_is_removed_from_the_last_to_the_first_in_one_write() -> None:
    async with stage(reactor, author="{authserv_ids: [MX2.example.org]}") as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        assert await mta.send(reactor, OWN, *CLAIMS) == CONTINUE
        mta.say(Packet(b"E"))
        heard = [await mta.hear(reactor) for _ in range(4)]
        assert heard == [
            *(Packet(b"m", bytes([0, 0, 0, number]) + b"authentication-results\0\0") for number in (4, 3, 1)),
            Packet(b"m", b"\0\0\0\1dkim-signature\0\0"),
        ]
        assert await mta.hear(reactor) == CONTINUE
        assert 'removed="authentication-results:4, authentication-results:3' in set_up.line()


@pytest_twisted.ensureDeferred
async def test_it_is_refused_where_the_mta_lets_nobody_remove_it() -> None:
    async with stage(reactor) as set_up:
        await set_up.record()
        mta = await set_up.mta()
        mta.say(Packet(b"O", wire.encode_options(Options(6, 0x100, 0x1FFFFF), {})[5:]))
        await mta.hear(reactor)
        text = says(await mta.send(reactor, OWN, *CLAIMS))
        assert text.startswith("550 5.6.0 the field authentication-results is not for you to send")


BROKEN = ("DKIM-Signature", "broken")
REMOVAL = Packet(b"m", b"\0\0\0\1dkim-signature\0\0")


@pytest.mark.parametrize(
    ("fields", "queue_id", "body", "told"),
    [
        ((OWN, BROKEN), "ABC", b"Hello.\r\n", "verdict=pass reason=owned"),
        ((FOREIGN, BROKEN), "ABC", b"Hello.\r\n", "observed=refuse reason=from_not_owned"),
        ((OWN, OWN, BROKEN), "ABC", b"Hello.\r\n", "observed=refuse reason=field_repeated"),
        ((OWN, BROKEN), "UNKNOWN", b"Hello.\r\n", "observed=defer reason=submitter_unknown"),
        ((OWN, BROKEN), "ABC", b"x" * 1200 + b"\r\n", "observed=refuse reason=long_line"),
        ((FOREIGN, BROKEN), "ABC", b"x" * 1200 + b"\r\n", "observed=refuse reason=from_not_owned"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_observing_takes_out_what_the_signer_would_stumble_over_whatever_is_observed(
    fields: tuple[tuple[str, str], ...], queue_id: str, body: bytes, told: str
) -> None:
    async with stage(reactor, author="{mode: observe}") as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        assert await mta.send(reactor, *fields, queue_id=queue_id) == CONTINUE
        mta.say(Packet(b"B", body), Packet(b"E"))
        assert [await mta.hear(reactor), await mta.hear(reactor)] == [REMOVAL, CONTINUE]
        assert told in set_up.out.getvalue()
        assert "removed=dkim-signature:1" in set_up.out.getvalue()


@pytest_twisted.ensureDeferred
async def test_what_must_go_goes_also_when_long_lines_may_pass_since_the_header_was_judged() -> None:
    async with stage(reactor) as set_up:
        await set_up.record()
        mta = await set_up.greeted()
        assert await mta.send(reactor, OWN, BROKEN) == CONTINUE
        mta.say(LONG)
        set_up.write(author="{long_lines: pass}")
        set_up.service.reload()
        mta.say(Packet(b"E"))
        assert [await mta.hear(reactor), await mta.hear(reactor)] == [REMOVAL, CONTINUE]


@pytest_twisted.ensureDeferred
async def test_an_author_may_be_more_or_less_than_the_envelopes() -> None:
    async with stage(reactor) as set_up:
        file = set_up.home / "directory.yaml"
        text = file.read_text("utf-8").replace(
            "    aliases: [alice_lastname]\n",
            "    aliases: [alice_lastname]\n    author: {only: [alice@example.org, news@example.com]}\n",
        )
        file.write_text(text, "utf-8")
        while "news@example.com" not in (await set_up.principal("alice")).authors:
            await set_up.pause(0.1)
        mta = await set_up.greeted()
        for number, (author, passes) in enumerate(
            [("alice@example.org", True), ("news@example.com", True), ("alice_lastname@example.org", False)]
        ):
            await set_up.record(f"Q{number}")
            heard = await mta.send(reactor, ("From", author), queue_id=f"Q{number}")
            assert (heard == CONTINUE) is passes
            mta.say(Packet(b"A"))
