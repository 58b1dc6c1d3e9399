"""Logical lines of main.cf and master.cf, and the words in them, each with its place in the file.

Knows comments, continued lines and braces (postconf(5), master(5)). Must not know what a parameter means.
Every word can be pointed at in the very text that was read, so that the rest of it is never rewritten.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

#: Postfix knows ASCII's blanks and no other line end than this; the bytes of a UTF-8 letter are neither.
BLANKS = " \t\n\v\f\r"
_PHYSICAL = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True)
class Word:
    """A word, and where it stands: ``text[start:end]``."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Logical:
    """A logical line without its comments. `places` gives the offset of each character in the file."""

    text: str
    places: tuple[int, ...]
    line: int
    end: int  # offset behind its last physical line

    def words(self, separators: str, start: int = 0) -> list[Word]:
        """The words from character `start` on; what stands in braces is one word, whatever is in it."""
        found, begin, depth = [], -1, 0
        for index in range(start, len(self.text) + 1):
            character = self.text[index] if index < len(self.text) else " "
            depth += (character == "{") - (character == "}")
            ends = index == len(self.text) or (depth <= 0 and character in BLANKS + separators)
            if ends and begin >= 0:
                found.append(self.word(begin, index))
                begin = -1
            elif not ends and begin < 0:
                begin = index
        return found

    def word(self, begin: int, end: int) -> Word:
        """The characters from `begin` to before `end` as a word."""
        return Word(self.text[begin:end], self.places[begin], self.places[end - 1] + 1)


def logical_lines(text: str) -> Iterator[Logical]:
    """Every logical line. Comments and empty lines are skipped, also within one, as Postfix does.

    Raises ValueError with the number of a line that continues nothing.
    """
    characters: list[str] = []
    places: list[int] = []
    first, end, offset = 0, 0, 0
    for number, physical in enumerate(physical_lines(text), start=1):
        begin, offset = offset, offset + len(physical)
        if is_comment(physical):
            continue
        if physical[0] not in BLANKS:
            if characters:
                yield Logical("".join(characters), tuple(places), first, end)
            characters, places, first = [], [], number
        elif not characters:
            raise ValueError(str(number))
        characters.extend(physical)
        places.extend(range(begin, offset))
        end = offset
    if characters:
        yield Logical("".join(characters), tuple(places), first, end)


def physical_lines(text: str) -> list[str]:
    """The lines with their ends; the last one may have none."""
    return _PHYSICAL.findall(text)


def is_comment(physical: str) -> bool:
    """Whether Postfix skips a line."""
    return physical.lstrip(BLANKS)[:1] in ("", "#")


def squeezed(text: str) -> str:
    """The text on one line, one space for every run of blanks."""
    return re.sub(f"[{BLANKS}]+", " ", text).strip(" ")


def shown(text: str) -> str:
    """For people: a line of UTF-8, which is worked on byte by byte, as what it means."""
    return "".join(map(_shown_line, physical_lines(text)))


def _shown_line(line: str) -> str:
    try:
        return line.encode("latin-1").decode()
    except UnicodeError:  # it is Latin-1, or Postfix has said it
        return line


def line_of(text: str, offset: int) -> int:
    """The number of the line that `offset` is in."""
    return text.count("\n", 0, offset) + 1
