"""Key records (RFC 6376, 3.6.1), written and read."""

import base64

import pytest

from submitward.dkim.record import BadRecord, format_record, parse_record, split, zone_lines
from submitward.findings import Finding

KEY = base64.b64encode(bytes(range(256)) + bytes(38)).decode()


def test_what_is_written_is_read_again() -> None:
    record = parse_record("".join(split(format_record(KEY))))
    assert base64.b64encode(record.octets).decode() == KEY
    assert (record.type, record.hashes, record.notes) == ("rsa", ("sha256",), ())
    assert parse_record(format_record("")).is_revoked


@pytest.mark.parametrize("length", [1, 254, 255, 256, 510, 511, 4000])
def test_no_string_is_longer_than_255_octets_and_none_is_lost(length: int) -> None:
    strings = split("x" * length)
    assert "".join(strings) == "x" * length
    assert max(map(len, strings)) <= 255
    assert zone_lines("a.example", "x" * length).count('"') == 2 * len(strings)


@pytest.mark.parametrize(
    "text",
    [
        f"v=DKIM1; p={KEY}",
        f"p={KEY}",
        f"v=DKIM1;k=rsa;p={KEY};",
        f" v = DKIM1 ; p = {KEY[:50]} \t {KEY[50:]} ",
        f"v=DKIM1; s=*; p={KEY}",
        f"v=DKIM1; s=email:other; h=sha1:sha256; t=s; n=a note; x=unknown; p={KEY}",
    ],
)
def test_what_verifiers_take_is_read(text: str) -> None:
    assert base64.b64encode(parse_record(text).octets).decode() == KEY


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no p="),
        ("v=DKIM1; k=rsa", "no p="),
        (f"p={KEY}; v=DKIM1", "v= must come first"),
        (f"p={KEY}; v", "no tag=value"),
        (f"v=DKIM2; p={KEY}", "v= must be DKIM1"),
        (f"v=DKIM1; p={KEY}; p={KEY}", "twice"),
        (f"v=DKIM1\\; p={KEY}", "backslashes"),
        (f'"v=DKIM1; p={KEY}"', "quotation marks"),
        (f"v=DKIM1; k=dsa; p={KEY}", "k= must be rsa"),
        (f"v=DKIM1; h=sha1; p={KEY}", "does not allow sha256"),
        (f"v=DKIM1; s=other; p={KEY}", "does not allow email"),
        ("v=DKIM1; p=not*base64", "no base64"),
        ("v=spf1 -all", "v= must be DKIM1"),
        (f"v=DKIM1; p={KEY}; \x1b[2J", "no tag=value"),
        ("v=DKIM1; p=" + " " * 60_000 + "\x80", "no tag=value"),
        ("v" + " " * 60_000 + "x=1", "no tag=value"),
    ],
)
def test_what_they_do_not_take_is_refused_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(BadRecord, match=why):
        parse_record(text)


def test_a_record_that_would_move_a_terminal_is_made_visible() -> None:
    shown = str(Finding("ok", "DMARC a.example", "none: v=DMARC1; \x1b[2J\r\x9b", "a\nb"))
    assert "\\x1b[2J\\r\\x9b" in shown
    assert shown.isprintable() or "\n" in shown
    assert "\x1b" not in shown
