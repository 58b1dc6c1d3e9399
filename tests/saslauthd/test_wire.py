"""The bytes of the protocol: what is read, what is dropped, what can never be written."""

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saslauthd import wire
from saslauthd.wire import Auth, Broken, Cpid, Reader, Unsendable, Version

HELLO = b"VERSION\t1\t0\nCPID\t4711\n"
AUTH = b"AUTH\t1\tPLAIN\tservice=smtp\tnologin\tlip=192.0.2.1\trip=192.0.2.2\tsecured\tresp=AGEAYg==\n"


def read(data: bytes) -> list[wire.Command]:
    return list(Reader().feed(data))


def test_one_segment_gives_its_commands_in_order() -> None:
    version, cpid, auth = read(HELLO + AUTH)
    assert (version, cpid) == (Version(1, 0), Cpid(4711))
    assert isinstance(auth, Auth)
    assert (auth.id, auth.mechanism, auth.response) == (1, "PLAIN", b"AGEAYg==")
    assert auth.parameters[b"service"] == b"smtp"
    assert auth.parameters[b"secured"] == b""


def test_every_cut_gives_the_same_commands() -> None:
    data = HELLO + AUTH + b"CONT\t1\t\nCANCEL\t1\r\n"
    for cut in range(len(data)):
        reader = Reader()
        assert [*reader.feed(data[:cut]), *reader.feed(data[cut:])] == read(data)
        assert not reader.is_partial


def test_bytes_before_a_broken_line_still_count() -> None:
    commands = Reader().feed(HELLO + b"\n")
    assert next(commands) == Version(1, 0)
    assert next(commands) == Cpid(4711)
    with pytest.raises(Broken):
        next(commands)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\t",
        "HELO",
        "version\t1\t0",
        "VERSION",
        "VERSION\t1",
        "VERSION\t1\t",
        "VERSION\t1\tx",
        "VERSION\t-1\t0",
        "VERSION\t1\t99999999999",
        "CPID",
        "CPID\t0",
        "CPID\tx",
        "CPID\t٣",
        "AUTH",
        "AUTH\t1",
        "AUTH\t1\t",
        "AUTH\t1\tPLAIN",
        "AUTH\t1\tPLAIN\tresp=AA==",
        "AUTH\t0\tPLAIN\tservice=smtp",
        "AUTH\t-1\tPLAIN\tservice=smtp",
        "AUTH\t+1\tPLAIN\tservice=smtp",
        "AUTH\t01\tPLAIN\tservice=smtp",
        "AUTH\t4294967296\tPLAIN\tservice=smtp",
        "AUTH\t 1\tPLAIN\tservice=smtp",
        "AUTH\t\tPLAIN\tservice=smtp",
        "AUTH\t1\tPLAIN\tservice=smtp\tresp=AA==\t",
        "AUTH\t1\tPLAIN\tservice=smtp\tresp=AA==\tsecured",
        "AUTH\t1\tPLAIN\tservice=smtp\tresp=\tresp=AA==",
        "CONT",
        "CONT\t1",
        "CONT\t0\tAA==",
        "CONT\t1\tAA==\tAA==",
        "CANCEL",
        "CANCEL\tx",
        "REQUEST\t1\t2\t3\t4",
    ],
)
def test_what_is_no_command_ends_the_connection(line: str) -> None:
    with pytest.raises(Broken) as caught:
        read(line.encode() + b"\n")
    assert line == "" or line not in str(caught.value)


@pytest.mark.parametrize(
    ("given_name", "mechanism"), [(b"plain", "PLAIN"), (b"Login", "LOGIN"), (b"\xff", "\\XFF")]
)
def test_mechanism_names_are_compared_without_case(given_name: bytes, mechanism: str) -> None:
    (auth,) = read(b"AUTH\t1\t" + given_name + b"\tservice=smtp\n")
    assert isinstance(auth, Auth)
    assert auth.mechanism == mechanism


@pytest.mark.parametrize(
    ("text", "response"),
    [("", None), ("\tresp=", b""), ("\tresp==", b"="), ("\tresp=QQ==", b"QQ=="), ("\tresp", b"")],
)
def test_resp_is_split_at_the_first_equals_sign(text: str, response: bytes | None) -> None:
    (auth,) = read(f"AUTH\t1\tPLAIN\tservice=smtp{text}\n".encode())
    assert isinstance(auth, Auth)
    assert auth.response == response


def test_protocol_stands_for_service_and_unknown_parameters_are_ignored() -> None:
    (auth,) = read(b"AUTH\t4294967295\tPLAIN\tprotocol=smtp\tfuture=x=y\t\tbool\n")
    assert isinstance(auth, Auth)
    assert auth.parameters[b"protocol"] == b"smtp"


def test_the_first_of_two_parameters_wins() -> None:
    (auth,) = read(b"AUTH\t1\tPLAIN\tservice=smtp\trip=192.0.2.1\trip=192.0.2.2\n")
    assert isinstance(auth, Auth)
    assert auth.parameters[b"rip"] == b"192.0.2.1"


def test_parameters_are_unescaped_and_a_lone_escape_is_nothing() -> None:
    assert wire.unescape(b"a\x01tb\x01nc\x01rd\x010e\x011f\x01xg\x01") == b"a\tb\nc\rd\0e\x01fxg"


