"""Which plan a principal has: what its entry names, else its group's, else its domain's, else `default`.

Knows the order and the words that say where a plan came from. Must not know what a plan holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from directory.address import parse_domain

DEFAULT = "default"


def normal_group(text: str) -> str:
    """A group's name, or its distinguished name, in the form in which they are compared: lower case, and no
    blanks around commas and equal signs (``cn=staff, ou=groups``). Raises ValueError."""
    parts = (
        "=".join(word.strip() for word in part.split("=", 1)) for part in text.strip().lower().split(",")
    )
    name = ",".join(parts)
    if not name:
        raise ValueError("a group has a name")
    return name


def names_of_group(text: str) -> tuple[str, ...]:
    """What a group goes by: the whole name and, of a distinguished one, the value that it begins with."""
    name = normal_group(text)
    _, equals, value = name.partition(",")[0].partition("=")
    return (name, value) if equals and value else (name,)


def names_of_groups(texts: Iterable[str]) -> frozenset[str]:
    """All that these groups go by."""
    return frozenset(name for text in texts for name in names_of_group(text))


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """Section `directory.plans`: the plan of a principal whose entry names none."""

    groups: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "parse_key": normal_group,
            "help": "of the members of a group (its name, or the whole DN in LDAP); of several groups the"
            " first that stands here",
        },
    )
    domains: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "parse_key": parse_domain,
            "help": "of those whose primary domain is this one, and who are in no such group",
        },
    )

    def choose(self, named: str, groups: Iterable[str], domain: str) -> tuple[str, str]:
        """The plan, and the words that say where it comes from. `named` is the entry's own, ``""`` if it
        names none; `domain` is the primary one."""
        if named:
            return named, "its entry"
        mine = names_of_groups(groups) if self.groups else ()
        for group, plan in self.groups.items():
            if group in mine:
                return plan, f"directory.plans.groups: {group}"
        plan = self.domains.get(domain, "")
        return (plan, f"directory.plans.domains: {domain}") if plan else (DEFAULT, "the default")
