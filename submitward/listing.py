"""Whom the directory lists now: the principal that a target names.

Knows how a target finds its principal. Must not know what is done to it.
"""

from __future__ import annotations

from directory.identity import Principal, Unavailable
from directory.settings import find_principal, read_directory
from policyd.settings import Settings
from submitward.bookkeeping import UNAVAILABLE, Refused


def listed(settings: Settings, subject: str) -> Principal | None:
    """The principal that `subject` names, a certificate by any of its fingerprints.

    Raises SettingsError, and Refused when LDAP cannot be asked now.
    """
    if settings.directory.kind == "ldap" and subject.startswith("login:"):
        try:
            return find_principal(settings.directory, subject)
        except Unavailable as wrong:
            raise Refused(f"the directory is unavailable: {wrong}", UNAVAILABLE) from None
    principals = read_directory(settings.directory).principals
    return next((principal for principal in principals if subject in names(principal)), None)


def names(principal: Principal) -> tuple[str, ...]:
    """The subjects that name a principal, its own first."""
    return (principal.subject, *(f"certificate:{fingerprint}" for fingerprint in principal.fingerprints))
