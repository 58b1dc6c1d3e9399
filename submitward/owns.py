"""`submitward owns LOGIN [ADDRESS]`: what a principal owns, and which entry and attribute gives each address.

Knows how it is told. Must not know how ownership is judged or found.
"""

from __future__ import annotations

import argparse
import json
import sys

from directory.address import Malformed, parse
from directory.identity import BadLogin, Principal, Unavailable, normal_login
from directory.ownership import owns
from directory.settings import find_principal, load_directory_settings
from sidecar.settings import SettingsError

HELP = "say what a principal owns, and why"
YES, NO, USAGE, UNAVAILABLE = 0, 1, 2, 75


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("principal", metavar="LOGIN", help="a login, certificate:sha256:… or network:…")
    parser.add_argument("address", nargs="?", help="only whether this one is owned; '' is the null sender")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """0 owned or listed, 1 not owned or no such principal, 2 settings, 75 the directory is unavailable."""
    try:
        settings = load_directory_settings(options.settings)
        subject = subject_of(options.principal)
        address = None if options.address is None else parse(options.address, settings.addresses)
    except (SettingsError, BadLogin, Malformed) as wrong:
        print(f"submitward owns: {wrong}", file=sys.stderr)
        return USAGE
    try:
        principal = find_principal(settings, subject)
    except (SettingsError, Unavailable) as wrong:
        print(f"submitward owns: the directory is unavailable: {wrong}", file=sys.stderr)
        return UNAVAILABLE
    if principal is None:
        print(f"{subject} is no principal: the directory does not list it", file=sys.stderr)
        return NO
    if address is None:
        _list(principal, options.json)
        return YES
    words = owns(principal, address, settings.addresses)
    if options.json:
        print(
            json.dumps(
                {"subject": principal.subject, "address": address, "owned": words is not None, "by": words}
            )
        )
    else:
        print(f"{address or '<>'}: {words or f'not owned by {principal.subject}'}")
    return YES if words is not None else NO


def subject_of(text: str) -> str:
    """The ledger's subject for an argument; a bare word is a login. Raises BadLogin."""
    kind, colon, name = text.partition(":")
    if colon and kind in ("certificate", "network"):
        return text
    return f"login:{normal_login(name if colon and kind == 'login' else text)}"


def _list(principal: Principal, as_json: bool) -> None:
    addresses, domains = dict(principal.addresses), dict(principal.domains)
    if as_json:
        facts = {"subject": principal.subject, "plan": principal.plan, "disabled": principal.disabled}
        print(json.dumps({**facts, "addresses": addresses, "domains": domains}))
        return
    print(f"{principal.subject}: plan {principal.plan}{', DISABLED' if principal.disabled else ''}")
    for address, words in sorted(addresses.items()):
        print(f"  {address}: {words}")
    for domain, words in sorted(domains.items()):
        print(f"  any address at {domain}: {words}")
    if principal.null_sender:
        print("  the null sender <>")
