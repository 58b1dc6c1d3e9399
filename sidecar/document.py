"""The settings file as text: YAML read into a tree whose every value knows where it stands.

Knows YAML, its traps, and how conf.d/*.yaml is merged. Must not know which keys exist, nor build any object.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sidecar.problems import Problem

LARGEST = 1_000_000  # octets of one file; PyYAML is slow, and nobody writes more by hand
DEEPEST = 20  # nesting; yaml.compose is recursive
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # no part of any setting


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a file, counted from 1; line 0 is the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def problem(self, path: str, text: str) -> Problem:
        """A mistake at this place."""
        return Problem(self.file, self.line, self.column, path, text)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(slots=True)
class Scalar:
    """A single value: its text, and the type (`str`, `int`, `bool`, `null` …) YAML 1.1 gives it."""

    place: Place
    text: str
    type: str


@dataclass(slots=True)
class Sequence:
    """A list."""

    place: Place
    items: list[Value]


@dataclass(slots=True)
class Mapping:
    """Keys in the order they stand, each with its own place and its value."""

    place: Place
    entries: dict[str, tuple[Place, Value]] = field(default_factory=dict)


Value = Scalar | Sequence | Mapping


class _Refused(Exception):
    """The file has a mistake after which its rest has no meaning."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read(path: Path, problems: list[Problem]) -> tuple[Mapping, bool]:
    """The file and its conf.d/*.yaml merged, and whether all of them could be read.

    Every mistake is appended to `problems`.
    """
    first = _read_file(path, problems)
    if not problems and first is not None and not first.entries:
        problems.append(Place(str(path)).problem("", "is empty"))
    parts = [_read_file(part, problems) for part in _parts(path.parent / "conf.d", problems)]
    top = first or Mapping(Place(str(path), 1, 1))
    for part in parts:
        if part is not None:
            merge(top, part, "", problems)
    return top, first is not None and bool(first.entries) and None not in parts


def merge(into: Mapping, other: Mapping, path: str, problems: list[Problem]) -> None:
    """Take over what `other` has; mappings merge, the same key twice is a mistake, and lists never merge."""
    for key, (place, value) in other.entries.items():
        mine = into.entries.get(key)
        if mine is None:
            into.entries[key] = (place, value)
        elif isinstance(mine[1], Mapping) and isinstance(value, Mapping):
            merge(mine[1], value, join(path, key), problems)
        else:
            lists = " (lists do not merge)" if isinstance(value, Sequence) else ""
            problems.append(place.problem(join(path, key), f"is already set at {mine[0]}{lists}"))


def join(path: str, key: str) -> str:
    """The dotted path of a key."""
    return f"{path}.{key}" if path else key


def _parts(directory: Path, problems: list[Problem]) -> list[Path]:
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(Place(str(directory)).problem("", f"cannot be read: {error.strerror}"))
        return []
    for name in names:
        if name.endswith(".yml"):
            problems.append(
                Place(str(directory / name)).problem("", "is not read; rename it to end in .yaml")
            )
    return [directory / name for name in names if name.endswith(".yaml") and not name.startswith(".")]


def _read_file(path: Path, problems: list[Problem]) -> Mapping | None:
    name = str(path)
    try:
        text = _text(path)
        _check_events(name, text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        top = Mapping(Place(name, 1, 1)) if node is None else _convert(name, node, "", problems)
        if isinstance(top, Mapping):
            return top
        problems.append(top.place.problem("", f"must hold keys with values, not {_kind(top)}"))
    except _Refused as refused:
        problems.append(refused.problem)
    except yaml.YAMLError as error:
        problems.append(_syntax_problem(name, error))
    except (ValueError, OverflowError) as error:
        problems.append(Place(name).problem("", f"is not YAML: {error}"))
    return None


def _text(path: Path) -> str:
    name = str(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _Refused(Place(name).problem("", "is not a regular file"))
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise _Refused(Place(name).problem("", f"cannot be read: {error.strerror}")) from None
    except ValueError:
        raise _Refused(Place(ascii(name)).problem("", "is no file name")) from None
    if len(content) > LARGEST:
        raise _Refused(Place(name).problem("", f"is larger than {LARGEST} octets"))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        place = Place(name, before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1)
        wrong = f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise _Refused(place.problem("", wrong)) from None


def _check_events(name: str, text: str) -> None:
    """Refuse what would make compose() expensive or its result surprising, before it is called."""
    depth = documents = 0
    for event in _events(text):
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        wrong = ""
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            wrong = (
                "anchors and aliases (& and *) are not used here; write the value out, or put it in quotes"
            )
        elif getattr(event, "tag", None):
            wrong = "tags (!) are not used here; write the plain value, or put it in quotes"
        elif depth > DEEPEST:
            wrong = f"is nested deeper than {DEEPEST} levels"
        elif documents > 1:
            wrong = "a second document (---) begins here; one file holds one"
        if wrong:
            mark: Any = event.start_mark
            raise _Refused(Place(name, mark.line + 1, mark.column + 1).problem("", wrong))


def _events(text: str) -> Iterator[yaml.Event]:
    return iter(yaml.parse(text, Loader=yaml.SafeLoader))


def _convert(name: str, node: yaml.Node, path: str, problems: list[Problem]) -> Value:
    place = Place(name, node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        mapping = Mapping(place)
        for key_node, value_node in node.value:
            _add(mapping, name, key_node, value_node, path, problems)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        items = [_convert(name, item, f"{path}[{i}]", problems) for i, item in enumerate(node.value)]
        return Sequence(place, items)
    if _CONTROL.search(node.value):
        problems.append(place.problem(path, "holds a control character"))
    return Scalar(place, node.value, node.tag.rpartition(":")[2])


def _add(
    mapping: Mapping,
    name: str,
    key_node: yaml.Node,
    value_node: yaml.Node,
    path: str,
    problems: list[Problem],
) -> None:
    key = _convert(name, key_node, path, problems)
    if not isinstance(key, Scalar) or key.type in ("merge", "null"):
        problems.append(key.place.problem(path, "a key is a plain word"))
        return
    value = _convert(name, value_node, join(path, key.text), problems)
    if key.text in mapping.entries:
        first = mapping.entries[key.text][0]
        problems.append(key.place.problem(join(path, key.text), f"is already set at {first}"))
        return
    mapping.entries[key.text] = (key.place, value)


def _kind(value: Value) -> str:
    return "a list" if isinstance(value, Sequence) else "a single value"


def _syntax_problem(name: str, error: yaml.YAMLError) -> Problem:
    if isinstance(error, yaml.reader.ReaderError):
        return Place(name).problem("", f"character #x{error.character:04x} is not allowed in YAML")
    mark: Any = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name)
    text = " ".join(
        str(part) for part in (getattr(error, "context", ""), getattr(error, "problem", "")) if part
    )
    if "'\\t'" in text:
        text = "a tab stands here; YAML is indented with blanks"
    elif "flow node" in text:
        text += "; a value that begins with [ or { needs quotes"
    elif "flow" in text:
        text += f"; it begins in line {getattr(error, 'context_mark', mark).line + 1}"
    return place.problem("", f"is not YAML: {text or 'unreadable'}")
