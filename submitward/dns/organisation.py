"""The organisational domain, within which relaxed alignment holds (RFC 7489, 3.2).

The one module that names the public suffix list, which comes with its package and is as old as that. Must not
ask the DNS. A domain that is itself a public suffix is its own organisation.
"""

from __future__ import annotations

from functools import lru_cache

from publicsuffixlist import PublicSuffixList


@lru_cache(maxsize=1)
def _list() -> PublicSuffixList:
    return PublicSuffixList()


def organisational_domain(domain: str) -> str:
    """``mail.example.co.uk`` → ``example.co.uk``; in A-labels, lower case."""
    return _list().privatesuffix(domain) or domain
