"""OpenDKIM's KeyTable and SigningTable, as far as they tell which key a message will be signed with.

Knows the two files' grammar (opendkim.conf(5), `refile:` for the SigningTable) and OpenDKIM's way to search
them, as measured on 2.11. Must not know where the files are, nor read a key. Stricter than OpenDKIM: lines
that it would quietly never match, relay mail unsigned for, or crash on, are errors here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from directory.address import Malformed, parse_domain

LINE_MAX = 1000  # octets of a line, comment included: OpenDKIM's buffer has 1024
SIGNER_MAX = 254  # octets (RFC 5321 4.5.3.1.3); over 256 OpenDKIM does not sign
OF_THE_AUTHOR = "%"  # in the domain column: the domain of the From address


class TableError(ValueError):
    """A table cannot be trusted; str() is ``table:line: what is wrong``, `mistakes` has all of them."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__(mistakes[0])
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Key:
    """A line of the KeyTable: the d= it signs for (A-labels, or ``%``), the s=, and where the private key is:
    a path, or the key itself in base64, which OpenDKIM takes too."""

    domain: str
    selector: str
    path: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class Tables:
    """`keys` maps a key's name to its line; `lines` are the SigningTable's patterns with the key each leads
    to, in their order. `before`: the tables that the signer may have yet, None for no others."""

    keys: Mapping[str, Key]
    lines: tuple[tuple[re.Pattern[str], str], ...]
    before: tuple[Tables, ...] | None = None

    @property
    def domains(self) -> frozenset[str]:
        """Every domain that a key signs for, as far as the KeyTable names it."""
        return frozenset(key.domain for key in self.keys.values()) - {OF_THE_AUTHOR}

    def key_name(self, author: str) -> str | None:
        """The name of the key that a message From `author` (as it is written there) gets.

        The first pattern that matches decides, as without MultipleSignatures; letter case plays no part.
        """
        return next((name for pattern, name in self.lines if pattern.fullmatch(author)), None)

    def signing_domain(self, author: str) -> str | None:
        """The d= that a message From `author` gets, None if it stays unsigned."""
        name = self.key_name(author)
        if name is None:
            return None
        domain = self.keys[name].domain
        if domain != OF_THE_AUTHOR:
            return domain
        try:
            return parse_domain(author.rpartition("@")[2])
        except Malformed:
            return None

    def is_settled(self, author: str) -> bool:
        """Whether the signer can know by now that mail From `author` is to be signed with this d=."""
        if self.before is None:
            return True
        domain = self.signing_domain(author)
        return any(tables.signing_domain(author) == domain for tables in self.before)


def parse_tables(key_table: str, signing_table: str) -> Tables:
    """Both tables from their text. Raises TableError with every mistake."""
    mistakes: list[str] = []
    keys: dict[str, Key] = {}
    named: set[str] = set()  # also by lines that are wrong, so that one mistake is one
    for number, words in _lines("KeyTable", key_table, mistakes):
        name = words[0]
        try:
            if name in named:
                raise ValueError(f"{name!r} stands here for the second time")
            keys[name] = _key(words, number)
        except ValueError as wrong:
            mistakes.append(f"KeyTable:{number}: {wrong}")
        named.add(name)
    lines = []
    for number, words in _lines("SigningTable", signing_table, mistakes):
        try:
            lines.append(_pattern(words, named))
        except ValueError as wrong:
            mistakes.append(f"SigningTable:{number}: {wrong}")
    if mistakes:
        raise TableError(*mistakes)
    return Tables(keys, tuple(lines))


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """What a pattern of the SigningTable matches: whole addresses, in any letter case."""
    # Runs of * mean one *, and this keeps a pattern like ***** from taking long.
    pieces = (re.escape(piece) for piece in re.split(r"\*+", pattern))
    return re.compile(".*".join(pieces), re.IGNORECASE)


def _two(words: list[str]) -> tuple[str, str]:
    if len(words) != 2:
        raise ValueError(f"{len(words)} words where two belong")
    return words[0], words[1]


