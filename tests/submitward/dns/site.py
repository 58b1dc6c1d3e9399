"""A site in miniature: settings, a directory, tables and a key, and the zones that go with it.

Knows what a sound domain looks like in DNS. Must not know what can go wrong with one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from submitward.__main__ import main
from submitward.dkim.keyfile import PublicHalf, make_key
from submitward.dkim.record import format_record, split

RELAY = "192.0.2.10"
HELO = "mx1.relay.example"
SELECTOR = "s1"
#: The relay's own names.
ZONES = {
    "relay.example": f'mx1 A {RELAY}\nmx1 TXT "v=spf1 a -all"\nother A 192.0.2.12\n',
    "2.0.192.in-addr.arpa": "".join(
        f"{last} PTR {name}.relay.example.\n" for last, name in ((10, "mx1"), (11, "mx1"), (12, "other"))
    ),
}
SPF = f'@ TXT "v=spf1 ip4:{RELAY} -all"\n'
MX = "@ MX 10 mx\nmx A 192.0.2.20\n"


def quoted(*strings: str) -> str:
    return " ".join(f'"{string}"' for string in strings)


def key_record(public: PublicHalf, selector: str = SELECTOR) -> str:
    return f"{selector}._domainkey TXT {quoted(*split(format_record(public.text)))}\n"


def dmarc(domain: str) -> str:
    return f'_dmarc TXT "v=DMARC1; p=none; rua=mailto:reports@{domain}"\n'


class Site:
    """Settings in `path` whose tables have one key for each of `domains` (author's domain → d=)."""

    def __init__(self, path: Path, server: str, domains: dict[str, str], people: Iterable[str] = ()) -> None:
        self.settings = path / "config.yaml"
        self.keys = path / "keys"
        self.key_table, self.signing_table = path / "KeyTable", path / "SigningTable"
        self.keys.mkdir(exist_ok=True)
        self.key = self.keys / "shared.private"
        self.public = make_key(self.key)
        self.key_table.write_text(
            "".join(f"{author} {signed}:{SELECTOR}:{self.key}\n" for author, signed in domains.items())
        )
        self.signing_table.write_text("".join(f"*@{author} {author}\n" for author in domains))
        (path / "directory.yaml").write_text(
            json.dumps({"logins": {"alice": {"mailboxes": list(people)}}} if people else {"logins": {}})
        )
        self.write(path, server)

    def write(self, path: Path, server: str, **sign: Any) -> None:
        """The settings, asking `server`."""
        self.settings.write_text(
            json.dumps(
                {
                    "version": 1,
                    "mta": HELO,
                    "directory": {"file": {"path": str(path / "directory.yaml")}},
                    "ledger": {"sqlite": {"path": str(path / "ledger.sqlite")}},
                    "sign": {
                        "key_table": str(self.key_table),
                        "signing_table": str(self.signing_table),
                        "keys": str(self.keys),
                        "user": "root",
                        **sign,
                    },
                    "dns": {"resolvers": [server], "timeout": "2 s"},
                }
            )
        )

    def run(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
        """Exit status and JSON of a command of `submitward`."""
        capsys.readouterr()
        status = main(["--settings", str(self.settings), *arguments, "--json"])
        said = capsys.readouterr()
        return status, json.loads(said.out) if said.out else said.err
