"""Whether the lists that the graft has copied for submission are still those that they were copied from.

Knows how a copy is named, and main.cf as a text, since postconf(1) shows no words before they are expanded.
Must not know why a list was copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from submitward.findings import Finding, warning
from submitward.graft.files import Refused, Value, parameters
from submitward.graft.marks import PREFIX
from submitward.graft.own import OWN_MILTERS
from submitward.graft.texts import squeezed
from submitward.graft.wish import Wish, values

_NO_COPIES = {OWN_MILTERS, *values(Wish())}


def judge(directory: str) -> Iterator[Finding]:
    """What is to be said about the copies in this directory's main.cf, if it can be read."""
    try:
        there = parameters((Path(directory) / "main.cf").read_bytes().decode("latin-1"))
    except (OSError, Refused):  # Postfix reads it otherwise, and says what there is to say
        return
    for name in there:
        if not name.startswith(PREFIX) or name in _NO_COPIES:
            continue
        plain = name.removeprefix(PREFIX).removesuffix("_mx")
        origins = [there[origin] for origin in (f"smtpd_{plain}", plain) if origin in there]
        if origins and all(_words(origin) != _words(there[name]) for origin in origins):
            text = f"{origins[0].name} has changed, and its copy {name} has not"
            mend = "run the role, or `submitward graft apply`, again"
            yield warning(f"main.cf:{origins[0].line}", text, mend)


def _words(value: Value) -> list[str]:
    """Those that are not ours."""
    words = (squeezed(word.text) for word in value.words)
    return [word for word in words if not word.lstrip("${(").startswith(PREFIX)]
