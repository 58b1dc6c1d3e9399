"""What is ours in a file, and how it is taken out: the blocks, and the single words in lists of others.

Knows the marks and their exact inverse. Must not know why anything was put in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .files import Reason, Refused, Value
from .texts import Word, is_comment, physical_lines

PREFIX = "submitward_"
BEGIN = "# submitward: begin (written by `submitward graft`; what is changed here is lost)"
_NO_NEWLINE = " (no newline before)"
END = "# submitward: end"
_BLOCK = re.compile(
    rf"(?P<cut>\n)?{re.escape(BEGIN)}(?P<none>{re.escape(_NO_NEWLINE)})?\n.*?^{re.escape(END)}\n",
    re.DOTALL | re.MULTILINE,
)
#: Before a word of the list; or behind the last one, where the braces tell the two apart.
_BEFORE = re.compile(rf"\${PREFIX}(?:policy|policy_mx|milter|signer), ?")
_BEHIND = re.compile(rf"[ ,]\$\{{{PREFIX}(?:policy|policy_mx|milter|signer)\}}")
_OURS = re.compile(rf"\b{PREFIX}\w")
_MARKS = ("# submitward: begin", END)

Insertion = tuple[int, str]


def block(text: str, offset: int, lines: Iterable[str]) -> Insertion:
    """A block of whole lines, at the beginning of a line or at the end of a file without a last newline."""
    cut = offset > 0 and text[offset - 1] != "\n"
    head = f"\n{BEGIN}{_NO_NEWLINE}\n" if cut else f"{BEGIN}\n"
    return offset, head + "".join(f"{line}\n" for line in lines) + f"{END}\n"


def before(value: Value, word: Word, name: str) -> Insertion:
    """A reference to our parameter before a word of a list."""
    return word.start, f"${name}, " if value.spaced else f"${name},"


def behind(value: Value, word: Word, name: str) -> Insertion:
    """A reference to our parameter behind the last word of a list."""
    return word.end, f" ${{{name}}}" if value.spaced else f",${{{name}}}"


def insert(text: str, insertions: Iterable[Insertion]) -> str:
    """The text with all of them; two at one place stay in their order."""
    pieces, at = [], 0
    for offset, what in sorted(insertions, key=lambda insertion: insertion[0]):
        pieces += [text[at:offset], what]
        at = offset
    return "".join([*pieces, text[at:]])


def take_out(file: str, text: str) -> str:
    """The text without anything of ours. Raises Refused for what somebody else has moved or written."""
    # The same text with every line in its place, for the number.
    masked = _BLOCK.sub(lambda found: "\n" * found[0].count("\n"), text)
    for number, line in enumerate(physical_lines(masked), start=1):
        if line.startswith(_MARKS) or (not is_comment(line) and _OURS.search(_without_words(line))):
            why = "names submitward outside what the graft wrote; take this line out by hand"
            raise Refused(Reason(file, number, why))
    bare = _BLOCK.sub(lambda found: _cut(found, len(text)), text)
    return "".join(map(_without_words, physical_lines(bare)))


def _without_words(line: str) -> str:
    """A line without our words; what is a comment is somebody else's, whatever it names."""
    return line if is_comment(line) else _BEHIND.sub("", _BEFORE.sub("", line))


def _cut(found: re.Match[str], end: int) -> str:
    """What a block leaves: the end of the line before it, unless that line was the last and had none."""
    return "" if found["none"] and found.end() == end else found["cut"] or ""