def test_a_line_of_16384_octets_is_read_and_one_more_ends_the_connection() -> None:
    start = b"AUTH\t1\tPLAIN\tservice=smtp\tx="
    longest = start + b"x" * (wire.LINE_MAX - len(start))
    assert len(read(longest + b"\n")) == 1
    with pytest.raises(Broken, match="16384"):
        read(longest + b"x\n")
    with pytest.raises(Broken, match="16384"):
        read(longest + b"x")
    reader = Reader()
    assert list(reader.feed(longest)) == []
    assert reader.is_partial


def test_an_endless_line_in_small_pieces_takes_no_memory() -> None:
    tracemalloc.start()
    reader = Reader()
    with pytest.raises(Broken):
        for _ in range(10**6):
            assert not list(reader.feed(b"x" * 100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def test_commands_have_no_printable_response() -> None:
    auth, cont = read(b"AUTH\t1\tPLAIN\tservice=smtp\tresp=Q0FOQVJZ\nCONT\t1\tQ0FOQVJZ\n")
    assert "Q0FOQVJZ" not in repr(auth) + repr(cont) + str(auth) + str(cont)


def test_the_handshakes_lines() -> None:
    assert wire.encode_version() == b"VERSION\t1\t4\n"
    assert wire.encode_mech("PLAIN", ("plaintext",)) == b"MECH\tPLAIN\tplaintext\n"
    assert wire.encode_done(12, 3, bytes(range(16))) == (
        b"SPID\t12\nCUID\t3\nCOOKIE\t000102030405060708090a0b0c0d0e0f\nDONE\n"
    )


def test_the_answers_lines() -> None:
    assert wire.encode_cont(7, b"") == b"CONT\t7\t\n"
    assert wire.encode_cont(7, b"VXNlcm5hbWU6") == b"CONT\t7\tVXNlcm5hbWU6\n"
    assert wire.encode_ok(wire.ID_MAX, "zoë") == "OK\t4294967295\tuser=zoë\n".encode()
    assert wire.encode_fail(8, reason="no") == b"FAIL\t8\treason=no\n"
    assert wire.encode_fail(8, login="a", code="authz_fail", reason="no") == (
        b"FAIL\t8\tuser=a\tcode=authz_fail\treason=no\n"
    )
    assert wire.encode_temporary(8) == (
        b"FAIL\t8\tcode=temp_fail\treason=Temporary authentication failure\ttemp\n"
    )
    assert wire.encode_cancelled(8) == b"CANCELLED\t8\n"


@pytest.mark.parametrize("octet", ["\0", "\x01", "\t", "\r", "\n"])
def test_what_nobody_unescapes_is_never_written(octet: str) -> None:
    value = f"CANARY{octet}x"
    for attempt in (
        lambda: wire.encode_ok(1, value),
        lambda: wire.encode_fail(1, login=value, reason="no"),
        lambda: wire.encode_fail(1, reason=value),
        lambda: wire.encode_mech(value, ()),
        lambda: wire.encode_mech("PLAIN", (value,)),
        lambda: wire.encode_cont(1, value.encode()),
    ):
        with pytest.raises(Unsendable) as caught:
            attempt()
        assert "CANARY" not in str(caught.value)


def test_lines_have_at_most_8000_octets() -> None:
    rest = len(b"OK\t1\tuser=\n")
    assert len(wire.encode_ok(1, "a" * (8000 - rest))) == 8000
    with pytest.raises(Unsendable):
        wire.encode_ok(1, "a" * (8001 - rest))
    with pytest.raises(Unsendable):
        wire.encode_ok(1, "é" * 4000)


@pytest.mark.parametrize("id", [0, -1, 2**32])
def test_an_id_that_nobody_sent_is_never_written(id: int) -> None:
    with pytest.raises(Unsendable):
        wire.encode_ok(id, "alice")


def test_a_surrogate_is_never_written() -> None:
    with pytest.raises(Unsendable):
        wire.encode_ok(1, "\ud800")


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: wire.encode_ok(1, ""),
        lambda: wire.encode_fail(1, reason=""),
        lambda: wire.encode_fail(1, code="temp_fail", reason="no"),  # type: ignore[arg-type]
        lambda: wire.encode_mech("", ("plaintext",)),
        lambda: wire.encode_done(1, 1, b""),
    ],
)
def test_half_an_answer_is_never_written(attempt) -> None:
    with pytest.raises(Unsendable):
        attempt()


@given(st.text(), st.text())
def test_an_ok_is_one_line_of_three_fields_or_nothing(login: str, other: str) -> None:
    try:
        line = wire.encode_ok(1, login + other)
    except Unsendable:
        return
    assert line.count(b"\n") == 1
    assert line.count(b"\t") == 2


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_bytes_are_commands_or_broken(pieces: list[bytes]) -> None:
    reader = Reader()
    try:
        for piece in pieces:
            list(reader.feed(piece))
    except Broken:
        pass


@given(
    st.lists(
        st.sampled_from(
            [b"AUTH", b"CONT", b"\t", b"1", b"PLAIN", b"service=", b"resp=", b"=", b"\x01", b"\n"]
        )
    )
)
def test_near_misses_are_commands_or_broken(words: list[bytes]) -> None:
    with contextlib.suppress(Broken):
        read(b"".join(words))
