"""Quantities as people write them in settings: durations and octets.

Knows units. Must not know what is measured.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([A-Za-z]*)", re.ASCII)
_SECONDS = {
    **dict.fromkeys(("ms",), 0.001),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("week", "weeks"), 604800.0),
}
_OCTETS = {
    **dict.fromkeys(("B", "byte", "bytes", "octet", "octets"), 1),
    **dict.fromkeys(("kB", "KB"), 1000),
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}


def duration(text: str) -> float:
    """Seconds from ``250 ms``, ``60 s``, ``5 min``, ``1 h``, ``1 day``, ``2 weeks``. Raises ValueError."""
    match = _NUMBER.fullmatch(text.strip())
    factor = _SECONDS.get(match[2]) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is no duration; write it with its unit: 250 ms, 60 s, 5 min, 1 h, 1 day")
    return float(match[1]) * factor


def octets(text: str) -> int:
    """Octets from ``100 bytes``, ``64 kB``, ``25 MB`` (powers of 1000), ``25 MiB``. Raises ValueError."""
    match = _NUMBER.fullmatch(text.strip())
    factor = _OCTETS.get(match[2]) if match else None
    if match is None or factor is None:
        raise ValueError(
            f"{text!r} is no size; write it with its unit: 100 bytes, 64 kB, 25 MB, 1 GB, 25 MiB"
        )
    return round(float(match[1]) * factor)
