"""Durations and sizes as people write them."""

import pytest

from sidecar.settings import duration, octets


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250 ms", 0.25),
        ("60 s", 60),
        ("60s", 60),
        ("1.5 h", 5400),
        ("5 min", 300),
        ("1 minute", 60),
        ("1 h", 3600),
        ("1 day", 86400),
        ("2 weeks", 1209600),
        ("0 s", 0),
        (" 1 s ", 1),
    ],
)
def test_a_duration_has_a_unit(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100 bytes", 100),
        ("1 octet", 1),
        ("64 kB", 64000),
        ("25 MB", 25_000_000),
        ("1 GB", 10**9),
        ("25 MiB", 25 * 1024 * 1024),
        ("1.5 kB", 1500),
    ],
)
def test_a_size_has_a_unit(text, size):
    assert octets(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "60", "-1 s", "1 fortnight", "s", "1e3 s", "١ s", "1 s 2", "9" * 20 + " s", "nan s", "1 month"],
)
def test_a_duration_without_a_known_unit_is_refused(text):
    with pytest.raises(ValueError, match="no duration; write it with its unit"):
        duration(text)


@pytest.mark.parametrize("text", ["", "60", "-1 kB", "1 mb", "1 Mb", "MB", "1 TBq"])
def test_a_size_without_a_known_unit_is_refused(text):
    with pytest.raises(ValueError, match="no size; write it with its unit"):
        octets(text)
