"""What main.cf and master.cf say: parameters, services, and the -o options of a service.

Knows the shape of the two files (postconf(5), master(5)). Must not know what Submitward wants of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .texts import BLANKS, Logical, Word, line_of, logical_lines, squeezed

MAIN, MASTER = "main.cf", "master.cf"
_WITH_VALUE = "imnostz"  # the options of smtpd(8) that take one
_REFERENCE = re.compile(r"\$(?:(\w+)|\{(\w+)\}|\((\w+)\))", re.ASCII)


@dataclass(frozen=True)
class Reason:
    """Why a file cannot be worked on: where, and what to do."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


class Refused(Exception):
    """Nothing is changed. `reasons` holds all of them; str() is one per line."""

    def __init__(self, *reasons: Reason) -> None:
        super().__init__("\n".join(map(str, reasons)))
        self.reasons = reasons


@dataclass(frozen=True)
class Value:
    """A value where it stands, be it a parameter's or an option's. `spaced`: blanks may be put into it."""

    file: str
    name: str
    line: int
    text: str
    words: tuple[Word, ...]
    spaced: bool

    @property
    def reference(self) -> str:
        """The one parameter that it names and nothing else, ``""`` when it is anything else."""
        found = _REFERENCE.fullmatch(self.text)
        return found[found.lastindex or 1] if found else ""


def is_mx(name: str) -> bool:
    """Whether a service's name is that of port 25 (RFC 5321), at any address."""
    return name.rpartition(":")[2] in ("smtp", "25")


@dataclass(frozen=True)
class Service:
    """An entry of master.cf. `end` is the offset behind it."""

    name: str
    kind: str
    chroot: str
    command: str
    line: int
    end: int
    options: tuple[Value, ...]

    @property
    def key(self) -> str:
        """``submission/inet``, as postconf(1) writes it."""
        return f"{self.name}/{self.kind}"

    @property
    def is_smtpd(self) -> bool:
        """Whether it is a server that speaks SMTP; `options` are read for no other."""
        return _is_smtpd(self.command)

    @property
    def takes_from_all(self) -> bool:
        """Whether the world's mail comes here: port 25, or what postscreen(8) hands on."""
        return self.kind == "pass" or (self.kind == "inet" and is_mx(self.name))

    def option(self, name: str) -> Value | None:
        """The -o option that counts: the last one of that name."""
        return next((option for option in reversed(self.options) if option.name == name), None)


def references(text: str) -> set[str]:
    """Every parameter that a text names."""
    return {next(filter(None, groups)) for groups in _REFERENCE.findall(text)} | set(
        re.findall(r"\$[{(]\s*(\w+)", text, re.ASCII)
    )


def parameters(text: str) -> dict[str, Value]:
    """The parameters of main.cf; the last definition counts. Raises Refused."""
    found = {}
    for logical in _lines(MAIN, text):
        before, equals, _ = logical.text.partition("=")
        name = before.strip(BLANKS)
        if not equals:
            raise Refused(Reason(MAIN, logical.line, f"no `=` after {name!r}; mend it first"))
        start = len(before) + 1
        words = tuple(logical.words(",", start))
        found[name] = Value(MAIN, name, logical.line, squeezed(logical.text[start:]), words, spaced=True)
    return found


def services(text: str) -> list[Service]:
    """The entries of master.cf. Raises Refused."""
    return [_service(text, logical) for logical in _lines(MASTER, text)]


def _lines(file: str, text: str) -> list[Logical]:
    try:
        return list(logical_lines(text))
    except ValueError as error:
        reason = "begins with a blank, and there is nothing that it continues"
        raise Refused(Reason(file, int(str(error)), reason)) from None


def _service(text: str, logical: Logical) -> Service:
    words = logical.words("")
    if len(words) < 8:
        raise Refused(Reason(MASTER, logical.line, "an entry has eight columns; mend it first"))
    name, kind, _, _, chroot, _, _, command = (word.text for word in words[:8])
    options = tuple(_options(text, logical, words[8:])) if _is_smtpd(command) else ()
    return Service(name, kind, chroot, command, logical.line, logical.end, options)


def _is_smtpd(command: str) -> bool:
    return command.rpartition("/")[2] == "smtpd"


def _options(text: str, logical: Logical, words: list[Word]) -> list[Value]:
    """The -o options, up to the first word that is no option: there smtpd and postconf(1) stop, too."""
    found = []
    rest = iter(words)
    for word in rest:
        if not word.text.startswith("-") or word.text in ("-", "--"):
            break
        at = next((index for index, letter in enumerate(word.text) if letter in _WITH_VALUE), 0)
        if not at:
            continue
        joined = Word(word.text[at + 1 :], word.start + at + 1, word.end)
        argument = joined if joined.text else next(rest, None)
        if word.text[at] != "o":
            continue
        line = line_of(text, word.start)
        if argument is None or "=" not in argument.text:
            raise Refused(Reason(MASTER, line, "-o without name=value; mend it first"))
        found.append(_option(logical, argument, line))
    return found


def _option(logical: Logical, option: Word, line: int) -> Value:
    """``name=value``, or ``{ name = value with blanks }``."""
    braced = option.text.startswith("{")
    begin = logical.places.index(option.start)
    inner = option.text[1:].removesuffix("}") if braced else option.text
    name = inner.partition("=")[0]
    start = begin + braced + len(name) + 1
    part = Logical(logical.text[: begin + braced + len(inner)], logical.places, line, 0)
    words = tuple(part.words(",", start))
    value = squeezed(part.text[start:])
    return Value(MASTER, name.strip(BLANKS), line, value, words, spaced=braced)
