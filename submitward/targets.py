"""Targets: who a command is about, as the operator writes it and as the ledger names it.

Knows the five kinds of subject and their normal forms. Must not know what is done to them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from directory.address import parse_domain
from directory.identity import normal_fingerprint, normal_login
from directory.roll import parse_network

T = TypeVar("T")

FORMS = (
    "a login, login:NAME, certificate:FINGERPRINT, network:ADDRESS/PREFIX, domain:NAME or relay (everybody)"
)

_NORMAL = {
    "login": normal_login,
    "certificate": normal_fingerprint,
    "network": lambda text: str(parse_network(text)),
    "domain": parse_domain,
}


def parse_target(text: str) -> str:
    """The ledger's subject (``login:alice``) for a target; a bare word is a login. Raises ValueError."""
    if text == "relay":
        return text
    kind, colon, name = text.partition(":")
    if not colon:
        kind, name = "login", text
    normal = _NORMAL.get(kind)
    if normal is None:
        raise ValueError(f"{text!r} is no target: {FORMS} is")
    try:
        return f"{kind}:{normal(name)}"
    except ValueError as wrong:
        raise ValueError(f"{text!r} is no target: {wrong}") from None


def plain(text: str) -> str:
    """A reason or a contact text: one line that a sender's mail program can show. Raises ValueError."""
    if len(text) > 200 or not text.isprintable():
        raise ValueError("at most 200 characters, on one line and printable")
    return text


def argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """`parse` for argparse, which shows the words of an ArgumentTypeError only."""

    def checked(text: str) -> T:
        try:
            return parse(text)
        except ValueError as wrong:
            raise argparse.ArgumentTypeError(str(wrong)) from None

    return checked


def at_least_one(text: str) -> int:
    """A number of things to show. Raises ValueError."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 100_000:
        raise ValueError("a number from 1 to 100000")
    return int(text)
