"""Framing, the few packets that are read and written, and what is no packet."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milter import wire
from milter.wire import Options, Packet, Reader, Violation, encode, encode_reply


def read(data: bytes) -> list[Packet]:
    reader = Reader()
    reader.feed(data)
    found = []
    while (packet := reader.next()) is not None:
        found.append(packet)
    return found


PACKETS = st.lists(
    st.builds(Packet, st.sampled_from(sorted(wire.COMMANDS)), st.binary(max_size=50)), max_size=6
)


@given(PACKETS, st.randoms())
def test_packets_come_out_as_they_went_in_however_they_are_cut(packets: list[Packet], random) -> None:
    data = b"".join(map(encode, packets))
    reader, found = Reader(), []
    while data:
        size = random.randint(1, len(data))
        reader.feed(data[:size])
        data = data[size:]
        while (packet := reader.next()) is not None:
            found.append(packet)
    assert found == packets
    assert reader.is_between_packets


@given(st.binary(max_size=200))
def test_any_bytes_are_packets_or_a_violation(data: bytes) -> None:
    with contextlib.suppress(Violation):
        read(data)


@pytest.mark.parametrize("length", [0, wire.PACKET_MAX + 1, 0xFFFFFFFF])
def test_a_wrong_length_is_seen_before_the_data_comes(length: int) -> None:
    with pytest.raises(Violation, match="bytes"):
        read(length.to_bytes(4, "big"))


def test_the_largest_packet_is_read() -> None:
    packet = Packet(wire.BODY, bytes(wire.PACKET_MAX - 1))
    assert read(encode(packet)) == [packet]


def test_an_unknown_command_is_seen_before_its_data_comes() -> None:
    with pytest.raises(Violation, match="0x7a"):
        read(b"\0\0\1\0z")


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (wire.parse_options, b""),
        (wire.parse_options, b"\0\0\0\6\0\0\1\xff\0\x1f\xff"),
        (wire.parse_options, b"\0\0\0\5" + bytes(8)),
        (wire.parse_options, b"\0\0\0\1" + bytes(8)),
        (wire.parse_options, b"\0\0\0\7" + bytes(8)),
        (wire.parse_macros, b""),
        (wire.parse_macros, b"Mi\0"),
        (wire.parse_macros, b"Mi\0x"),
        (wire.parse_macros, b"zi\0x\0"),
        (wire.parse_header, b""),
        (wire.parse_header, b"From\0"),
        (wire.parse_header, b"From\0a"),
        (wire.parse_header, b"From\0a\0b\0"),
        (wire.parse_mail, b""),
        (wire.parse_mail, b"<a@b>"),
    ],
)
def test_data_that_is_not_what_it_should_be_is_a_violation(parse, data: bytes) -> None:
    with pytest.raises(Violation):
        parse(data)


def test_macro_names_come_without_braces() -> None:
    stage, macros = wire.parse_macros(b"M{auth_authen}\0alice\0i\0ABC\0{\0\0")
    assert (stage, macros) == (b"M", {b"auth_authen": b"alice", b"i": b"ABC", b"{": b""})


@pytest.mark.parametrize("version", wire.VERSIONS)
def test_each_version_that_postfix_can_speak_is_read(version: int) -> None:
    data = version.to_bytes(4, "big") + bytes(8)
    assert wire.parse_options(data) == Options(version, 0, 0)


def test_the_negotiation_names_the_macros_for_each_stage() -> None:
    data = wire.encode_options(Options(6, wire.SETSYMLIST, 3), {2: b"i {mail_addr}", 6: b"i"})
    assert data == (b"\0\0\0\x2aO\0\0\0\6\0\0\1\0\0\0\0\3\0\0\0\2i {mail_addr}\0\0\0\0\6i\0").replace(
        b"\x2a", bytes([1 + 12 + 4 + 14 + 4 + 2])
    )


def test_a_reply_doubles_its_percent_signs_and_ends_with_nul() -> None:
    assert encode_reply(b"550 5.7.1 100% no") == b"\0\0\0\x14y550 5.7.1 100%% no\0"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"250 2.0.0 ok",
        b"550",
        b"550 ",
        b"550 5.7.1",
        b"550 5.7.1 ",
        b"550 4.7.1 no",
        b"450 5.7.1 no",
        b"5505.7.1 no",
        b"550 5.7.1 a\r\n250 ok",
        b"550 5.7.1 a\0",
        b"550 5.7.1 \xff",
        b"550 5.7.1 " + 600 * b"x",
        b"x50 5.7.1 no",
    ],
)
def test_what_is_no_reply_line_cannot_be_encoded(line: bytes) -> None:
    with pytest.raises(ValueError):
        encode_reply(line)


@given(st.binary(max_size=80))
def test_no_bytes_encode_to_anything_but_a_refusal(line: bytes) -> None:
    try:
        data = encode_reply(line)
    except ValueError:
        return
    assert data[4:6] in (b"y4", b"y5")
    assert data.endswith(b"\0")


def test_a_stream_that_ends_inside_a_packet_is_no_stream() -> None:
    with pytest.raises(Violation):
        list(wire.packets(b"\0\0\0\1A\0\0"))
