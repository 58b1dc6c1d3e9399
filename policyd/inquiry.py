"""What one request needs to be known before it can be judged.

Knows which attributes name a principal and in which order they count. Must not know where answers come from,
nor what follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address, ip_network

from directory.identity import (
    LOGIN_MAX,
    BadLogin,
    Certificate,
    Network,
    Question,
    normal_fingerprint,
    parse_login,
)
from policyd.facts import Context, Inquiry, State
from policyd.wire import Request

#: No envelope sender is known yet, or none will be: asking us there is of no use (SMTPD_POLICY_README).
TOO_EARLY = frozenset({"CONNECT", "HELO", "EHLO", "VRFY", "ETRN"})
_STATES: Mapping[str, State] = {
    "RCPT": "RCPT",
    "DATA": "DATA",
    "BDAT": "DATA",
    "END-OF-MESSAGE": "END-OF-MESSAGE",
}
_CONTEXTS: Mapping[str, Context] = {"submission": "submission", "mx": "mx"}


def plan(request: Request, context: Context, connection: int = 0) -> Inquiry:
    """What must be known to judge `request`; `context` is the listener's, which ``policy_context`` overrides.

    A protocol state that is not known is judged like MAIL: never charged, and never let through unjudged.
    """
    context = _CONTEXTS.get(request.policy_context, context)
    if request.protocol_state in TOO_EARLY:
        return Inquiry("", context, (), connection)
    state = _STATES.get(request.protocol_state, "MAIL")
    return Inquiry(state, context, _questions(request), connection)


def _questions(request: Request) -> tuple[Question, ...]:
    """The login alone when there is one: an unknown login must not turn into a listed host."""
    if request.sasl_username:
        return _login(request.sasl_username) if len(request.sasl_username) <= 2 * LOGIN_MAX else ()
    found: list[Question] = []
    presented = fingerprints(request)
    if presented:
        found.append(Certificate(presented))
    if networks(request.client_address):
        found.append(Network(request.client_address))
    return tuple(found)


@lru_cache(maxsize=1024)
def _login(sasl_username: str) -> tuple[Question, ...]:
    try:
        return (parse_login(sasl_username),)
    except BadLogin:
        return ()


def fingerprints(request: Request) -> tuple[str, ...]:
    """The fingerprints of the certificate that the client presents, in normal form; listed or not."""
    normal = []
    for text in (request.ccert_fingerprint, request.ccert_pubkey_fingerprint):
        try:
            normal += [normal_fingerprint(text)] if text else []
        except ValueError:
            continue
    return tuple(normal)


def networks(client_address: str) -> tuple[str, ...]:
    """The ledger's subjects of a client address: itself and every network that holds it, the smallest first;
    none when it is no address."""
    return _networks(client_address) if len(client_address) <= 64 else ()


@lru_cache(maxsize=1024)
def _networks(client_address: str) -> tuple[str, ...]:
    try:
        host = ip_address(client_address.partition("%")[0])
    except ValueError:
        return ()
    host = getattr(host, "ipv4_mapped", None) or host
    lengths = range(host.max_prefixlen, -1, -1)
    return tuple(f"network:{ip_network((host, length), strict=False)}" for length in lengths)
