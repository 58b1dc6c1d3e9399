"""Amending a directory file: one password is replaced, every other character stays.

Knows where in the text of a YAML file a login's password stands, or would. Must not know how the file is
written, nor what a good password is.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from directory.identity import BadLogin, normal_login
from directory.nodes import LOADER


class Missing(LookupError):
    """The file has no entry for this login."""


class Unamendable(ValueError):
    """The entry is written in a way that cannot be amended; the text says what to do."""


def with_password(text: str, login: str, encoded: str) -> str:
    """`text` with `encoded` as the password of `login` (in normal form), added when there is none.

    Raises Missing, Unamendable, and yaml.YAMLError for what is not YAML.
    """
    section, inside, key = "", False, ""
    entry: yaml.NodeEvent | None = None
    first: yaml.NodeEvent | None = None
    for depth, is_key, event in _walk(text):
        word = event.value if isinstance(event, yaml.ScalarEvent) else ""
        if depth == 1 and is_key:
            section = word
        elif depth == 2 and section == "logins":
            inside = _is_login(word, login) if is_key else inside
            entry = event if inside and not is_key else entry
        elif depth == 3 and inside and is_key:
            key, first = word, first or event
        elif depth == 3 and inside and key == "password":
            return _replaced(text, event, encoded)
    if entry is None:
        raise Missing(login)
    if not isinstance(entry, yaml.MappingStartEvent):
        raise Unamendable("the entry must hold keys with values; write {} for none")
    return _added(text, entry, first, encoded)


def _walk(text: str) -> Iterator[tuple[int, bool, yaml.NodeEvent]]:
    """Each node with its depth and whether it is a key."""
    parents: list[list[int]] = []  # for each open collection: nodes seen, and 1 if it is a mapping
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.NodeEvent):
            is_key = bool(parents and parents[-1][1] and parents[-1][0] % 2 == 0)
            if parents:
                parents[-1][0] += 1
            yield len(parents), is_key, event
            if isinstance(event, yaml.CollectionStartEvent):
                parents.append([0, isinstance(event, yaml.MappingStartEvent)])
        elif isinstance(event, yaml.CollectionEndEvent):
            parents.pop()


def _is_login(text: str, login: str) -> bool:
    try:
        return normal_login(text) == login
    except BadLogin:
        return False


def _span(event: yaml.NodeEvent) -> tuple[int, int]:
    start, end = event.start_mark, event.end_mark
    if start is None or end is None:
        raise Unamendable("the entry has no place in the file")
    return start.index, end.index


def _replaced(text: str, old: yaml.NodeEvent, encoded: str) -> str:
    if not isinstance(old, yaml.ScalarEvent) or old.style in ("|", ">"):
        raise Unamendable('its password is no single value; write password: "" and try again')
    start, end = _span(old)
    blank = " " if start and text[start - 1] == ":" else ""
    return f'{text[:start]}{blank}"{encoded}"{text[end:]}'


def _added(text: str, entry: yaml.MappingStartEvent, first: yaml.NodeEvent | None, encoded: str) -> str:
    start, _ = _span(entry)
    if text[start : start + 1] == "{":
        comma = ", " if first is not None else ""
        return f'{text[: start + 1]}password: "{encoded}"{comma}{text[start + 1 :]}'
    at, _ = _span(first) if first is not None else (start, start)
    indent = text[text.rfind("\n", 0, at) + 1 : at]
    if indent.strip(" "):
        raise Unamendable('it does not begin on a line of its own; write password: "" into it and try again')
    newline = "\r\n" if "\r\n" in text else "\n"
    return f'{text[:at]}password: "{encoded}"{newline}{indent}{text[at:]}'
