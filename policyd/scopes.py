"""Scopes: everybody whose limits a message counts for, and why each has the limits that it has.

Knows the order in which a plan is chosen, and what grants make of it. Must not know how anything is counted,
nor what follows when a limit is used up.

A message counts for its principal; for the principal's domain, whoever it is that is at home there; for the
client's network, if the settings or a grant name one; and for the whole relay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from directory.address import parse_domain
from directory.identity import Principal
from directory.roll import parse_network
from ledger.charges import Held
from ledger.grants import Grant, Grants, granted
from ledger.limits import Limit

DEFAULT: Final = "default"
NO_GRANTS: Final = Grants()
_BARE: Final = len("network:")


def _domain(text: str) -> str:
    return text if text == DEFAULT else parse_domain(text)


def _network(text: str) -> str:
    return text if text == DEFAULT else str(parse_network(text))


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """Section `limits`: plans of what many share."""

    domains: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "parse_key": _domain,
            "help": "the plan of a domain with its aliases, for all together who are at home there;"
            " `default` is that of every other domain",
        },
    )
    networks: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "parse_key": _network,
            "help": "the plan of a client network, for all together who send from it, logged in or not; the"
            " longest prefix counts; `default` is that of every other IPv4 address or IPv6 /64",
        },
    )
    relay: str = field(default="", metadata={"help": "the plan of all senders together"})


class Scope(NamedTuple):
    """One subject that a message counts for. `limits` is None when the settings have no such `plan`;
    `plan_from` says where it comes from; `exempt` counts and refuses nothing."""

    subject: str
    plan: str
    plan_from: str
    limits: tuple[Limit, ...] | None
    exempt: bool = False
    grants: tuple[Grant, ...] = ()


class Basis(NamedTuple):
    """What plans are chosen by: the settings `plans` and `limits`, and the grants."""

    plans: Mapping[str, tuple[Limit, ...]]
    shared: SharedLimits
    grants: Grants = NO_GRANTS


def scopes_of(principal: Principal, networks: tuple[str, ...], basis: Basis, now: float) -> tuple[Scope, ...]:
    """Every scope of what `principal` sends, its own first. `networks` are the subjects of all networks that
    hold the client's address, the smallest first."""
    own = _scope(principal.subject, principal.plan, principal.plan_from, basis, now)
    shared, grants = basis.shared, basis.grants
    if not (grants or shared.domains or shared.networks or shared.relay):
        return (own,)
    found = [own]
    if principal.domain:
        found.append(scope_of(f"domain:{principal.domain}", basis, now))
    found += [scope_of(subject, basis, now) for subject in _networks(networks, basis)]
    found.append(scope_of("relay", basis, now))
    return (own, *(scope for scope in found[1:] if scope.limits is None or scope.limits))


def scope_of(subject: str, basis: Basis, now: float) -> Scope:
    """The scope of a domain, a network or the relay; without a plan it has what is granted, else nothing."""
    kind, _, name = subject.partition(":")
    shared = basis.shared
    if kind == "relay":
        return _scope(subject, shared.relay, "limits.relay", basis, now)
    listed = shared.domains if kind == "domain" else shared.networks
    if name in listed:
        return _scope(subject, listed[name], f"limits.{kind}s: {name}", basis, now)
    plan = listed.get(DEFAULT, "") if kind == "domain" or _is_single(subject) else ""
    return _scope(subject, plan, f"limits.{kind}s: {DEFAULT}", basis, now)


def _scope(subject: str, plan: str, plan_from: str, basis: Basis, now: float) -> Scope:
    limits = basis.plans.get(plan) if plan else ()
    grants = basis.grants.of(subject, now) if basis.grants else ()
    if not grants:
        return Scope(subject, plan, plan_from if plan else "no plan", limits)
    exempt = any(grant.terms.kind == "exempt" for grant in grants)
    limits = None if limits is None else granted(limits, grants)
    return Scope(subject, plan, plan_from if plan else "no plan", limits, exempt, grants)


def _networks(holding: tuple[str, ...], basis: Basis) -> list[str]:
    """The networks that a message counts for: the smallest that the settings list, else the address by itself
    where there is a default; and each that something is granted to."""
    listed, named = basis.shared.networks, basis.grants.networks
    if not (listed or named):
        return []
    chosen = next((subject for subject in holding if subject[_BARE:] in listed), "")
    if not chosen and DEFAULT in listed:
        chosen = next(filter(_is_single, holding), "")
    others = [subject for subject in holding if subject in named and subject != chosen]
    return [chosen, *others] if chosen else others


def _is_single(network: str) -> bool:
    """Whether `limits.networks.default` counts for it: an IPv4 address, or what one IPv6 subscriber has."""
    return network.endswith("/64" if ":" in network[_BARE:] else "/32")


def held_of(scopes: tuple[Scope, ...], *, enforce: bool) -> tuple[Held, ...]:
    """What the ledger is to hold: every limit with a window, each once."""
    held = [
        (scope.subject, limit, enforce and not scope.exempt)
        for scope in scopes
        for limit in scope.limits or ()
        if limit.window
    ]
    return tuple(dict.fromkeys(held)) if len(scopes) > 1 else tuple(held)
