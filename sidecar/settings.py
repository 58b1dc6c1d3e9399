"""Settings: YAML mapped onto frozen dataclasses by their annotations, with every mistake reported at once.

Knows types, defaults and positions, and where secrets may come from. Must not know any section, nor mail.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from sidecar.document import Mapping, Place, Scalar, Sequence, Value, join, read
from sidecar.problems import Problem, SettingsError, did_you_mean
from sidecar.quantities import duration, octets
from sidecar.reference import reference
from sidecar.scalars import SCALARS, choose, kind, quote_hint, wanted, without_none
from sidecar.secret import HOW, Secret, from_credential, from_file

__all__ = [
    "Problem",
    "Secret",
    "SettingsError",
    "digest",
    "duration",
    "host_name",
    "load",
    "octets",
    "reference",
]

T = TypeVar("T")
_BAD: Any = object()  # the value could not be built; its problem is noted


def load(path: str | Path, root: type[T], *, foreign: frozenset[str] = frozenset()) -> T:
    """The settings in `path` and its conf.d/*.yaml as one `root`. Raises SettingsError with every mistake.

    A section that has a method `mistakes` says what is wrong between its values: pairs of keys and a text.
    `foreign` names top-level keys that belong to another program and are accepted unread.
    """
    problems: list[Problem] = []
    top, whole = read(Path(path), problems)
    for key in foreign & top.entries.keys():
        del top.entries[key]
    mapper = _Mapper()
    settings = mapper.section(root, top, "", foreign)
    # When a file could not be read, what it holds is not missing.
    problems += [problem for problem in mapper.problems if whole or problem not in mapper.missing]
    if problems:
        raise SettingsError(sorted(set(problems)))
    return typing.cast(T, settings)


def digest(settings: object) -> str:
    """Twelve hexadecimal digits that change when the settings do. A secret's value does not enter it."""
    return hashlib.sha256(_canonical(settings).encode("utf-8", "backslashreplace")).hexdigest()[:12]


def host_name() -> str:
    """The name of this host as the kernel has it: no DNS, so that all sidecars of a host always agree."""
    return os.uname().nodename.rstrip(".").lower()


def _canonical(value: object) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = [f"{f.name}={_canonical(getattr(value, f.name))}" for f in dataclasses.fields(value)]
        return f"{type(value).__name__}({','.join(pairs)})"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k!r}:{_canonical(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(_canonical(item) for item in value) + "]"
    return repr(value)


def _place(node: Value, keys: Iterable[str]) -> Place:
    """Where the value below these keys stands, or the last of them that is there."""
    place = node.place
    for key in keys:
        if not isinstance(node, Mapping) or key not in node.entries:
            break
        _, node = node.entries[key]
        place = node.place
    return place


class _Mapper:
    """Builds values by annotation and collects what is wrong."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.missing: set[Problem] = set()

    def bad(self, place: Place, path: str, text: str) -> Any:
        """Note a mistake; the result stands for the value that cannot be."""
        self.problems.append(place.problem(path, text))
        return _BAD

    def value(self, hint: Any, node: Value, path: str, meta: typing.Mapping[str, Any]) -> Any:
        """One value of type `hint` out of `node`."""
        hint, optional = without_none(hint)
        if isinstance(node, Scalar) and node.type == "null":
            return (
                None if optional else self.bad(node.place, path, "is empty; give a value, or remove the key")
            )
        if typing.get_origin(hint) is tuple:
            return self.sequence(typing.get_args(hint)[0], node, path, meta)
        if typing.get_origin(hint) is dict:
            return self.dictionary(typing.get_args(hint)[1], node, path, meta)
        if hint is Secret:
            return self.secret(node, path)
        if dataclasses.is_dataclass(hint) and "parse" not in meta:
            return self.section(typing.cast(type, hint), node, path)
        if not isinstance(node, Scalar):
            return self.bad(node.place, path, f"must be {wanted(hint)}, not {kind(node)}{quote_hint(node)}")
        return self.scalar(hint, node, path, meta)

    def sequence(self, hint: Any, node: Value, path: str, meta: typing.Mapping[str, Any]) -> Any:
        """A tuple."""
        if not isinstance(node, Sequence):
            return self.bad(
                node.place, path, f"must be a list, not {kind(node)}: write [a, b], or one '- a' a line"
            )
        items = [self.value(hint, item, f"{path}[{i}]", meta) for i, item in enumerate(node.items)]
        return _BAD if any(item is _BAD for item in items) else tuple(items)

    def dictionary(self, hint: Any, node: Value, path: str, meta: typing.Mapping[str, Any]) -> Any:
        """A dict whose keys are free, or judged by `parse_key`; the order is the file's."""
        if not isinstance(node, Mapping):
            return self.bad(node.place, path, f"must hold keys with values, not {kind(node)}")
        result: dict[Any, Any] = {}
        for text, (place, value) in node.entries.items():
            key = self.call(meta.get("parse_key", str), text, place, join(path, text))
            item = self.value(hint, value, join(path, text), meta)
            if key is not _BAD and key in result:
                self.bad(place, join(path, text), f"says the same as {key!r}, which is already set")
            elif key is not _BAD:
                result[key] = item
        return _BAD if any(item is _BAD for item in result.values()) else result

    def secret(self, node: Value, path: str) -> Any:
        """A Secret out of {file: …} or {credential: …}; the message never shows what stands there instead."""
        if not isinstance(node, Mapping) or len(node.entries) != 1:
            return self.bad(node.place, path, HOW)
        (key, (place, where)), *_ = node.entries.items()
        source = {"file": from_file, "credential": from_credential}.get(key)
        if source is None or not isinstance(where, Scalar):
            return self.bad(place, path, HOW)
        return self.call(source, where.text, where.place, path)

    def section(self, cls: type, node: Value, path: str, foreign: frozenset[str] = frozenset()) -> Any:
        """A dataclass out of a mapping, or out of a bare scalar when it has SCALAR."""
        single = getattr(cls, "SCALAR", None)
        if isinstance(node, Scalar) and single:
            node = Mapping(node.place, {single: (node.place, node)})
        if not isinstance(node, Mapping):
            return self.bad(node.place, path, f"must hold keys with values, not {kind(node)}")
        fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
        hints = typing.get_type_hints(cls)
        if not getattr(cls, "OPEN", False):
            self.unknown(node, path, sorted({*fields, *foreign}))
        values = {}
        for name, field in fields.items():
            if name in node.entries:
                where = (
                    path if single == name and node.entries[name][1].place == node.place else join(path, name)
                )
                values[name] = self.value(hints[name], node.entries[name][1], where, field.metadata)
            elif field.default is field.default_factory is dataclasses.MISSING:
                self.bad(node.place, join(path, name), f"is required: {wanted(hints[name])}")
                self.missing.add(self.problems[-1])
                values[name] = _BAD
        if any(value is _BAD for value in values.values()):
            return _BAD
        built = self.call(lambda _: cls(**values), "", node.place, path)
        found = list(built.mistakes()) if built is not _BAD and hasattr(built, "mistakes") else []
        for keys, text in found:
            self.bad(_place(node, keys), ".".join([path, *keys] if path else keys), text)
            self.missing.add(self.problems[-1])  # it may follow from what could not be read
        return _BAD if found else built

    def unknown(self, node: Mapping, path: str, known: list[str]) -> None:
        """Note every key that nobody reads."""
        for key, (place, _) in node.entries.items():
            if key not in known:
                text = f"unknown key{did_you_mean(key, known)}; allowed: {', '.join(known)}"
                self.bad(place, join(path, key), text)

    def scalar(self, hint: Any, node: Scalar, path: str, meta: typing.Mapping[str, Any]) -> Any:
        """A single value."""
        if "parse" in meta:
            return self.call(meta["parse"], node.text, node.place, path)
        if typing.get_origin(hint) is Literal:
            return self.call(lambda _: choose(typing.get_args(hint), node), "", node.place, path)
        read_as = SCALARS.get(hint)
        if read_as is None:
            raise TypeError(f"{path}: no setting can have the type {hint!r}")
        return self.call(lambda _: read_as(node), "", node.place, path)

    def call(self, function: Any, text: str, place: Place, path: str) -> Any:
        """What `function` makes of `text`; its ValueError is a mistake at `place`."""
        try:
            return function(text)
        except ValueError as error:
            return self.bad(place, path, str(error))
