"""`submitward export postfix`: the two tables by which Postfix lets listed certificates and networks relay.

Knows how relay_clientcerts (postconf(5)) and a cidr table (cidr_table(5)) are written. Must not know where
principals are listed. Postfix decides who may relay at all; these tables are where it learns that from us.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path

from directory.identity import Principal
from directory.settings import load_directory_settings, read_directory
from sidecar.settings import SettingsError
from submitward.replacing import replace_files

HELP = "write the tables of certificates and networks for Postfix"
DONE, USAGE, UNAVAILABLE = 0, 2, 75
CERTIFICATES, NETWORKS = "relay_clientcerts", "networks"
DEFAULT_OUTPUT = Path("/etc/postfix/submitward")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=["postfix"])
    parser.add_argument(
        "--output",
        "--directory",
        dest="output",
        type=Path,
        default=DEFAULT_OUTPUT,
        metavar="DIRECTORY",
        help=f"where {CERTIFICATES} and {NETWORKS} are written; default: %(default)s",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """0 written, 2 usage or settings, 75 the directory is unavailable or nothing can be written."""
    try:
        settings = load_directory_settings(options.settings)
    except SettingsError as wrong:
        return _complain(str(wrong), USAGE)
    if not options.output.is_dir():
        return _complain(f"submitward export: {options.output} is no directory; make it first", USAGE)
    try:
        principals = read_directory(settings).principals
    except SettingsError as wrong:
        return _complain(f"{wrong}\nthe directory is unavailable; the old tables stay", UNAVAILABLE)
    tables = {CERTIFICATES: certificates(principals), NETWORKS: networks(principals)}
    contents = {options.output / name: format_table(name, lines) for name, lines in tables.items()}
    try:
        changed = replace_files(contents)
    except OSError as wrong:
        return _complain(f"submitward export: {wrong}; the old tables stay", UNAVAILABLE)
    told = [
        {
            "file": str(options.output / name),
            "entries": len(lines),
            "changed": options.output / name in changed,
        }
        for name, lines in tables.items()
    ]
    _tell(told, bool(changed), options.json)
    return DONE


def certificates(principals: Iterable[Principal]) -> list[str]:
    """A line for each fingerprint, spelled as Postfix spells it, sorted; disabled principals left out."""
    return sorted(
        f"{_postfix_fingerprint(fingerprint)} {_note(principal)}"
        for principal in principals
        if principal.kind == "certificate" and not principal.disabled
        for fingerprint in principal.fingerprints
    )


def networks(principals: Iterable[Principal]) -> list[str]:
    """A line for each network, the longest prefix first; disabled principals left out."""
    listed = [ip_network(p.name) for p in principals if p.kind == "network" and not p.disabled]
    listed.sort(key=lambda network: (network.version, -network.prefixlen, int(network.network_address)))
    return [f"{network} OK" for network in listed]


def format_table(name: str, lines: Iterable[str]) -> bytes:
    """The whole file. It holds no date, so that it changes only when an entry does."""
    head = f"# {name}: written by `submitward export postfix`. Changes made here are lost."
    return "".join(f"{line}\n" for line in (head, *lines)).encode()


def _postfix_fingerprint(fingerprint: str) -> str:
    digits = fingerprint.partition(":")[2].upper()
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


def _note(principal: Principal) -> str:
    """The value of an entry: Postfix asks for none, so a postmaster sees an address of the principal."""
    address = next(iter(principal.addresses), "listed")
    return address if address.isascii() and address.isprintable() and " " not in address else "listed"


def _tell(told: list[dict[str, object]], changed: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"files": told, "reload": changed}, indent=2))
        return
    for file in told:
        print(f"{file['file']}: {file['entries']} entries, {'changed' if file['changed'] else 'unchanged'}")
    if changed:
        print("run `postfix reload`: Postfix reads these tables when a process of it starts")


def _complain(text: str, status: int) -> int:
    print(text, file=sys.stderr)
    return status
