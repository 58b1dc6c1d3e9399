"""`submitward dkim`: new keys, their rotation, and whether tables and DNS agree with them.

Knows arguments and how it is told. Must not know when a step is due, nor what is wrong with a record.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict

from directory.address import parse_domain
from directory.settings import read_directory
from milter.settings import SignSettings
from milter.tables import is_selector
from sidecar.settings import SettingsError
from submitward.bookkeeping import DONE, NO, UNAVAILABLE, USAGE, Refused
from submitward.dkim.keyring import Made, opened
from submitward.dkim.look import look_at_keys, look_at_signer
from submitward.dkim.record import format_record, owner_name, split, zone_lines
from submitward.dkim.signer import NoTables, read_tables
from submitward.dkim.table_checks import look_at_tables
from submitward.dns.authors import authors_of
from submitward.dns.command import add_resolver, resolver
from submitward.findings import Finding, exit_status, format_json, format_text
from submitward.settings import Settings, load_settings
from submitward.targets import argument

HELP = "make keys, exchange them, and see that tables and DNS agree with them"
clock = time.time


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    new = verbs.add_parser("new", help="make a key for a domain and say what to publish; signs nothing yet")
    new.add_argument("domain", type=argument(parse_domain), metavar="DOMAIN")
    new.add_argument("--selector", type=argument(_selector), help="default: by date, s20261125")
    rotate = verbs.add_parser("rotate", help="let each key take its next step, when the DNS shows the last")
    rotate.add_argument("domain", nargs="?", type=argument(parse_domain), metavar="DOMAIN")
    rotate.add_argument("--dry-run", action="store_true", help="say it, and change nothing")
    tables = verbs.add_parser("tables", help="what in KeyTable and SigningTable keeps mail from being signed")
    check = verbs.add_parser("check", help="whether the key that signs for a domain is published")
    check.add_argument("domain", type=argument(parse_domain), metavar="DOMAIN")
    for verb in (rotate, check):
        add_resolver(verb)
    for verb in (new, rotate, tables, check):
        verb.add_argument("--settings", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        verb.add_argument("--json", action="store_true", help="print one JSON object")


def _selector(text: str) -> str:
    if not is_selector(text):
        raise ValueError(f"{text!r} is no selector: letters, digits and -")
    return text


def run(options: argparse.Namespace) -> int:
    """0 done or well, 1 not yet or not well, 2 usage or settings, 75 cannot be known or done now."""
    try:
        settings = load_settings(options.settings)
        return _VERBS[options.verb](settings, options)
    except SettingsError as wrong:
        print(wrong, file=sys.stderr)
        return USAGE
    except Refused as refused:
        print(f"submitward dkim {options.verb}: {refused}", file=sys.stderr)
        return refused.status


def _new(settings: Settings, options: argparse.Namespace) -> int:
    with opened(settings.sign) as keyring:
        made = keyring.make(options.domain, options.selector or "", clock())
    name, record = owner_name(made.key.selector, options.domain), format_record(made.public)
    told = {
        "domain": options.domain,
        "made": made.is_new,
        **asdict(made.key),
        "name": name,
        "record": record,
        "strings": split(record),
        "zone": zone_lines(name, record),
        "key_table": made.lines.key,
        "signing_table": made.lines.signing,
    }
    print(json.dumps(told, indent=1) if options.json else _handed_out(options.domain, made, name, record))
    return DONE


def _handed_out(domain: str, made: Made, name: str, record: str) -> str:
    """What a postmaster does next with a key."""
    lines = "".join(f"\n  SigningTable: {line}" for line in made.lines.signing)
    return (
        f"{made.key.path}: {'made' if made.is_new else 'was made before, and does not sign yet'}\n"
        f"Publish this in the zone of {domain}:\n\n{zone_lines(name, record)}\n\n"
        f"or, where a form asks for one value, at {name}:\n\n{record}\n\n"
        f"then `submitward dkim rotate {domain}`, until it signs. It will write:\n"
        f"  KeyTable: {made.lines.key}{lines}"
    )


def _rotate(settings: Settings, options: argparse.Namespace) -> int:
    ask, now, told, status = resolver(settings, options).ask, clock(), [], DONE
    with opened(settings.sign) as keyring:
        if options.domain and options.domain not in keyring.lives:
            text = f"{options.domain} has no key to rotate: `submitward dkim new {options.domain}` makes one"
            raise Refused(text, NO)
        for domain in [options.domain] if options.domain else [*keyring.lives]:
            for key, step in keyring.advance(domain, ask, now, dry_run=options.dry_run):
                status = _worse(status, step.status)
                moved = step.after.stage != key.stage
                told.append(
                    {
                        "domain": domain,
                        **asdict(step.after),
                        "was": key.stage,
                        "text": step.text,
                        "moved": moved,
                    }
                )
                if not options.json:
                    stage = f"{key.stage} → {step.after.stage}" if moved else key.stage
                    print(f"{owner_name(key.selector, domain)}: {stage}: {step.text}", flush=True)
    if options.json:
        print(json.dumps({"status": status, "dry_run": options.dry_run, "keys": told}, indent=1))
    elif not told:
        print("there are no keys: `submitward dkim new DOMAIN` makes one")
    _remind(settings.sign, any(one["moved"] and one["stage"] == "signing" for one in told))
    return status


def _remind(sign: SignSettings, signs: bool) -> None:
    if signs and not sign.reload:
        text = "OpenDKIM reads its tables when it is told to: send it SIGUSR1 now (sign.reload is empty)"
        print(text, file=sys.stderr)


def _worse(one: int, other: int) -> int:
    return UNAVAILABLE if UNAVAILABLE in (one, other) else max(one, other)


def _tables(settings: Settings, options: argparse.Namespace) -> int:
    return _tell(look_at_tables(settings.sign), options)


def _check(settings: Settings, options: argparse.Namespace) -> int:
    return _tell(_look(settings, options), options)


def _look(settings: Settings, options: argparse.Namespace) -> Iterator[Finding]:
    try:
        tables = read_tables(settings.sign)
    except NoTables as none:
        yield from none.findings
        return
    try:
        known = authors_of(read_directory(settings.directory).principals)
    except SettingsError:
        known = {}
    ask = resolver(settings, options).ask
    yield from look_at_keys(ask, options.domain, tables, known.get(options.domain, []))[0]
    yield from look_at_signer(settings.sign.socket, options.domain, tables)


def _tell(findings: Iterator[Finding], options: argparse.Namespace) -> int:
    found = tuple(findings)
    print(format_json(found) if options.json else format_text(found))
    return exit_status(found)


_VERBS = {"new": _new, "rotate": _rotate, "tables": _tables, "check": _check}
