"""A new key in KeyTable and SigningTable: the lines that lead to it, everything else as it was.

Knows the two texts, and that the signer must find a key at each moment between two writes. Must not touch
files or keys.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from milter.tables import Tables, compile_pattern, parse_tables

_ENTRY = re.compile(r"(\S+\s+)([^\s#]+)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Lines:
    """What leads to a key: its line of the KeyTable, and those of the SigningTable that are new."""

    key: str
    signing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Texts:
    """Both tables."""

    key_table: str
    signing_table: str

    @property
    def tables(self) -> Tables:
        """What they say. Raises TableError with every mistake."""
        return parse_tables(self.key_table, self.signing_table)


def lead(
    texts: Texts, author: str, selector: str, path: str, spellings: tuple[str, ...]
) -> tuple[Texts, Lines]:
    """The tables in which mail From `author` is signed by the key in `path`, and the lines that say so.

    The domain's own line of the KeyTable is rewritten where there is one, and the SigningTable stays. Else
    both get new lines, the new patterns before those that have matched so far. `spellings`: the domain as it
    may be written in From. Raises TableError.
    """
    tables, domain = texts.tables, author.rpartition("@")[2]
    value = f"{domain}:{selector}:{path}"
    name = tables.key_name(author)
    if name is not None and tables.keys[name].domain == domain:
        rows = texts.key_table.split("\n")
        at = tables.keys[name].line - 1
        entry = _ENTRY.fullmatch(rows[at])
        assert entry is not None  # parse_tables has read it
        rows[at] = f"{entry[1]}{value}{entry[3]}"
        return Texts("\n".join(rows), texts.signing_table), Lines(f"{name} {value}", ())
    name = domain if domain not in tables.keys else f"{domain}-{selector}"
    line, patterns = f"{name} {value}", tuple(f"*@{spelling} {name}" for spelling in spellings)
    new = Texts(_appended(texts.key_table, line), _inserted(texts.signing_table, patterns, author))
    return new, Lines(line, patterns)


def _appended(text: str, *lines: str) -> str:
    start = text if not text or text.endswith("\n") else f"{text}\n"
    return start + "".join(f"{line}\n" for line in lines)


def _inserted(text: str, lines: tuple[str, ...], author: str) -> str:
    """The lines before the first whose pattern matches `author`, else at the end."""
    rows = text.split("\n")
    for at, row in enumerate(rows):
        words = row.partition("#")[0].split()
        if words and compile_pattern(words[0]).fullmatch(author):
            return "\n".join([*rows[:at], *lines, *rows[at:]])
    return _appended(text, *lines)
