"""`submitward observe report`: what would have been refused, by principal and reason.

Knows the log lines of policyd and of the milter. Must not know where a verdict comes from: it is read, and
counted.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.lines import parse_line

HELP = "sum up what would have been refused, by principal and reason"
DONE, USAGE, UNAVAILABLE = 0, 2, 75
UNITS = ("submitward-policy.service", "submitward-milter.service")
_EXAMPLES = 3
#: The instance of the question that a deployment asks, which is nobody's mail.
PROBE = "submitward-probe"
#: What journalctl(1) or syslog puts before a line of ours.
_OURS = re.compile(r"(?:<(?P<priority>[0-7])>)?(?P<program>policyd|milter)(?:\[\d+\])?: (?P<rest>event=.*)$")


@dataclass
class Row:
    """One principal and one reason: how often, and some senders that it was about."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=["report"])
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="log lines, - for standard input; default: the journal"
    )
    parser.add_argument(
        "--since", default="-1day", metavar="TIME", help="of the journal; default: %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """0 reported, also when there is nothing; 2 the file cannot be read; 75 the journal cannot."""
    try:
        text = _read(options.file, options.since)
    except OSError as error:
        print(f"submitward observe: {error}", file=sys.stderr)
        return UNAVAILABLE if options.file is None else USAGE
    rows = sum_up(observed(text.splitlines()))
    print(_json(rows) if options.json else _table(rows))
    return DONE


def observed(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Principal, reason and sender of all that would have been refused; other lines are passed over."""
    for line in lines:
        found = _OURS.search(line) if not line.startswith("{") else None
        fields = _fields(line, found)
        if fields.get("instance") == PROBE:
            continue
        principal = fields.get("principal") or "nobody (no login, no listed host)"
        if fields.get("event") == "author" and fields.get("observed"):
            yield principal, f"author: {fields.get('reason', '')}", fields.get("author", "")
        elif fields.get("event") == "verdict" and fields.get("observed"):
            for reason in fields["observed"].split("; "):
                yield principal, reason, fields.get("sender", "")


def sum_up(found: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], Row]:
    """A row for each principal and reason, the most frequent first."""
    rows: dict[tuple[str, str], Row] = {}
    for principal, reason, sender in found:
        row = rows.setdefault((principal, reason), Row())
        row.count += 1
        if sender and sender not in row.examples and len(row.examples) < _EXAMPLES:
            row.examples.append(sender)
    return dict(sorted(rows.items(), key=lambda item: (-item[1].count, item[0])))


def _fields(line: str, found: re.Match[str] | None) -> dict[str, str]:
    try:
        if found is None:
            told = json.loads(line)
            return {k: str(v) for k, v in told.items()} if isinstance(told, dict) else {}
        return parse_line(f"<{found['priority'] or 5}>{found['program']}: {found['rest']}")[2]
    except ValueError:
        return {}


def _read(file: str | None, since: str) -> str:
    if file == "-":
        return sys.stdin.read()
    if file is not None:
        return Path(file).read_text(encoding="utf-8", errors="replace")
    units = [f"--unit={unit}" for unit in UNITS]
    done = subprocess.run(
        ["journalctl", "--quiet", "--output=cat", f"--since={since}", *units],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise OSError((done.stderr.strip() or "journalctl failed").splitlines()[-1])
    return done.stdout


def _json(rows: dict[tuple[str, str], Row]) -> str:
    told = [
        {"principal": principal, "reason": reason, "count": row.count, "examples": row.examples}
        for (principal, reason), row in rows.items()
    ]
    return json.dumps({"observed": told}, indent=1)


def _table(rows: dict[tuple[str, str], Row]) -> str:
    if not rows:
        return "nothing would have been refused"
    lines = []
    for (principal, reason), row in rows.items():
        lines.append(f"{row.count:>7}  {principal}: {reason}")
        if row.examples:
            lines.append(f"{'':>7}  as {', '.join(row.examples)}")
    return "\n".join([*lines, f"{sum(row.count for row in rows.values())} requests would have been refused"])
