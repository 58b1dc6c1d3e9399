"""What in KeyTable and SigningTable, or with the keys that they name, keeps mail from being signed.

Knows what OpenDKIM makes of tables and keys. Must not ask the DNS, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from milter.settings import SignSettings
from milter.tables import Tables
from submitward.dkim.keyfile import danger
from submitward.dkim.signer import NoTables, public_half, read_tables
from submitward.findings import Finding, error, good, warning

BITS_MIN = 2048  # as shipped, and what everybody expects


def look_at_tables(sign: SignSettings) -> Iterator[Finding]:
    """What in the tables, or with the keys that they name, keeps mail from being signed."""
    try:
        tables = read_tables(sign)
    except NoTables as none:
        yield from none.findings
        return
    yield good(str(sign.key_table), f"{len(tables.keys)} keys")
    yield good(str(sign.signing_table), f"{len(tables.lines)} patterns")
    if not tables.lines:
        text = "nothing is signed for anybody: every message is refused"
        yield error(str(sign.signing_table), text, "submitward dkim new DOMAIN", "no_lines")
    used = {name for _, name in tables.lines}
    for name, key in tables.keys.items():
        where = f"{sign.key_table}:{key.line}"
        if name not in used:
            text = f"no line of the SigningTable leads to {name}"
            yield warning(where, text, "take it out, or add the line that is missing", "unused_key")
        yield from _look_at_key(tables, name, where, sign.user)
    yield from _shadowed(tables)


def _look_at_key(tables: Tables, name: str, where: str, user: str) -> Iterator[Finding]:
    key = tables.keys[name]
    public = public_half(key)
    if isinstance(public, Finding):
        yield public
        return
    if public.bits < BITS_MIN:
        text = f"{name} has {public.bits} bits, and {BITS_MIN} are what is expected"
        yield warning(where, text, f"submitward dkim new {key.domain}", "short_key")
    if not key.path.startswith("/"):
        text = f"{name} is found only where OpenDKIM happens to be, or stands in the table for all to read"
        yield warning(where, text, "keep it in a file and name the whole path", "relative_path")
        return
    try:
        text = danger(Path(key.path), user)
    except (OSError, KeyError) as wrong:
        text = f"it cannot be seen whether it is safe: {wrong}"
    if text:
        mend = "until then RequireSafeKeys defers each message that it should sign"
        yield error(key.path, text, mend, "unsafe_key")


def _shadowed(tables: Tables) -> Iterator[Finding]:
    """Patterns that stand there twice."""
    seen: set[str] = set()
    for pattern, name in tables.lines:
        if pattern.pattern.lower() in seen:
            text = f"a second line for the same pattern, leading to {name}, is never reached"
            yield warning("SigningTable", text, "take one of them out", "second_line")
        seen.add(pattern.pattern.lower())
