"""A large YAML file as nodes, each of which knows its place, and the mistakes that are found in them.

Knows YAML events, duplicate and unknown keys. Must not know what any key means. The settings have an engine
of their own in sidecar/, made for small files; this one reads a hundred thousand entries in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

from sidecar.problems import Problem, SettingsError, did_you_mean, shown

#: libyaml when PyYAML was built with it, twenty times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DEEPEST = 10  # nesting
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
T = TypeVar("T")


@dataclass(slots=True)
class Scalar:
    """A single value; `plain` means that it stands without quotes. Lines and columns count from 1."""

    line: int
    column: int
    text: str
    plain: bool


@dataclass(slots=True)
class Sequence:
    """A list."""

    line: int
    column: int
    items: list[Node]


@dataclass(slots=True)
class Mapping:
    """Keys and values in turn, as they stand in the file."""

    line: int
    column: int
    items: list[Node]


Node = Scalar | Sequence | Mapping


class Document:
    """One YAML text whose root is a mapping of mappings (sections of entries), read entry by entry."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        #: The root node once entries() is exhausted; its sections have lost their entries then.
        self.root: Node | None = None

    def entries(self) -> Iterator[tuple[str, Node, Node]]:
        """Section, key and value of each entry. Raises SettingsError for what is not plain YAML.

        Not yaml.compose(): that one recurses (libyaml's ends the process on deep nesting), takes ten times as
        long, and keeps every node until the last one is read.
        """
        top = Sequence(0, 0, [])
        nesting: list[Sequence | Mapping] = [top]
        for event in self._events():
            if isinstance(event, yaml.NodeEvent):
                _add(event, nesting, self._file)
            elif isinstance(event, yaml.CollectionEndEvent):
                nesting.pop()
            if len(nesting) == 3 and len(nesting[2].items) == 2 and isinstance(nesting[2], Mapping):
                key, value = nesting[2].items
                name = nesting[1].items[-2:-1]
                if isinstance(nesting[1], Mapping) and name and isinstance(name[0], Scalar):
                    yield name[0].text, key, value
                nesting[2].items.clear()
        if len(top.items) > 1:
            raise _refused(self._file, top.items[1], "a second document (---) begins here")
        self.root = top.items[0] if top.items else None

    def _events(self) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(self._text, Loader=LOADER)
        except yaml.YAMLError as wrong:
            mark = getattr(wrong, "problem_mark", None)
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            words = getattr(wrong, "problem", None) or getattr(wrong, "reason", None) or "cannot be read"
            raise SettingsError([Problem(self._file, line, column, "", f"is not YAML: {words}")]) from None


def _add(event: yaml.NodeEvent, nesting: list[Sequence | Mapping], file: str) -> None:
    mark: Any = event.start_mark
    line, column = mark.line + 1, mark.column + 1
    node: Node
    if isinstance(event, yaml.ScalarEvent):
        node = Scalar(line, column, event.value, event.implicit[0])
    elif isinstance(event, yaml.SequenceStartEvent):
        node = Sequence(line, column, [])
    else:
        node = Mapping(line, column, [])
    if event.anchor:
        raise _refused(file, node, "anchors and aliases (& and *) are not used here; write the value out")
    if getattr(event, "tag", None):
        raise _refused(file, node, "tags (!) are not used here; write the plain value")
    nesting[-1].items.append(node)
    if not isinstance(node, Scalar):
        nesting.append(node)
        if len(nesting) > DEEPEST:
            raise _refused(file, node, f"is nested deeper than {DEEPEST} levels")


def join(path: str, key: str) -> str:
    """The dotted path of a key."""
    return f"{path}.{key}" if path else key


def _refused(file: str, node: Node, text: str) -> SettingsError:
    return SettingsError([Problem(file, node.line, node.column, "", text)])


class Reader:
    """Reads the nodes of one file and collects what is wrong in `problems`."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def bad(self, node: Node, path: str, text: str) -> None:
        """Note a mistake at `node`."""
        self.problems.append(Problem(self.file, node.line, node.column, path, text))

    def mapping(
        self, node: Node, path: str, known: Iterable[str] | None = None
    ) -> Iterator[tuple[str, Scalar, Node]]:
        """Key, key node and value of each entry; a duplicate or unknown key is a mistake and left out."""
        if not isinstance(node, Mapping):
            self.bad(node, path, "must hold keys with values")
            return
        seen: dict[str, Node] = {}
        pairs = iter(node.items)
        for key, value in zip(pairs, pairs, strict=True):
            if not isinstance(key, Scalar) or not key.text:
                self.bad(key, path, "a key is a plain word")
            elif key.text in seen:
                self.bad(key, join(path, key.text), f"is already set in line {seen[key.text].line}")
            elif known is not None and key.text not in known:
                wrong = f"unknown key{did_you_mean(key.text, known)}; allowed: {', '.join(known)}"
                self.bad(key, join(path, key.text), wrong)
            else:
                seen[key.text] = key
                yield key.text, key, value

    def items(self, node: Node, path: str) -> list[tuple[str, Node]]:
        """The texts of a list, each with its node. A word that YAML takes for a number is a text here."""
        if not isinstance(node, Sequence):
            self.bad(node, path, "must be a list: write [a, b], or one '- a' a line")
            return []
        texts = [(self.text(item, path), item) for item in node.items]
        return [(text, item) for text, item in texts if text is not None]

    def text(self, node: Node, path: str) -> str | None:
        """A scalar's text, None (and a mistake) when there is none."""
        if not isinstance(node, Scalar) or not node.text or (node.plain and node.text in ("~", "null")):
            self.bad(node, path, "must be a text that is not empty")
        elif _CONTROL.search(node.text):
            self.bad(node, path, "holds a control character")
        else:
            return node.text
        return None

    def boolean(self, node: Node, path: str) -> bool | None:
        """A truth value, None (and a mistake) when it is none."""
        truth = _TRUTH.get(node.text.lower()) if isinstance(node, Scalar) and node.plain else None
        if truth is None:
            self.bad(node, path, "must be true or false")
        return truth

    def parsed(self, node: Node, path: str, text: str, parse: Callable[[str], T]) -> T | None:
        """What `parse` makes of `text`; its ValueError is a mistake at `node`."""
        try:
            return parse(text)
        except ValueError as wrong:
            self.bad(node, path, f"{shown(text)}: {wrong}")
            return None
