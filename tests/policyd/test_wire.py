"""The policy delegation protocol: any bytes in, whole requests or one error out; no action permits."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policyd.wire import (
    ATTRIBUTES_MAX,
    DUNNO,
    REQUEST_MAX,
    TEXT_MAX,
    DeferIfPermit,
    Dunno,
    ProtocolError,
    Reader,
    Reply,
    Request,
    encode,
    encode_request,
    parse_answer,
    plain,
)

RCPT = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nhelo_name=client.example\n"
    b"queue_id=\nsender=alice@example.org\nrecipient=someone@elsewhere.example\nrecipient_count=0\n"
    b"client_address=192.0.2.9\nclient_name=unknown\nreverse_client_name=unknown\ninstance=1a2b.66.7d0.0\n"
    b"sasl_method=PLAIN\nsasl_username=alice\nsasl_sender=\nsize=1234\nccert_subject=\nccert_issuer=\n"
    b"ccert_fingerprint=\nccert_pubkey_fingerprint=\nencryption_protocol=TLSv1.3\n"
    b"encryption_cipher=TLS_AES_256_GCM_SHA384\nencryption_keysize=256\netrn_domain=\nstress=\n"
    b"client_port=40000\npolicy_context=\nserver_address=192.0.2.1\nserver_port=587\n"
    b"compatibility_level=3.6\nmail_version=3.8.1\ntls_sni=\n\n"
)


def requests_in(*portions: bytes) -> tuple[list[Request], bool]:
    """Every request that comes out, and whether the reader gave up."""
    reader, found = Reader(), []
    try:
        for portion in portions:
            reader.feed(portion)
            while (request := reader.take()) is not None:
                found.append(request)
    except ProtocolError:
        return found, True
    return found, False


def with_lines(*lines: str) -> bytes:
    return "\n".join(["request=smtpd_access_policy", *lines, "", ""]).encode("utf-8", "surrogateescape")


def test_a_request_of_postfix_is_read() -> None:
    assert requests_in(RCPT) == (
        [
            Request(
                protocol_state="RCPT",
                instance="1a2b.66.7d0.0",
                sender="alice@example.org",
                recipient="someone@elsewhere.example",
                size=1234,
                client_address="192.0.2.9",
                sasl_username="alice",
                encryption_protocol="TLSv1.3",
            )
        ],
        False,
    )


def test_a_request_split_at_every_byte_is_the_same_request() -> None:
    whole = requests_in(RCPT)
    for cut in range(1, len(RCPT)):
        assert requests_in(RCPT[:cut], RCPT[cut:]) == whole
    assert requests_in(*(RCPT[i : i + 1] for i in range(len(RCPT)))) == whole


def test_pipelined_requests_come_out_one_by_one_in_order() -> None:
    pipelined = b"".join(with_lines(f"queue_id=Q{n}") for n in range(50))
    found, gave_up = requests_in(pipelined)
    assert [request.queue_id for request in found] == [f"Q{n}" for n in range(50)]
    assert not gave_up


def test_no_prefix_of_a_request_is_a_request() -> None:
    for end in range(len(RCPT)):
        assert requests_in(RCPT[:end]) == ([], False)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.sampled_from([RCPT, with_lines("a=b"), b"\n", b"\n\n", b"request=smtpd_access_policy\n"]),
        ),
        max_size=8,
    ).map(b"".join),
    st.lists(st.integers(1, 90), min_size=1, max_size=40),
)
def test_any_bytes_in_any_portions_give_the_same_requests_or_one_error(data: bytes, sizes: list[int]) -> None:
    portions, at = [], 0
    while at < len(data):
        size = sizes[len(portions) % len(sizes)]
        portions.append(data[at : at + size])
        at += size
    assert requests_in(*portions) == requests_in(data)


BROKEN = {
    "nothing at all": b"\n",
    "two empty lines": b"\n\n",
    "no request=": b"protocol_state=RCPT\nsender=a@b\n\n",
    "another request": b"request=junk\nprotocol_state=RCPT\n\n",
    "an empty request=": b"request=\nprotocol_state=RCPT\n\n",
    "request= in capitals": b"REQUEST=smtpd_access_policy\n\n",
    "a blank after request=": b"request=smtpd_access_policy \n\n",
    "a line without =": with_lines("sender"),
    "CRLF line ends": RCPT.replace(b"\n", b"\r\n"),
    "CRLF at the end only": with_lines("sender=a@b")[:-1] + b"\r\n\n",
    "an HTTP request": b"GET / HTTP/1.1\nHost: x\n\n",
    "a TLS hello": bytes.fromhex("1603010200010001fc0303") + b"\n\n",
    "two requests": with_lines("request=junk"),
    "two logins": with_lines("sasl_username=alice", "sasl_username=bob"),
    "a login and none": with_lines("sasl_username=alice", "sasl_username="),
    "two senders": with_lines("sender=a@b", "sender=c@d"),
    "two recipients": with_lines("recipient=a@b", "recipient=c@d"),
    "two instances": with_lines("instance=1", "instance=2"),
    "two queue ids": with_lines("queue_id=1", "queue_id=2"),
    "two client addresses": with_lines("client_address=192.0.2.1", "client_address=192.0.2.2"),
    "two certificates": with_lines("ccert_fingerprint=AA", "ccert_fingerprint=BB"),
    "two keys": with_lines("ccert_pubkey_fingerprint=AA", "ccert_pubkey_fingerprint=BB"),
    "two subjects": with_lines("ccert_subject=a", "ccert_subject=b"),
    "two stages": with_lines("protocol_state=RCPT", "protocol_state=END-OF-MESSAGE"),
    "a size in words": with_lines("size=many"),
    "a negative size": with_lines("size=-1"),
    "a size beyond any": with_lines("size=" + "9" * 19),
    "a count in other digits": with_lines("recipient_count=٣"),
    "an instance with a blank": with_lines("instance=1 2"),
    "an instance of bytes": with_lines("instance=\udcff"),
    "a queue id with a NUL": with_lines("queue_id=\0"),
    "an endless queue id": with_lines("queue_id=" + "A" * 256),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_request_is_a_protocol_error(data: bytes) -> None:
    assert requests_in(data) == ([], True)


def test_what_came_whole_before_a_protocol_error_is_still_read() -> None:
    found, gave_up = requests_in(RCPT + b"junk\n\n" + RCPT)
    assert (len(found), gave_up) == (1, True)


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_a_request_may_be_as_long_as_the_bound_and_no_longer(spare: int) -> None:
    head = b"request=smtpd_access_policy\nx="
    data = head + b"y" * (REQUEST_MAX + spare - len(head) - 2) + b"\n\n"
    assert len(data) == REQUEST_MAX + spare
    expected = (0, True) if spare > 0 else (1, False)
    for portions in ((data,), (data[:-1], data[-1:]), (data[:30000], data[30000:])):
        found, gave_up = requests_in(*portions)
        assert (len(found), gave_up) == expected


def test_a_request_without_end_is_given_up_at_the_bound() -> None:
    assert requests_in(b"x" * (REQUEST_MAX - 1)) == ([], False)
    assert requests_in(b"x" * REQUEST_MAX) == ([], True)


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_a_request_may_have_as_many_attributes_as_the_bound(spare: int) -> None:
    data = with_lines(*(f"x{n}=" for n in range(ATTRIBUTES_MAX + spare - 1)))
    assert requests_in(data)[1] is (spare > 0)


ACCEPTED = {
    "unknown names": (with_lines("tls_sni=x", "future=1", "=odd"), {}),
    "the same login twice": (with_lines("sasl_username=a", "sasl_username=a"), {"sasl_username": "a"}),
    "two sizes, the first wins": (with_lines("size=1", "size=2"), {"size": 1}),
    "two contexts, the first wins": (
        with_lines("policy_context=mx", "policy_context=submission"),
        {"policy_context": "mx"},
    ),
    "later = are data": (with_lines("sender=a=b=c@d"), {"sender": "a=b=c@d"}),
    "a CR is data": (with_lines("sender=a\r"), {"sender": "a\r"}),
    "a NUL is data": (with_lines("sender=a\0@b"), {"sender": "a\0@b"}),
    "bytes that are no UTF-8": (with_lines("sender=\udcff@b"), {"sender": "\udcff@b"}),
    "UTF-8": (with_lines("sender=jürgen@b"), {"sender": "jürgen@b"}),
    "U+2028 ends no line": (
        with_lines("sender=a\u2028sasl_username=b"),
        {"sender": "a\u2028sasl_username=b"},
    ),
    "AUTH= with line feeds in xtext": (with_lines("sasl_sender=b+0Asasl_username=root"), {}),
    "empty numbers": (with_lines("size=", "recipient_count="), {}),
    "nothing but the request": (with_lines(), {}),
}


@pytest.mark.parametrize(("data", "attributes"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_odd_requests_are_read_as_stated(data: bytes, attributes: dict[str, object]) -> None:
    assert requests_in(data) == ([Request()._replace(**attributes)], False)


def test_an_encoded_request_is_read_back() -> None:
    data = encode_request({"request": "smtpd_access_policy", "sender": "a=\udcff", "sasl_username": "ü"})
    assert requests_in(data) == ([Request(sender="a=\udcff", sasl_username="ü")], False)
    with pytest.raises(ValueError):
        encode_request({"sender": "a\nsasl_username=b"})
    with pytest.raises(ValueError):
        encode_request({"sender=": ""})


def test_the_three_actions_are_what_postfix_expects_to_the_byte() -> None:
    assert encode(DUNNO) == b"action=DUNNO\n\n"
    assert encode(DeferIfPermit("cannot know now")) == b"action=DEFER_IF_PERMIT 4.3.0 cannot know now\n\n"
    assert encode(Reply(553, "5.7.1", "not yours")) == b"action=553 5.7.1 not yours\n\n"


NEVER = re.compile(
    rb"(?i)action=(\d*|ok|permit.*|dunno .+|reject|defer|discard.*|hold.*|filter.*|redirect.*|bcc.*)\n\n"
)


@given(
    st.one_of(
        st.just(DUNNO),
        st.builds(lambda text: (DeferIfPermit, text), st.text()),
        st.builds(
            lambda code, enhanced, text: (Reply, code, enhanced, text),
            st.integers(-1, 1000),
            st.one_of(st.text(max_size=8), st.from_regex(r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True)),
            st.text(max_size=600),
        ),
    )
)
@example((Reply, 550, "5.7.1", ""))
@example((Reply, 550, "5.7.1", " "))
@example((Reply, 550, "", "550"))
@example((Reply, 250, "2.0.0", "fine"))
@example((Reply, 450, "5.7.1", "two classes"))
@example((Reply, 550, "5.7.1\n", "x"))
@example((Reply, 550, "5.7.1", "x\n\naction=OK"))
def test_no_action_can_permit_be_empty_or_break_the_line(made: object) -> None:
    if isinstance(made, tuple):
        try:
            made = made[0](*made[1:])
        except ValueError:
            return
    data = encode(made)  # type: ignore[arg-type]
    assert re.fullmatch(
        rb"action=(DUNNO|DEFER_IF_PERMIT 4\.3\.0 [ -~]+|[45]\d\d [45]\.\d+\.\d+ [ -~]+)\n\n", data
    )
    assert not NEVER.fullmatch(data)
    assert len(data) <= TEXT_MAX + 32
    assert parse_answer(data) == data[7:-2].decode()


@given(st.text())
def test_any_text_can_be_made_plain_enough_for_a_reply(text: str) -> None:
    made = plain("because: " + text)
    assert Reply(550, "5.7.1", made).text == made
    assert len(plain(text, 50)) <= 50


def test_nothing_but_the_three_actions_can_be_said() -> None:
    for other in (None, "OK", "", b"action=OK\n\n", 550, object(), Dunno):
        with pytest.raises(TypeError):
            encode(other)  # type: ignore[arg-type]


def test_an_answer_is_read_when_it_is_whole() -> None:
    assert parse_answer(b"action=DUNNO\n") is None
    assert parse_answer(b"action=DUNNO\n\n") == "DUNNO"
    for broken in (b"DUNNO\n\n", b"action=DUNNO\nx=y\n\n", b"\n\n"):
        with pytest.raises(ProtocolError):
            parse_answer(broken)
