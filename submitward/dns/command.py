"""`submitward dns check`: whether what leaves here will pass SPF, DKIM and DMARC, domain by domain.

Knows arguments, the order of looking and how it is told. Must not know what is right or wrong with a record.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from directory.address import Malformed, parse_domain
from directory.settings import read_directory
from milter.tables import Tables
from sidecar.settings import SettingsError
from submitward.dkim.look import look_at_keys
from submitward.dkim.signer import NoTables, read_tables
from submitward.dns.ask import Ask, CannotKnow, Resolver
from submitward.dns.authors import Authors, authors_of
from submitward.dns.mail_checks import judge_dmarc, judge_mx, judge_spf
from submitward.dns.relay_checks import addresses_of, judge_relay
from submitward.dns.settings import parse_address, parse_server
from submitward.findings import (
    SETTINGS,
    Finding,
    error,
    exit_status,
    format_json,
    format_text,
    unavailable,
    warning,
)
from submitward.settings import Settings, load_settings
from submitward.targets import argument

HELP = "say whether our mail will pass SPF, DKIM and DMARC, and what to publish"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("verb", choices=["check"])
    parser.add_argument(
        "domains",
        nargs="*",
        metavar="DOMAIN",
        help="default: every domain that a principal may write in From",
    )
    parser.add_argument(
        "--address",
        action="append",
        default=[],
        type=argument(parse_address),
        metavar="IP",
        help="from which mail leaves; default: dns.addresses, else those of dns.helo",
    )
    add_resolver(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_resolver(parser: argparse.ArgumentParser) -> None:
    """The argument of all commands that ask the DNS."""
    parser.add_argument(
        "--resolver",
        action="append",
        default=[],
        type=argument(parse_server),
        metavar="IP[:PORT]",
        help="a name server to ask; default: dns.resolvers, else the system's",
    )


def resolver(settings: Settings, options: argparse.Namespace) -> Resolver:
    """What answers questions to the DNS."""
    return Resolver(options.resolver or settings.dns.resolvers, settings.dns.timeout)


def run(options: argparse.Namespace) -> int:
    """0 nothing wrong (warnings too), 1 errors, 2 usage or settings, 75 something cannot be known now."""
    try:
        settings = load_settings(options.settings)
        domains = tuple(parse_domain(text) for text in options.domains)
    except (SettingsError, Malformed) as wrong:
        print(f"submitward dns check: {wrong}", file=sys.stderr)
        return SETTINGS
    findings = tuple(look(settings, domains, tuple(options.address), resolver(settings, options).ask))
    print(format_json(findings) if options.json else format_text(findings))
    return exit_status(findings)


def look(
    settings: Settings, domains: tuple[str, ...], addresses: tuple[str, ...], ask: Ask
) -> Iterator[Finding]:
    """Every finding, the relay's own first."""
    helo = settings.dns.helo or settings.mta
    try:
        seen = addresses or settings.dns.addresses or addresses_of(ask, helo)
        yield from judge_relay(ask, seen, helo)
    except CannotKnow as unknown:
        seen = ()
        text = f"where mail leaves from cannot be known now: {unknown}"
        yield unavailable(f"relay {helo}", text, "set dns.addresses, or ask again")
    tables, known = None, {}
    try:
        tables = read_tables(settings.sign)
    except NoTables as none:
        yield from none.findings
    try:
        known = authors_of(read_directory(settings.directory).principals)
    except SettingsError as wrong:
        yield unavailable("directory", str(wrong), "the domains are those of the tables, or name some")
    if not domains:
        domains = every_domain(settings, known, tables)
        yield from _judge_list(settings, domains)
    for domain in domains:
        yield from look_at(ask, domain, seen, tables, known.get(domain, []))


def every_domain(settings: Settings, known: Authors, tables: Tables | None) -> tuple[str, ...]:
    """Every domain that may stand in From, and those that a key signs for."""
    found = {*known, *(tables.domains if tables else ())}
    for domain, aliases in settings.directory.domain_aliases.items():
        found |= {domain, *aliases}
    return tuple(sorted(found))


def _judge_list(settings: Settings, domains: tuple[str, ...]) -> Iterator[Finding]:
    if settings.directory.kind == "ldap":
        text = "people in LDAP cannot be listed, so domains that only they have are not looked at"
        yield warning("directory", text, "name them: submitward dns check DOMAIN …", "ldap")
    if not domains:
        text = "no principal has a domain, and no key signs for one"
        yield error("directory", text, "name a domain: submitward dns check DOMAIN", "no_domains")


def look_at(
    ask: Ask, domain: str, addresses: tuple[str, ...], tables: Tables | None, local_parts: list[str]
) -> Iterator[Finding]:
    """Every finding about one domain."""
    signed_by: tuple[str, ...] = ()
    if tables is not None:
        findings, signed_by = look_at_keys(ask, domain, tables, local_parts)
        yield from findings
    yield from judge_spf(ask, domain, addresses)
    yield from judge_mx(ask, domain)
    yield from judge_dmarc(ask, domain, signed_by)
