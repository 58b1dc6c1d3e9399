"""What receivers find about this relay: the names of its addresses, and of what it says in HELO.

Knows what is wrong with them and how it is mended. Must not know whose mail is relayed, nor how the DNS is
asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from submitward.dns import spf
from submitward.dns.ask import Ask, CannotKnow, reverse_name
from submitward.findings import Finding, error, good, unavailable, warning

WHOSE = "whoever gave you the address sets its name"


def addresses_of(ask: Ask, host: str) -> tuple[str, ...]:
    """The addresses of a host that the world can see. Raises CannotKnow."""
    found = (*ask(host, "A").texts, *ask(host, "AAAA").texts)
    return tuple(text for text in found if not _is_private(text))


def _is_private(address: str) -> bool:
    parsed = ip_address(address)
    return parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified


def judge_relay(ask: Ask, addresses: tuple[str, ...], helo: str) -> Iterator[Finding]:
    """The relay's own names, once for all domains."""
    where = f"relay {helo}"
    if not addresses:
        text = f"{helo} has no address, so it is not known where mail leaves from, and SPF cannot be judged"
        yield error(where, text, "set dns.addresses, or dns.helo, or use --address", "relay_unknown")
        return
    for address in addresses:
        try:
            yield from _judge_address(ask, address)
        except CannotKnow as unknown:
            yield unavailable(f"relay {address}", f"its name cannot be known now: {unknown}", "ask again")
    try:
        yield from _judge_helo(ask, where, addresses, helo)
    except CannotKnow as unknown:
        yield unavailable(where, f"cannot be known now: {unknown}", "ask again")


def _judge_address(ask: Ask, address: str) -> Iterator[Finding]:
    where, pointer = f"relay {address}", reverse_name(address)
    names = ask(pointer, "PTR").texts
    if not names:
        yield error(where, "it has no name (PTR), and many refuse mail from such", WHOSE, "no_ptr")
        return
    back = [name for name in names if address in addresses_of(ask, name) or address in _all(ask, name)]
    if not back:
        text = f"its name {names[0]} does not lead back to it"
        yield error(where, text, f"publish {names[0]} with {address}, or have the name changed", "ptr_lost")
    else:
        yield good(where, f"its name is {back[0]}, which leads back to it")


def _all(ask: Ask, host: str) -> tuple[str, ...]:
    return (*ask(host, "A").texts, *ask(host, "AAAA").texts)


def _judge_helo(ask: Ask, where: str, addresses: tuple[str, ...], helo: str) -> Iterator[Finding]:
    known = _all(ask, helo)
    if "." not in helo or not known:
        text = "what we say in HELO is no name with an address"
        mend = "set smtp_helo_name in main.cf to one that has, and dns.helo to the same"
        yield error(where, text, mend, "helo_lost")
        return
    missing = sorted(set(known) - set(addresses))
    if missing:
        text = f"it has the address {', '.join(missing)} too, and mail may leave from there"
        yield warning(
            where, text, "add it to dns.addresses and to SPF, or set smtp_bind_address", "more_addresses"
        )
    for address in addresses:
        result = spf.check_host(ask, address, helo, f"postmaster@{helo}", helo)
        if result.verdict == "none":
            text = "it has no SPF record of its own, by which bounces (<>) are judged"
            yield warning(where, text, f'publish at {helo} as TXT: "v=spf1 a -all"', "helo_spf")
            return
        if result.verdict != "pass":
            text = f"bounces (<>) from {address} do not pass SPF: {result.verdict} {result.by or result.why}"
            yield error(where, text, f'publish at {helo} as TXT: "v=spf1 a -all"', "helo_spf")
            return
    yield good(where, "HELO has an address and passes SPF")
