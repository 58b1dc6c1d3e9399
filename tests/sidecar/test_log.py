"""The log: one event is one line, values come back as they went in, and secrets do not go in."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.lines import LONGEST_LINE, LONGEST_VALUE, format_value, parse_line, parse_value
from sidecar.log import Log
from sidecar.settings import Secret

from .conftest import ROOT

#: Extend me: what a peer may send to forge or break a line.
HOSTILE = [
    *(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))),
    "\u2028",
    "\u2029",
    "\u200b",
    "\u202e",
    "\ufeff",
    "\ue000",
    "\U000e0001",
    "\ud800",
    "\udcff",
    " ",
    '"',
    "\\",
    "\\n",
    "\\x00",
    "a=b",
    "=",
    'a" event=forged x="',
    "a\n<0>policyd: event=forged",
    "a\r\nb",
    "\x1b[2J",
    "jörg",
    "日本",
    "a" * 999,
]
HOSTILE_BYTES = [bytes([code]) for code in range(256)] + [
    b"\xe2\x80\xa8",
    b"\xc3(",
    b"ab\xf0\x9f",
    "jörg".encode(),
]


def written(**fields: object) -> str:
    stream = io.StringIO()
    Log(stream, program="policyd").info("verdict", **fields)
    return stream.getvalue()


def test_a_line_reads_like_postfixs():
    fields = {
        "action": "DUNNO",
        "used": 3,
        "ms": 1.5,
        "late": False,
        "sender": "a@b.example",
        "why": "not yours",
    }
    assert written(**fields) == (
        '<6>policyd: event=verdict action=DUNNO used=3 ms=1.5 late=false sender=a@b.example why="not yours"\n'
    )


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_text_of_a_peer_stays_one_value_of_one_line(value):
    line = written(before="1", value=value, after="2")
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    assert parse_line(line[:-1]) == (
        6,
        "policyd",
        {"event": "verdict", "before": "1", "value": value, "after": "2"},
    )


@pytest.mark.parametrize("value", HOSTILE_BYTES, ids=repr)
def test_bytes_of_a_peer_stay_one_value_of_one_line(value):
    line = written(value=value, after="2")
    assert line[:-1].isprintable()
    fields = parse_line(line[:-1])[2]
    assert fields["value"].encode("utf-8", "surrogateescape") == value
    assert fields["after"] == "2"


@given(st.text(alphabet=st.characters(), max_size=50))
def test_any_text_comes_back(value):
    shown = format_value(value)
    assert shown.isprintable()
    assert parse_value(shown) == value


@given(st.binary(max_size=50))
def test_any_bytes_come_back(value):
    assert parse_value(format_value(value)).encode("utf-8", "surrogateescape") == value


@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}x", fullmatch=True), st.text(max_size=80), max_size=8)
)
def test_any_line_is_read_back(fields):
    expected = {"event": "verdict", **{name: value for name, value in fields.items() if value}}
    assert parse_line(written(**fields)[:-1])[2] == expected


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,8}x", fullmatch=True), st.text() | st.binary(), max_size=8
    )
)
def test_any_json_line_is_one_object_in_ascii(fields):
    stream = io.StringIO()
    Log(stream, program="policyd", format="json").info("verdict", **fields)
    line = stream.getvalue()
    assert line.isascii()
    assert line.count("\n") == 1
    entry = json.loads(line)
    entry["value"] = json.dumps(entry).encode().decode("utf-8")  # no lone surrogate can be in it
    assert {name for name, value in fields.items() if value} <= entry.keys() | {"cut"}


def test_a_json_line_keeps_types_and_says_when():
    stream = io.StringIO()
    Log(stream, program="policyd", format="json").warning(
        "verdict", used=3, late=True, sender="jörg", raw=b"\xff\n"
    )
    entry = json.loads(stream.getvalue())
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "warning",
        "program": "policyd",
        "event": "verdict",
        "used": 3,
        "late": True,
        "sender": "jörg",
        "raw": "\\xff\n",
    }


def test_absent_values_are_left_out():
    assert written(a=None, b="", c=b"", d=0, e=False) == "<6>policyd: event=verdict d=0 e=false\n"


def test_a_long_value_is_cut_and_a_long_line_says_so():
    assert len(parse_line(written(value="x" * 100_000)[:-1])[2]["value"]) == LONGEST_VALUE + 1
    line = written(**{f"field{i}": "\0" * 900 for i in range(100)})
    assert len(line) < LONGEST_LINE + 100
    assert line.endswith(" cut=true\n")
    assert parse_line(line[:-1])[2]["cut"] == "true"


@pytest.mark.parametrize("name", ["password", "credential", "credentials", "resp", "secret"])
def test_a_field_named_like_a_secret_is_a_mistake_at_any_level(name):
    for level in ("debug", "error"):
        with pytest.raises(TypeError, match="would print a secret"):
            Log(io.StringIO(), program="x").write(level, "event", **{name: "x"})


@pytest.mark.parametrize("name", ["a b", "a=b", "a\n", "A", "1a", "ä", ""])
def test_a_field_name_is_a_plain_word(name):
    with pytest.raises(TypeError, match="no name for a log field"):
        Log(io.StringIO(), program="x").info("event", **{name: "x"})


def test_a_secret_is_not_printed():
    for format in ("text", "json"):
        stream = io.StringIO()
        Log(stream, program="x", format=format).info(
            "event", key=Secret("hunter2-canary"), keys=(Secret("hunter2-canary"),)
        )
        assert "hunter2" not in stream.getvalue()
        assert "<secret>" in stream.getvalue()


def test_levels_have_the_journals_numbers_and_are_filtered():
    stream = io.StringIO()
    log = Log(stream, program="x", level="notice")
    for level in ("debug", "info", "notice", "warning", "error"):
        getattr(log, level)("event")
    assert [line[:3] for line in stream.getvalue().splitlines()] == ["<5>", "<4>", "<3>"]
    assert log.wants("notice")
    assert not log.wants("info")


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_harms_nothing_and_is_counted():
    closed = io.StringIO()
    closed.close()
    for stream in (Full(), closed):
        log = Log(stream, program="x")
        log.error("event")
        assert log.lost == 1


def test_a_terminal_without_utf8_gets_every_line():
    raw = io.BytesIO()
    log = Log(io.TextIOWrapper(raw, encoding="ascii"), program="x")
    log.info("event", name="jörg")
    assert raw.getvalue() == b'<6>x: event=event name="j\\xf6rg"\n'
    assert log.lost == 0


@pytest.mark.parametrize(
    "line", ["", "x", "<6>x", "<6>x: event", "<6>x: event=a  b=c", '<6>x: event="a', "<9>x: a=b"]
)
def test_what_is_no_line_of_ours_is_not_read(line):
    with pytest.raises(ValueError):
        parse_line(line)


#: Run as a process: everything that Twisted, asyncio, threads and the interpreter would print by themselves.
TROUBLE = """
import asyncio, logging, sys, threading, warnings
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor, defer
from twisted.logger import Logger
from sidecar.log import Log, capture_twisted
undo = capture_twisted(Log(sys.stderr, program="x"))
Logger().info("not this"); Logger().warn("twisted warning\\n<3>forged: event=x")
logging.getLogger("asyncio").error("python error\\nsecond line"); logging.info("not this")
warnings.warn("a warning")
def fail(*_): raise ValueError("first\\nsecond")
reactor.callLater(0, fail)
d = defer.Deferred(); d.addCallback(fail); d.callback(None); del d
thread = threading.Thread(target=fail); thread.start(); thread.join()
class Final:
    def __del__(self): fail()
Final()
asyncio.get_event_loop().call_soon(fail)
reactor.callLater(0.2, reactor.stop)
reactor.run()
fail()
"""


def test_what_others_would_print_becomes_one_line_each():
    result = subprocess.run(
        [sys.executable, "-W", "default", "-c", TROUBLE],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    fields = [parse_line(line)[2] for line in result.stderr.splitlines()]
    assert result.stdout == ""
    assert not any("not this" in line for line in result.stderr.splitlines())
    texts = [field.get("text", "") for field in fields]
    assert "twisted warning\n<3>forged: event=x" in texts
    assert "python error\nsecond line" in texts
    assert any("a warning" in text for text in texts)
    assert sum("ValueError: first\nsecond" in field.get("traceback", "") for field in fields) == 6
