"""The keys that sign for a domain, looked at from both sides: the tables here, and what the DNS shows.

Knows the order of looking. Must not know what is wrong with a record or a key.
"""

from __future__ import annotations

from milter.tables import Tables
from submitward.dkim.published import judge
from submitward.dkim.signer import ANYBODY, judge_signing, judge_unicode, public_half, signings
from submitward.dns.ask import Ask
from submitward.findings import Finding


def look_at_keys(
    ask: Ask, domain: str, tables: Tables, local_parts: list[str]
) -> tuple[list[Finding], tuple[str, ...]]:
    """Every finding about the keys for authors at `domain`, and each d= that results. Raises nothing."""
    findings: list[Finding] = []
    signed_by: list[str] = []
    for signing in signings(tables, domain, local_parts or [ANYBODY]):
        findings += judge_signing(domain, signing)
        if isinstance(signing, str):
            continue
        signed_by.append(signing.key.domain)
        public = public_half(signing.key)
        if isinstance(public, Finding):
            findings.append(public)
        else:
            findings += judge(ask, signing.key.selector, signing.key.domain, public)
    findings += judge_unicode(tables, domain)
    return findings, tuple(dict.fromkeys(signed_by))
