"""Whom the directory lists now: the principal that a target names, and what to say when there is none.

Knows how a target finds its principal. Must not know what is done to it.
"""

from __future__ import annotations

from difflib import get_close_matches

from directory.identity import Principal, Unavailable
from directory.settings import find_principal, read_directory
from policyd.settings import Settings
from submitward.bookkeeping import UNAVAILABLE, Refused

Principals = tuple[Principal, ...]


def read(settings: Settings, subject: str) -> Principals:
    """Everybody whom the directory lists; of the logins in LDAP only the one that `subject` names.

    Raises SettingsError with every mistake in the directory, and Refused when LDAP cannot be asked now.
    """
    if settings.directory.kind != "ldap" or not subject.startswith("login:"):
        return read_directory(settings.directory).principals
    try:
        found = find_principal(settings.directory, subject)
    except Unavailable as wrong:
        raise Refused(f"the directory is unavailable: {wrong}", UNAVAILABLE) from None
    return () if found is None else (found,)


def find(principals: Principals, subject: str) -> Principal | None:
    """The principal that `subject` names, a certificate by any of its fingerprints."""
    return next((principal for principal in principals if subject in _names(principal)), None)


def unlisted(principals: Principals, subject: str) -> str:
    """What to tell of a subject (a domain too) that nobody has; ``""`` when somebody has it."""
    known = {name for principal in principals for name in _names(principal)}
    known |= {f"domain:{principal.domain}" for principal in principals if principal.domain}
    if subject in known:
        return ""
    kind, _, name = subject.partition(":")
    alike = [one.removeprefix(f"{kind}:") for one in known if one.startswith(f"{kind}:")]
    near = get_close_matches(name, alike, 1) if kind in ("login", "domain") else []
    return f"the directory lists no {kind} {name}{f' (did you mean {near[0]}?)' if near else ''}"


def _names(principal: Principal) -> tuple[str, ...]:
    return (principal.subject, *(f"certificate:{fingerprint}" for fingerprint in principal.fingerprints))
