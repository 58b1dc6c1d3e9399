"""Findings: what `submitward check` saw, how bad it is, and how it is mended.

Knows how findings are counted and shown. Must not know how any of them is found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warning", "error", "unavailable"]
OK, ERRORS, SETTINGS, UNAVAILABLE = 0, 1, 2, 75


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    `level` ``unavailable`` means that it could not be looked at now. `where` names it (``submission/inet``,
    ``unix:/path``, ``main.cf``), `text` says what is so, `mend` what to do about it. `fault` is a word for
    programs, ``""`` where nobody has needed one.
    """

    level: Level
    where: str
    text: str
    mend: str = ""
    fault: str = ""

    def __str__(self) -> str:
        line = _shown(f"{self.level:<11} {self.where}: {self.text}")
        mend = _shown(self.mend).replace("\n", f"\n{'':<13}")
        return f"{line}\n{'':<11} → {mend}" if mend else line


def _shown(text: str) -> str:
    """Text of others (a record in the DNS) that a terminal would obey, made visible."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def good(where: str, text: str) -> Finding:
    """Nothing to mend."""
    return Finding("ok", where, text)


def warning(where: str, text: str, mend: str, fault: str = "") -> Finding:
    """It works, and yet."""
    return Finding("warning", where, text, mend, fault)


def error(where: str, text: str, mend: str, fault: str = "") -> Finding:
    """It does not do what it must."""
    return Finding("error", where, text, mend, fault)


def unavailable(where: str, text: str, mend: str, fault: str = "unavailable") -> Finding:
    """It cannot be known now."""
    return Finding("unavailable", where, text, mend, fault)


def exit_status(findings: Iterable[Finding]) -> int:
    """1 when something is wrong, else 75 when something could not be looked at, else 0."""
    levels = {finding.level for finding in findings}
    if "error" in levels:
        return ERRORS
    return UNAVAILABLE if "unavailable" in levels else OK


def format_text(findings: Iterable[Finding]) -> str:
    """Lines for a person, and a count at the end."""
    shown = tuple(findings)
    counts = {level: sum(f.level == level for f in shown) for level in ("error", "warning", "unavailable")}
    told = ", ".join(f"{count} × {level}" for level, count in counts.items() if count)
    return "\n".join([*map(str, shown), told or "all is well"])


def format_json(findings: Iterable[Finding]) -> str:
    """One object: `findings`, and `status`, which is the exit status."""
    shown = tuple(findings)
    return json.dumps({"status": exit_status(shown), "findings": [asdict(f) for f in shown]}, indent=1)
