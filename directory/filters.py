"""Search filters (RFC 4515) and distinguished names (RFC 4514) with places for values, filled in safely.

Knows the two grammars as far as it takes to refuse a broken template when the settings are read, and the one
place at which a value is escaped. Must not know what is searched for, nor where.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

DEEPEST = 20  # parentheses in parentheses
_PLACE = re.compile(r"\{([a-z]*)\}")
_TERM = re.compile(r"\([^()]*\{[a-z]*\}[^()]*\)")
_VALUE = r"(?:[^()\\\x00{}]|\\[0-9a-fA-F]{2}|\{[a-z]*\})*"
_ITEM = re.compile(rf"[A-Za-z0-9][A-Za-z0-9;.:-]*(?:~=|>=|<=|=){_VALUE}")
_PRINTABLE = re.compile(r"[^()*\\\x00-\x1f\x7f-\U0010ffff]*")
_RDN = re.compile(r"[A-Za-z][A-Za-z0-9-]*=[^,+\"\\<>;\x00]+(?:\+[A-Za-z][A-Za-z0-9-]*=[^,+\"\\<>;\x00]+)*")


def escape_value(text: str) -> str:
    """`text` as an assertion value of a filter (RFC 4515, 3).

    ``* ( ) \\``, controls, blanks at the ends and all that is not ASCII are escaped.
    """
    if _PRINTABLE.fullmatch(text) and text == text.strip(" "):
        return text
    return "".join(
        chr(octet) if 0x20 < octet < 0x7F and octet not in b"*()\\" else f"\\{octet:02x}"
        for octet in text.encode("utf-8", "surrogateescape")
    )


def escape_rdn(text: str) -> str:
    """`text` as an attribute value of a distinguished name (RFC 4514, 2.4)."""
    escaped = "".join(
        f"\\{ord(c):02x}" if c < " " or c in '"#+,;<>=\\\x7f' else c
        for c in text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    )
    if escaped[:1] == " ":
        escaped = f"\\{ord(escaped[0]):02x}{escaped[1:]}"
    if escaped.endswith(" "):
        escaped = f"{escaped[:-1]}\\20"
    return escaped


def check_filter(text: str, places: Collection[str]) -> str:
    """`text` itself when it is one filter that uses no other `places` than these. Raises ValueError."""
    end = _check(text, 0, 0)
    if end != len(text):
        raise ValueError(f"goes on after its last parenthesis: {text[end : end + 20]!r}")
    _check_places(text, places)
    return text


def _check(text: str, start: int, depth: int) -> int:
    if depth > DEEPEST:
        raise ValueError(f"is nested deeper than {DEEPEST} levels")
    if text[start : start + 1] != "(":
        raise ValueError(f"needs a parenthesis at {text[start : start + 20]!r}, as in (mail={{login}})")
    at, kind = start + 1, text[start + 1 : start + 2]
    if kind and kind in "&|!":
        at, parts = at + 1, 0
        while text[at : at + 1] == "(":
            at, parts = _check(text, at, depth + 1), parts + 1
        if not parts or (kind == "!" and parts > 1):
            raise ValueError(f"has {parts} filters after {kind}")
    else:
        item = _ITEM.match(text, at)
        if item is None:
            raise ValueError(f"cannot be read at {text[at : at + 20]!r}: a term is like (mail={{login}})")
        at = item.end()
    if text[at : at + 1] != ")":
        where = f"before {text[at : at + 20]!r}" if text[at:] else "at its end"
        raise ValueError(f"lacks a parenthesis {where}")
    return at + 1


def check_dn(text: str, places: Collection[str]) -> str:
    """`text` itself when it is a distinguished name that uses no other `places`. Raises ValueError.

    Written without escapes: a name that needs them does not belong into a template.
    """
    for rdn in text.split(","):
        if not _RDN.fullmatch(_PLACE.sub("x", rdn.strip())):
            raise ValueError(
                f"{rdn.strip()!r} is no part of a name such as uid={{login}},ou=people,dc=example"
            )
    _check_places(text, places)
    return text


def _check_places(text: str, places: Collection[str]) -> None:
    unknown = [name for name in _PLACE.findall(text) if name not in places]
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in sorted(places)) or "none here"
        raise ValueError(f"has the place {{{unknown[0]}}}; known: {known}")


def fill_filter(template: str, values: Mapping[str, str | tuple[str, ...]]) -> str:
    """A checked filter with its places filled in; raises KeyError for a value that is not given.

    A term whose place has several values becomes ``(|…)`` with a term for each; it must have one at least.
    """

    def fill(term: str) -> str:
        names = _PLACE.findall(term)
        many = next((name for name in names if not isinstance(values[name], str)), "")
        if not many:
            return _PLACE.sub(lambda place: escape_value(str(values[place[1]])), term)
        each = (fill_filter(term, {**values, many: one}) for one in values[many])
        return f"(|{''.join(each)})"

    return _TERM.sub(lambda term: fill(term[0]), template)


def fill_dn(template: str, values: Mapping[str, str]) -> str:
    """A checked name with its places filled in; raises KeyError for a value that is not given."""
    return _PLACE.sub(lambda place: escape_rdn(values[place[1]]), template)


def names_of(login: str) -> dict[str, str]:
    """The places that a login fills: ``login``, ``local`` and ``domain`` (``""`` without an @)."""
    local, at, domain = login.rpartition("@")
    return {"login": login, "local": local if at else login, "domain": domain}
