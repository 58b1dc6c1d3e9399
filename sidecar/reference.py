"""The settings reference: a table of every key, made from the dataclasses that read it.

Knows dataclasses and Markdown. Must not know any section.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal

from sidecar.quantities import duration, octets
from sidecar.secret import Secret

_UNITS = (("day", 86400), ("h", 3600), ("min", 60), ("s", 1))
_NAMES: dict[Any, str] = {str: "text", int: "number", float: "number", bool: "true, false", Path: "path"}


def reference(root: type) -> str:
    """A Markdown table of key, type, default and help for `root`, sections in the order of their fields."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for row in _rows(root, "", {}):
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + "\n"


def _rows(cls: type, path: str, seen: dict[type, str]) -> typing.Iterator[tuple[str, str, str, str]]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        key = f"{path}.{field.name}" if path else field.name
        inner, suffix = _inner(hints[field.name])
        nested = dataclasses.is_dataclass(inner) and "parse" not in field.metadata
        meaning = str(field.metadata.get("help", ""))
        if inner in seen:
            meaning = f"{meaning}; keys as in `{seen[inner]}`".removeprefix("; ")
        if not nested or meaning or suffix:
            yield f"`{key}`", _type(hints[field.name], field), _default(field, nested), meaning
        if nested and inner not in seen:
            if suffix:
                seen[inner] = key + suffix
            yield from _rows(typing.cast(type, inner), key + suffix, seen)


def _inner(hint: Any) -> tuple[Any, str]:
    """The type inside optional, list and mapping, and what that adds to the key."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _inner(next(part for part in arguments if part is not type(None)))
    if origin is tuple:
        inner, suffix = _inner(arguments[0])
        return inner, "[]" + suffix
    if origin is dict:
        inner, suffix = _inner(arguments[1])
        return inner, ".NAME" + suffix
    return hint, ""


def _type(hint: Any, field: dataclasses.Field[Any]) -> str:
    inner, suffix = _inner(hint)
    if typing.get_origin(inner) is Literal:
        word = ", ".join(str(choice) for choice in typing.get_args(inner))
    elif inner is Secret:
        word = "secret"
    elif "parse" in field.metadata:
        word = str(field.metadata.get("type", "text"))
    else:
        word = _NAMES.get(inner, "mapping")
    if suffix.startswith(".NAME"):
        return f"name: {'list of ' if '[]' in suffix else ''}{word}"
    return f"list of {word}" if suffix else word


def _default(field: dataclasses.Field[Any], nested: bool) -> str:
    if "default" in field.metadata:
        return str(field.metadata["default"])
    if field.default is not dataclasses.MISSING:
        return _show(_in_units(field.default, field.metadata.get("parse")))
    if field.default_factory is not dataclasses.MISSING:
        return "" if nested else _show(field.default_factory())
    return "required"


def _in_units(value: Any, parse: object) -> Any:
    """A default as it would be written in the settings."""
    if parse is duration:
        unit, seconds = next((pair for pair in _UNITS if value and value % pair[1] == 0), ("s", 1))
        return f"{value / seconds:g} {unit}"
    return f"{value} bytes" if parse is octets else value


def _show(value: object) -> str:
    if value is None or value == "" or value == () or value == {}:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return ", ".join(_show(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"`{key}: {str(_show(item)).strip('`')}`" for key, item in value.items())
    return f"`{value}`"
