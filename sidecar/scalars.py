"""Single values: what YAML 1.1 makes of a word, against what a setting asks for.

Knows the plain types and how to name them in a message. Must not know sections.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from pathlib import Path
from typing import Any, Literal

from sidecar.document import Mapping, Scalar, Sequence, Value
from sidecar.problems import did_you_mean, shown
from sidecar.secret import Secret

_INT = re.compile(r"-?(0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_TYPES = {"bool": "a truth value", "int": "a number", "float": "a number", "timestamp": "a date"}


def _text(node: Scalar) -> str:
    if node.type != "str":
        kind = _TYPES.get(node.type, "no text")
        raise ValueError(
            f'must be text, and {shown(node.text)} is {kind} in YAML; write it in quotes: "{node.text}"'
        )
    return node.text


def _path(node: Scalar) -> Path:
    path = Path(_text(node))
    if not path.is_absolute():
        raise ValueError(f"must be an absolute path, not {shown(node.text)}")
    return path


def _bool(node: Scalar) -> bool:
    if node.type != "bool":
        raise ValueError(f"must be true or false, not {shown(node.text)}")
    return node.text.lower() in ("true", "yes", "on")


def _int(node: Scalar) -> int:
    if node.type != "int" or not _INT.fullmatch(node.text):
        raise ValueError(f"must be a whole number such as 10, not {shown(node.text)}")
    return int(node.text)


def _float(node: Scalar) -> float:
    if node.type not in ("int", "float") or not _FLOAT.fullmatch(node.text):
        raise ValueError(f"must be a number such as 0.5, not {shown(node.text)}")
    return float(node.text)


def choose(choices: tuple[Any, ...], node: Scalar) -> Any:
    """The one of `choices` that is written there. Raises ValueError."""
    allowed = {str(choice): choice for choice in choices}
    if node.text not in allowed:
        if len(allowed) == 1:
            raise ValueError(f"must be {next(iter(allowed))}, not {shown(node.text)}")
        hint = did_you_mean(node.text, allowed)
        raise ValueError(f"{shown(node.text)} is none of: {', '.join(allowed)}{hint}")
    if not isinstance(allowed[node.text], str) and node.type == "str":
        raise ValueError(f"must be {node.text} without quotes")
    return allowed[node.text]


#: type → what makes it out of a Scalar, raising ValueError.
SCALARS: dict[Any, Any] = {str: _text, Path: _path, bool: _bool, int: _int, float: _float}


def without_none(hint: Any) -> tuple[Any, bool]:
    """The type without its `| None`, and whether it had one."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint, False
    others = tuple(part for part in typing.get_args(hint) if part is not type(None))
    return typing.Union[others], len(others) < len(typing.get_args(hint))  # noqa: UP007  # of a tuple


def kind(node: Value) -> str:
    """What stands in the file, in words."""
    return {Sequence: "a list", Mapping: "a mapping"}.get(type(node), "a single value")


def quote_hint(node: Value) -> str:
    """The usual reason why something is no single value."""
    return "; a value that begins with [ or { needs quotes" if not isinstance(node, Scalar) else ""


def wanted(hint: Any) -> str:
    """What a setting of this type takes, in words."""
    hint, _ = without_none(hint)
    names: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    names |= {Path: "an absolute path", Secret: "{file: /path} or {credential: name}"}
    if typing.get_origin(hint) is Literal:
        choices = [str(choice) for choice in typing.get_args(hint)]
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    if typing.get_origin(hint) is tuple:
        return "a list"
    return names.get(hint, "keys with values" if dataclasses.is_dataclass(hint) else "a value")
