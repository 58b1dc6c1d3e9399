"""OpenDKIM's KeyTable and SigningTable, as far as they tell which domain a message will be signed for.

Knows the two files' grammar (opendkim.conf(5), `refile:` for the SigningTable) and OpenDKIM's way to search
them, as measured on 2.11. Must not know where the files are, nor read a key. Stricter than OpenDKIM: lines
that it would quietly never match, or crash on, are errors here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from directory.address import Malformed, parse_domain

OF_THE_AUTHOR = "%"  # in the domain column: the domain of the From address


class TableError(ValueError):
    """A table cannot be trusted; str() is ``table:line: what is wrong``."""


@dataclass(frozen=True, slots=True)
class Tables:
    """`keys` maps a key's name to its signing domain (A-labels, or ``%``); `lines` are the SigningTable's
    patterns with the key each leads to, in their order."""

    keys: Mapping[str, str]
    lines: tuple[tuple[re.Pattern[str], str], ...]

    @property
    def domains(self) -> frozenset[str]:
        """Every domain that a key signs for, as far as the KeyTable names it."""
        return frozenset(self.keys.values()) - {OF_THE_AUTHOR}

    def signing_domain(self, author: str) -> str | None:
        """The d= that a message From `author` (as it is written there) gets, None if it stays unsigned.

        The first pattern that matches decides, as without MultipleSignatures; letter case plays no part.
        """
        name = next((name for pattern, name in self.lines if pattern.fullmatch(author)), None)
        if name is None:
            return None
        domain = self.keys[name]
        if domain != OF_THE_AUTHOR:
            return domain
        try:
            return parse_domain(author.rpartition("@")[2])
        except Malformed:
            return None


def parse_tables(key_table: str, signing_table: str) -> Tables:
    """Both tables from their text. Raises TableError with the first mistake."""
    keys = dict(_keys(key_table))
    lines = []
    for number, pattern, value in _lines("SigningTable", signing_table):
        name, _, _signer = value.partition(":")
        if name not in keys:
            raise TableError(f"SigningTable:{number}: there is no key {name!r} in the KeyTable")
        lines.append((_compiled(pattern), name))
    return Tables(keys, tuple(lines))


def _compiled(pattern: str) -> re.Pattern[str]:
    # Runs of * mean one *, and this keeps a pattern like ***** from taking long.
    pieces = (re.escape(piece) for piece in re.split(r"\*+", pattern))
    return re.compile(".*".join(pieces), re.IGNORECASE)


def _keys(text: str) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for number, name, value in _lines("KeyTable", text):
        parts = value.split(":")
        if len(parts) != 3 or not all(parts):
            raise TableError(f"KeyTable:{number}: {name!r} needs domain:selector:path, none of them empty")
        if name in seen:
            raise TableError(f"KeyTable:{number}: {name!r} stands here for the second time")
        seen.add(name)
        yield name, _domain(parts[0], number)


def _domain(text: str, number: int) -> str:
    if text == OF_THE_AUTHOR:
        return text
    try:
        return parse_domain(text)
    except Malformed as wrong:
        raise TableError(f"KeyTable:{number}: {text!r} is no domain: {wrong}") from None


def _lines(table: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Number, first word and the one word after it, of each line that says something."""
    for number, line in enumerate(text.split("\n"), 1):
        said = line.partition("#")[0].rstrip()
        if not said:
            continue
        if said[0].isspace():
            raise TableError(f"{table}:{number}: starts with a blank, so OpenDKIM would not find it")
        words = said.split()
        if len(words) != 2:
            raise TableError(f"{table}:{number}: {len(words)} words where two belong")
        yield number, words[0], words[1]
