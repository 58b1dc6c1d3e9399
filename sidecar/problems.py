"""What can be wrong with settings, said so that the place can be found.

Knows positions in files and how a list of mistakes reads. Must not know what any setting means.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

SHOWN = 100  # mistakes printed; a binary file taken for settings must not fill the terminal


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake. `line` and `column` count from 1; `line` 0 is the file as a whole, `path` "" its top."""

    file: str
    line: int
    column: int
    path: str
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        line = ": ".join(part for part in (place, self.path, self.text) if part)
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


class SettingsError(Exception):
    """The settings cannot be used. `problems` holds every mistake, str() is one line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"… and {len(self.problems) - SHOWN} more")
        return "\n".join(lines)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when one of `known` is close to `word`, else nothing."""
    close = difflib.get_close_matches(word[:100], list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(text: str) -> str:
    """A value as a message may show it: quoted, escaped, of bounded length."""
    return ascii(text) if len(text) <= 60 else ascii(text[:57]) + "…"
