"""The settings section `dns`: whom `submitward dkim` and `submitward dns` ask, and where mail leaves from.

Knows names and defaults. Must not ask anybody. The sidecars never ask the DNS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from sidecar.settings import duration


def parse_address(text: str) -> str:
    """An address in its normal form. Raises ValueError."""
    return str(ip_address(text))


def split_server(text: str) -> tuple[str, int]:
    """Address and port of ``192.0.2.53``, ``192.0.2.53:5353``, ``2001:db8::53`` or ``[2001:db8::53]:5353``.
    Raises ValueError."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, port = text[1:].partition("]:")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        number = int(port)
        ip_address(host)
    except ValueError:
        raise ValueError(f"{text!r} is no resolver: write 192.0.2.53, or [2001:db8::53]:5353") from None
    if not 0 < number < 65536:
        raise ValueError(f"{text!r} has a port that there is not")
    return host, number


def parse_server(text: str) -> str:
    """A resolver as it stands, when `split_server` can read it. Raises ValueError."""
    split_server(text)
    return text


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """The section `dns`."""

    resolvers: tuple[str, ...] = field(
        default=(),
        metadata={
            "parse": parse_server,
            "help": "name servers that `dkim` and `dns check` ask, `192.0.2.53` or `127.0.0.1:5353`;"
            " none: those of resolv.conf",
        },
    )
    timeout: float = field(
        default=5.0, metadata={"parse": duration, "default": "`5 s`", "help": "for the answer to a question"}
    )
    addresses: tuple[str, ...] = field(
        default=(),
        metadata={
            "parse": parse_address,
            "help": "addresses from which mail leaves, as receivers see them; none: those of `dns.helo`",
        },
    )
    helo: str = field(default="", metadata={"default": "`mta`", "help": "the name that Postfix says in HELO"})
