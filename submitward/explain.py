"""`submitward explain`: what policyd, or for a message the milter, would answer, and why; charges nothing.

Knows how a person names a principal and a request. Must not judge: policyd's own `plan`, `decide` and
`conclude` do, and the milter's for a message.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from ipaddress import ip_network
from typing import Any

from directory.identity import normal_fingerprint
from policyd.settings import Settings, load_settings
from policyd.wire import Request
from sidecar.settings import SettingsError
from submitward.explain_message import run_message
from submitward.explanation import Explanation, as_json, as_text, gather
from submitward.running import run_coroutine

HELP = "say what would be answered to a principal and an envelope sender, or a message, and why"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the subcommand."""
    parser.add_argument("principal", help="a login, login:NAME, certificate:FINGERPRINT or network:ADDRESS")
    parser.add_argument("sender", nargs="?", help="the envelope sender; '' or '<>' is the null sender")
    parser.add_argument(
        "--message",
        metavar="FILE",
        help="instead of a sender: the author check of this message, field by field; - is standard input",
    )
    parser.add_argument("--recipient", default="", help="the recipient, at RCPT")
    parser.add_argument("--state", choices=("RCPT", "DATA", "END-OF-MESSAGE"), default="DATA")
    parser.add_argument(
        "--recipients", type=int, default=1, metavar="N", help="recipients of the message; at RCPT, so far"
    )
    parser.add_argument("--size", type=int, default=0, metavar="BYTES", help="the size, declared or real")
    parser.add_argument("--client-address", default="", metavar="ADDRESS", help="where it comes from")
    parser.add_argument("--context", choices=("submission", "mx"), default="submission")
    parser.add_argument("--no-tls", action="store_true", help="as if the client had not used TLS")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Explain; returns 0 when it would pass, 1 when refused, 2 for usage or settings, 75 when unavailable."""
    if (options.sender is None) == (options.message is None):
        print("name either an envelope sender, or a message with --message FILE", file=sys.stderr)
        return 2
    try:
        settings = load_settings(options.settings)
        request = request_of(options)
        if options.message is not None:
            return run_message(options, settings, request)
    except (SettingsError, ValueError) as wrong:
        print(wrong, file=sys.stderr)
        return 2
    explanation = run_coroutine(lambda reactor: explain(settings, request, reactor=reactor))
    print(json.dumps(as_json(explanation)) if options.json else as_text(explanation))
    return explanation.exit_status


async def explain(settings: Settings, request: Request, *, reactor: Any) -> Explanation:
    """The explanation of one request, from the stores as they are now."""
    from sidecar.log import Log

    # What the stores have to say of themselves shows in the explanation, as what is unavailable.
    log = Log(io.StringIO(), program="explain")
    return await gather(settings, request, reactor=reactor, log=log, now=time.time())


def request_of(options: argparse.Namespace) -> Request:
    """The request that Postfix would make. Raises ValueError for a principal that cannot be."""
    login, fingerprint, client = "", "", options.client_address
    kind, colon, name = options.principal.partition(":")
    if not colon or kind == "login":
        login = name if colon else options.principal
    elif kind == "certificate":
        fingerprint = normal_fingerprint(name).partition(":")[2]
    elif kind == "network":
        client = client or str(ip_network(name, strict=False).network_address)
    else:
        raise ValueError(f"{options.principal!r}: a login, certificate:FINGERPRINT or network:ADDRESS")
    if not (login or fingerprint or client):
        raise ValueError("the principal is empty")
    if options.recipients < 0 or options.size < 0:
        raise ValueError("recipients and size are 0 or more")
    return Request(
        protocol_state=options.state,
        sender=(options.sender or "").removeprefix("<").removesuffix(">"),
        recipient=options.recipient,
        recipient_count=options.recipients,
        size=options.size,
        client_address=client,
        sasl_username=login,
        ccert_fingerprint=fingerprint,
        encryption_protocol="" if options.no_tls else "TLSv1.3",
        policy_context=options.context,
    )
