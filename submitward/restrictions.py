"""Postfix's restriction lists, as smtpd reads them (postconf(5), access(5), SMTPD_POLICY_README).

Knows how a list is split, which words permit, and how a policy service is named. Must not know whose service
it is.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

#: Restrictions that take the next word as their argument.
_WITH_ARGUMENT = (
    "check_",
    "reject_rbl_client",
    "reject_rhsbl_",
    "permit_dnswl_client",
    "permit_rhswl_client",
)
#: They let nobody relay who is not permitted before them.
GUARDING = frozenset({"reject", "defer", "reject_unauth_destination", "defer_unauth_destination"})


@dataclass(frozen=True, slots=True)
class Policy:
    """The argument of check_policy_service: where it is, its options, and the text that names the
    connection."""

    endpoint: str
    options: Mapping[str, str] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True, slots=True)
class Restriction:
    """One restriction with its argument, ``""`` if it takes none."""

    name: str
    argument: str = ""

    @property
    def permits(self) -> bool:
        """Whether it ends the list with a yes for whom it describes."""
        return self.name == "permit" or self.name.startswith("permit_")

    @property
    def may_permit(self) -> bool:
        """Whether a table's OK, or another policy service's, can end the list with a yes."""
        return self.name.startswith("check_")

    @property
    def policy(self) -> Policy | None:
        """The policy service that it asks, None for all other restrictions."""
        return parse_policy(self.argument) if self.name == "check_policy_service" else None

    def __str__(self) -> str:
        return f"{self.name} {self.argument}".strip()


def split(text: str) -> list[str]:
    """The words of a list: separated by blanks and commas, a group in braces being one word."""
    words, word, depth = [], "", 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth <= 0 and (character.isspace() or character == ","):
            words.append(word)
            word = ""
        else:
            word += character
    return [word for word in (*words, word) if word]


def parse(text: str, classes: Mapping[str, str] | None = None) -> tuple[Restriction, ...]:
    """The restrictions of a list; a restriction class (smtpd_restriction_classes) is followed one level."""
    found: list[Restriction] = []
    words = iter(split(text))
    for word in words:
        name = word.lower() if not word.startswith("{") else word
        if classes and word in classes:
            found.extend(parse(classes[word]))
        elif name.startswith(_WITH_ARGUMENT):
            found.append(Restriction(name, next(words, "")))
        else:
            found.append(Restriction(name))
    return tuple(found)


def parse_policy(text: str) -> Policy:
    """``inet:host:port``, ``unix:path`` or ``{ unix:path, timeout=10s, { default_action = 451 … } }``."""
    words = split(inside(text)) if text.startswith("{") else [text]
    return Policy(words[0] if words else "", dict(_options(words[1:])), text)


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        name, _, value = inside(word).partition("=")
        yield name.strip(), value.strip()


def inside(text: str) -> str:
    """The text within braces, or the text itself."""
    bare = text.strip()
    return bare[1:].removesuffix("}").strip() if bare.startswith("{") else bare


def locate(endpoint: str, queue_directory: str, *, chroot: bool) -> str:
    """Where an endpoint of smtpd's really is: ``unix:/absolute/path`` or ``host:port``.

    A UNIX path is relative to the queue directory; for a chrooted service an absolute one is below it too.
    """
    kind, _, rest = endpoint.partition(":")
    if kind == "unix" or endpoint.startswith("/") or ":" not in endpoint:
        path = rest if kind == "unix" else endpoint
        inner = path.lstrip("/") if chroot else path
        return f"unix:{posixpath.normpath(posixpath.join(queue_directory, inner))}"
    host_port = rest if kind == "inet" else endpoint
    return f"127.0.0.1:{host_port[10:]}" if host_port.startswith("localhost:") else host_port
