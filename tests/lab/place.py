"""Puts the shipped Postfix and OpenDKIM files into a lab.

Knows the mechanical changes that a lab needs, and makes no others: everything a test finds in the lab is what
the repository ships. Must not know what the parameters mean.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

SHIPPED = Path(__file__).resolve().parent.parent.parent / "postfix"
MARK = "# ---- appended by the lab: everything above is the shipped file ----\n"
KEYS = "/etc/opendkim/keys"


def place(
    target: Path,
    *,
    services: Mapping[str, str],
    main: Mapping[str, str],
    opendkim: Mapping[str, str],
    keys: Path,
    shipped: Path = SHIPPED,
) -> None:
    """Write main.cf, master.cf, opendkim.conf, KeyTable and SigningTable into `target`.

    master.cf: the service column of the inet services named in `services` (``submission`` →
    ``127.0.0.1:10587``), because Postfix expands no ``$name`` there. main.cf and opendkim.conf: one block
    appended, in which a later line overrides an earlier one. KeyTable: the directory of the private keys.
    SigningTable: nothing.
    """
    master = (shipped / "master.cf").read_text().splitlines(keepends=True)
    (target / "master.cf").write_text("".join(_moved(line, services) for line in master))
    _append(shipped / "main.cf", target / "main.cf", [f"{name} = {value}" for name, value in main.items()])
    _append(
        shipped / "opendkim.conf",
        target / "opendkim.conf",
        [f"{name} {value}" for name, value in opendkim.items()],
    )
    (target / "KeyTable").write_text((shipped / "KeyTable").read_text().replace(f":{KEYS}/", f":{keys}/"))
    (target / "SigningTable").write_text((shipped / "SigningTable").read_text())
    for name in ("main.cf", "master.cf"):
        os.utime(target / name, (1, 1))  # Postfix waits until a file has rested for two seconds


def _moved(line: str, services: Mapping[str, str]) -> str:
    """The line with its service column replaced when it is one of `services` and an inet service."""
    words = line.split()
    if line[:1].isspace() or len(words) < 2 or words[1] != "inet" or words[0] not in services:
        return line
    return services[words[0]] + line[len(words[0]) :]


def _append(source: Path, target: Path, lines: list[str]) -> None:
    target.write_text(source.read_text() + MARK + "".join(f"{line}\n" for line in lines))
