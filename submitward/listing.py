"""Whom the directory lists now: the principal that a target names.

Knows how a target finds its principal. Must not know what is done to it.
"""

from __future__ import annotations

from directory.identity import Principal
from directory.settings import read_directory
from policyd.settings import Settings


def listed(settings: Settings, subject: str) -> Principal | None:
    """The principal that `subject` names, a certificate by any of its fingerprints. Raises SettingsError."""
    principals = read_directory(settings.directory).principals
    return next((principal for principal in principals if subject in names(principal)), None)


def names(principal: Principal) -> tuple[str, ...]:
    """The subjects that name a principal, its own first."""
    return (principal.subject, *(f"certificate:{fingerprint}" for fingerprint in principal.fingerprints))
