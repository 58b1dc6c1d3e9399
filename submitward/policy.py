"""`submitward policy ask`: one policy request, to a running policyd or to its judgement.

Knows how Postfix asks. Must not know how is judged.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import sys
from pathlib import Path

from policyd.settings import Settings, load_settings
from policyd.wire import ProtocolError, encode_request, parse, parse_answer
from sidecar.endpoints import parse_address, split_host_port
from sidecar.settings import SettingsError
from submitward.explain import explain
from submitward.running import run_coroutine

HELP = "ask a policy question as Postfix does, and print the answer"
TIMEOUT = 10.0  # seconds, as Postfix is told to wait


def arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the subcommand."""
    commands = parser.add_subparsers(dest="policy_command", metavar="COMMAND", required=True)
    ask = commands.add_parser("ask", help=HELP, description=HELP)
    ask.add_argument(
        "attributes",
        nargs="+",
        metavar="FILE|-|NAME=VALUE",
        help="a file with name=value lines (- is standard input), and attributes that override it",
    )
    where = ask.add_mutually_exclusive_group()
    where.add_argument("--socket", metavar="ADDRESS", help="unix:/path or 127.0.0.1:port; default: settings")
    where.add_argument("--in-process", action="store_true", help="judge here; charges nothing")
    ask.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Ask; returns 0 for DUNNO, 1 for a refusal, 2 for usage or settings, 75 for "not now" or no answer."""
    try:
        attributes = attributes_of(options.attributes)
    except (OSError, ValueError) as wrong:
        print(f"submitward policy ask: {wrong}", file=sys.stderr)
        return 2
    try:
        answer = _ask(options, attributes)
    except (SettingsError, ValueError, ProtocolError) as wrong:
        print(wrong, file=sys.stderr)
        return 2
    except OSError as trouble:
        print(f"no answer: {trouble}", file=sys.stderr)
        return 75
    print(json.dumps({"action": answer}) if options.json else answer)
    return status_of(answer)


def status_of(answer: str) -> int:
    """The exit status that an answer means."""
    if answer == "DUNNO":
        return 0
    code, _, rest = answer.partition(" ")
    return 75 if code == "DEFER_IF_PERMIT" or rest.startswith("4.3.0") else 1


def attributes_of(words: list[str]) -> dict[str, str]:
    """The request: defaults, a file's lines over them, arguments over both. Raises ValueError and OSError."""
    attributes = {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "protocol_name": "ESMTP",
        "client_address": "127.0.0.1",
        "encryption_protocol": "TLSv1.3",
        "instance": f"ask.{secrets.token_hex(8)}",
    }
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            attributes[name] = value
            continue
        text = sys.stdin.read() if word == "-" else Path(word).read_text(encoding="utf-8")
        for line in filter(None, text.split("\n")):
            name, equals, value = line.partition("=")
            if not equals:
                raise ValueError(f"{word}: {line!r} is not name=value")
            attributes[name] = value
    return attributes


def _ask(options: argparse.Namespace, attributes: dict[str, str]) -> str:
    if options.in_process:
        settings = load_settings(options.settings)
        request = parse(encode_request(attributes).decode("utf-8", "surrogateescape").removesuffix("\n\n"))
        return run_coroutine(lambda reactor: explain(settings, request, reactor=reactor)).answer
    address = parse_address(options.socket) if options.socket else _listener(load_settings(options.settings))
    return ask(address, encode_request(attributes))


def _listener(settings: Settings) -> str:
    if not settings.listen.policy:
        raise ValueError("listen.policy names no listener; say --socket unix:/path")
    return settings.listen.policy[0].address


def ask(address: str, request: bytes) -> str:
    """The action that the policyd at `address` answers. Raises OSError and ProtocolError."""
    unix = address.startswith("unix:")
    with socket.socket(socket.AF_UNIX if unix else _family(address)) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(address[5:] if unix else _inet(address))
        connection.sendall(request)
        heard = b""
        while (answer := parse_answer(heard)) is None:
            more = connection.recv(65536)
            if not more:
                raise ConnectionError("the server hung up; its log says why")
            heard += more
        return answer


def _inet(address: str) -> tuple[str, int]:
    host, port = split_host_port(address)
    return str(host), port


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if split_host_port(address)[0].version == 6 else socket.AF_INET
