"""Terms of use: whether what somebody accepted is the version that is asked for, or a later one.

Knows how dates and version numbers are written. Must not know where either comes from.
"""

from __future__ import annotations

import re

_Order = tuple[int, ...]
_YEAR, _MONTH, _DAY = "((?:19|20|21)[0-9]{2})", "(0[1-9]|1[0-2])", "(0[1-9]|[12][0-9]|3[01])"
_HOUR, _SIXTIETH = "([01][0-9]|2[0-3])", "([0-5][0-9])"
_CLOCK = f"{_HOUR}:{_SIXTIETH}(?::{_SIXTIETH})?Z?"
_DIGITS = rf"{_HOUR}(?:{_SIXTIETH}{_SIXTIETH}?)?(?:[.,][0-9]+)?Z?"
#: A year, a month, a day or a moment as ISO 8601 writes them, and GeneralizedTime (RFC 4517, 3.3.13), in UTC.
_DATES = (
    re.compile(f"{_YEAR}(?:-{_MONTH}(?:-{_DAY}(?:[T ]{_CLOCK})?)?)?", re.ASCII),
    re.compile(f"{_YEAR}{_MONTH}{_DAY}(?:{_DIGITS})?", re.ASCII),
)
_VERSION = re.compile(r"[vV]?([0-9]{1,9}(?:\.[0-9]{1,9})*)", re.ASCII)


def covers(accepted: str, wanted: str) -> bool:
    """Whether `accepted` is `wanted` or later: dates by the calendar, version numbers part by part.

    What is neither, or a date where a version is wanted, counts only when it is the same; any text does when
    nothing is `wanted`.
    """
    if not wanted or accepted == wanted:
        return True
    dates = _date(accepted), _date(wanted)
    if dates[0] and dates[1]:
        return dates[0] >= dates[1]
    if dates[0] or dates[1]:
        return False
    versions = _version(accepted), _version(wanted)
    return versions[0] is not None and versions[1] is not None and versions[0] >= versions[1]


def _date(text: str) -> _Order:
    """From the year down, as far as it is told; empty for what is no date."""
    for form in _DATES:
        if found := form.fullmatch(text):
            return tuple(int(part) for part in found.groups() if part is not None)
    return ()


def _version(text: str) -> _Order | None:
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    parts = [int(part) for part in found[1].split(".")]
    while parts and not parts[-1]:  # 2.0 is 2
        parts.pop()
    return tuple(parts)
