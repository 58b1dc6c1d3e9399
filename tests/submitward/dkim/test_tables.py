"""`submitward dkim tables`: what keeps mail from being signed, with its line."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from tests.submitward.dns.site import Site


@pytest.fixture
def site() -> Iterator[Site]:
    """Below /var/lib, where keys can be safe."""
    with tempfile.TemporaryDirectory(prefix="submitward-test-", dir="/var/lib") as folder:
        yield Site(Path(folder), "127.0.0.1", {"example.org": "example.org"})


def short(site: Site) -> None:
    key = generate_private_key(65537, 1024)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    site.key.write_bytes(pem)


def append(table: str, line: str) -> Callable[[Site], object]:
    def change(site: Site) -> None:
        with getattr(site, table).open("a") as file:
            file.write(f"{line}\n")

    return change


#: What is done, the word of the finding, its place, and the exit status.
FAULTS: dict[str, tuple[Callable[[Site], object], str, str, int]] = {
    "nothing": (lambda site: None, "", "", 0),
    "a line without a key": (append("signing_table", "*@b.example"), "bad_table", "SigningTable:2", 1),
    "a line with half a key": (append("key_table", "b b.example:s"), "bad_table", "KeyTable:2", 1),
    "nothing in them": (
        lambda site: (site.key_table.write_text(""), site.signing_table.write_text("# nothing\n")),
        "no_lines",
        "SigningTable",
        1,
    ),
    "no text": (lambda site: site.key_table.write_bytes(b"\xff"), "bad_table", "KeyTable", 1),
    "no file": (lambda site: site.key_table.unlink(), "unavailable", "KeyTable", 75),
    "a key that is gone": (lambda site: site.key.unlink(), "bad_key", "shared.private", 1),
    "a key that is none": (lambda site: site.key.write_text("x"), "bad_key", "shared.private", 1),
    "a short key": (short, "short_key", "KeyTable:1", 0),
    "a key for all to read": (lambda site: site.key.chmod(0o644), "unsafe_key", "shared.private", 1),
    "a key that nothing leads to": (
        lambda site: append("key_table", f"b b.example:s:{site.key}")(site),
        "unused_key",
        "KeyTable:2",
        0,
    ),
    "the same pattern twice": (
        append("signing_table", "*@EXAMPLE.org example.org"),
        "second_line",
        "SigningTable",
        0,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_keeps_mail_from_being_signed_is_told_with_its_place(
    site: Site, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    spoil, word, place, expected = FAULTS[name]
    spoil(site)
    status, said = site.run(capsys, "dkim", "tables")
    bad = [finding for finding in said["findings"] if finding["level"] != "ok"]
    assert status == expected
    assert [f["fault"] for f in bad] == ([word] if word else [])
    assert all(finding["where"].endswith(place) and finding["mend"] for finding in bad)


def test_without_tables_in_the_settings_it_says_so(site: Site, capsys: Any) -> None:
    site.settings.write_text("version: 1\n")
    status, said = site.run(capsys, "dkim", "tables")
    assert status == 1
    assert said["findings"][0]["fault"] == "no_tables"