_ODD_BLANK = re.compile(r"[^\S \t\r]")
#: RFC 6376 3.1: a selector is one or more labels of a domain name. OpenDKIM aborts on one that is not ASCII.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_SELECTOR = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
#: What OpenDKIM leaves as it is when it makes a regular expression of a pattern.
_SPECIAL = re.compile(r"[?^$|\\(){}\[\]]")
#: A path, or the base64 of a private key, whose first octets are those of a long SEQUENCE.
_PLACE = re.compile(r"(?:/|\.{1,2}/).+|MI[A-Za-z0-9+/]{100,}={0,2}")


def is_selector(text: str) -> bool:
    """Whether this can be an s= (RFC 6376 3.1)."""
    return _SELECTOR.fullmatch(text) is not None


def _key(words: list[str], number: int) -> Key:
    name, value = _two(words)
    parts = value.split(":")
    if len(parts) != 3 or not all(parts):
        raise ValueError(f"{name!r} needs domain:selector:path, none of them empty")
    domain, selector, path = parts
    if not is_selector(selector):
        raise ValueError(f"{selector!r} is no selector: letters, digits and - (RFC 6376, 3.1)")
    if not _PLACE.fullmatch(path):
        raise ValueError(f"{path!r} is no path: one that does not begin with / is read as the key itself")
    return Key(_domain(domain), selector, path, number)


def _domain(text: str) -> str:
    if text == OF_THE_AUTHOR:
        return text
    try:
        domain = parse_domain(text)
    except Malformed as wrong:
        raise ValueError(f"{text!r} is no domain: {wrong}") from None
    if not text.isascii():
        raise ValueError(f"OpenDKIM aborts on {text!r}: write {domain}")
    if text.endswith("."):
        raise ValueError(f"the dot at the end of {text!r} goes into d=: write {domain}")
    return domain


def _pattern(words: list[str], named: set[str]) -> tuple[re.Pattern[str], str]:
    pattern, value = _two(words)
    name, _, signer = value.partition(":")
    if name not in named:
        raise ValueError(f"there is no key {name!r} in the KeyTable")
    if signer and "@" not in signer:
        raise ValueError(f"after {name}: comes an address for i=; with {signer!r} mail leaves unsigned")
    if len(signer) > SIGNER_MAX:
        raise ValueError(f"the address for i= is longer than {SIGNER_MAX} octets: mail would leave unsigned")
    if special := _SPECIAL.search(pattern):
        raise ValueError(f"OpenDKIM takes {special[0]} in {pattern!r} for more than itself: write * there")
    if not signer.isascii():
        raise ValueError(f"{signer!r} cannot stand in i=: write its domain in A-labels")
    if "*" not in pattern and not pattern.partition("@")[0]:
        raise ValueError(f"{pattern!r} matches no address: write *{pattern}")
    if "*" not in pattern and "@" not in pattern:
        raise ValueError(f"{pattern!r} matches no address: write *@{pattern}")
    return compile_pattern(pattern), name


def _lines(table: str, text: str, mistakes: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Number and words of each line that says something."""
    if text.startswith("\ufeff"):
        mistakes.append(f"{table}:1: begins with a byte order mark, which OpenDKIM takes for a letter")
        text = text[1:]
    for number, line in enumerate(text.split("\n"), 1):
        if len(line.encode("utf-8", "surrogatepass")) > LINE_MAX:
            mistakes.append(f"{table}:{number}: is longer than {LINE_MAX} octets, which OpenDKIM cuts")
            continue
        said = line.partition("#")[0].rstrip()
        if not said:
            continue
        if odd := _ODD_BLANK.search(said):
            mistakes.append(f"{table}:{number}: has {odd[0]!r}, which OpenDKIM takes for no blank")
        elif said[0].isspace():
            mistakes.append(f"{table}:{number}: starts with a blank, so OpenDKIM would not find it")
        else:
            yield number, said.split()
