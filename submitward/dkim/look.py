"""The keys that sign for a domain, looked at from both sides: the tables here, and what the DNS shows.

Knows the order of looking. Must not know what is wrong with a record or a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from milter.probe import NoAnswer, selector_of
from milter.tables import Tables
from submitward.dkim.published import judge
from submitward.dkim.signer import ANYBODY, judge_signing, judge_unicode, public_half, signings
from submitward.dns.ask import Ask
from submitward.findings import Finding, error, good, unavailable


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


def look_at_signer(socket: Path | None, domain: str, tables: Tables) -> Iterator[Finding]:
    """Whether OpenDKIM signs with what its tables say now, where it can be asked."""
    author = f"{ANYBODY}@{domain}"
    name = tables.key_name(author)
    if socket is None or name is None:
        return
    wanted = tables.keys[name].selector
    try:
        signs = selector_of(socket, author)
    except NoAnswer as none:
        mend = "is it running, may you open its socket, and is its key one that it may use?"
        yield unavailable("OpenDKIM", f"which key signs cannot be seen: {none}", mend)
        return
    if signs == wanted:
        yield good("OpenDKIM", f"signs {domain} with {signs}")
        return
    text = f"signs {domain} with {signs or 'nothing'}, and the tables say {wanted}"
    yield error("OpenDKIM", text, "systemctl reload opendkim: it reads its tables then", "older_tables")
