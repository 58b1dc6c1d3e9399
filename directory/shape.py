"""The shape of a directory: which filters find what, and which attributes hold it. Presets are such shapes.

Knows the kinds of filter with the places they may use, the roles that attributes play, and the tests of an
account's state. Must not know LDAP's messages, nor what an entry comes to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from directory.filters import check_filter

#: kind of filter → the places that it may use
FILTERS: dict[str, frozenset[str]] = {
    "user": frozenset({"login", "local", "domain"}),
    "users": frozenset(),
    "groups": frozenset({"dn", "login", "groups"}),
    "delegates": frozenset({"dn", "login"}),
    "submitter": frozenset({"dn", "login", "group"}),
    "hosts": frozenset(),
    "domain_aliases": frozenset(),
}

#: role → what an attribute in this role holds
ROLES: dict[str, str] = {
    "login": "the login, as it goes to Postfix",
    "mailboxes": "addresses, the main ones",
    "aliases": "more addresses; one without @ stands at the domains of the mailboxes",
    "proxies": "addresses as SMTP:main and smtp:alias (Exchange); other prefixes are left out",
    "domains": "domains to send from: each listed address of it, or any (`example.org any`)",
    "plan": "the plan's name",
    "groups": "groups that it is in: for directory.plans.groups and {groups}; asked for when one needs them",
    "null_sender": "TRUE: may send with the null sender",
    "terms": "which terms were accepted: a version or a date",
    "networks": "networks or addresses that the login may come from; without any it may come from everywhere",
    "network": "a network or address of a host",
    "fingerprint": "a fingerprint of a client certificate or its public key",
    "alias_domain": "a domain that stands for another",
    "alias_target": "the domain that it stands for",
}

#: Roles that no person's entry plays a part in.
_OF_HOSTS = frozenset({"network", "fingerprint", "alias_domain", "alias_target"})

Status = Literal["disabled", "locked", "expired", "password_expired"]
_FILETIME_NEVER = (0, 0x7FFFFFFFFFFFFFFF)
_FILETIME_1970 = 116444736000000000  # 100 ns since 1601


@dataclass(frozen=True, slots=True)
class StatusTest:
    """One test of an account: when it holds, the account is what `state` says.

    Exactly one of `equals` (text, case ignored), `bit` (of a number), `past` and `future` (the form of a
    time: ``generalized``, ``filetime`` or ``days`` since 1970) is set.
    """

    state: Status = field(metadata={"help": "what the account is when the test holds"})
    attribute: str = field(metadata={"help": "the attribute that is looked at"})
    equals: str = field(default="", metadata={"help": "it has this value"})
    bit: int = field(default=0, metadata={"help": "its number has this bit"})
    past: Literal["", "generalized", "filetime", "days"] = field(
        default="", metadata={"help": "it is a time that has passed"}
    )
    future: Literal["", "generalized", "filetime", "days"] = field(
        default="", metadata={"help": "it is a time that has not come"}
    )

    def __post_init__(self) -> None:
        if sum(map(bool, (self.equals, self.bit, self.past, self.future))) != 1:
            raise ValueError("one of equals, bit, past and future says when the test holds")

    def holds(self, value: str, now: float) -> bool:
        """Whether the test holds for one value; `now` in seconds since 1970. Raises ValueError."""
        if self.equals:
            return value.lower() == self.equals.lower()
        if self.bit:
            return bool(int(value) & self.bit)
        time = _seconds(value, self.past or self.future)
        if time is None:
            return False
        return time <= now if self.past else time > now


def _seconds(value: str, form: str) -> float | None:
    """A time in seconds since 1970, None for never. Raises ValueError."""
    if form == "generalized":
        text = value.removesuffix("Z").partition(".")[0].partition(",")[0]
        if not value.endswith("Z") or not text.isdigit():
            raise ValueError(f"{value!r} is no time in UTC (RFC 4517, 3.3.13)")
        layout = {14: "%Y%m%d%H%M%S", 12: "%Y%m%d%H%M", 10: "%Y%m%d%H"}.get(len(text), "")
        return datetime.strptime(text, layout).replace(tzinfo=UTC).timestamp()
    number = int(value)
    if form == "filetime":
        return None if number in _FILETIME_NEVER else (number - _FILETIME_1970) / 10_000_000
    return None if number < 0 else number * 86400.0


def parse_kind(text: str) -> str:
    """A kind of filter. Raises ValueError."""
    if text not in FILTERS:
        raise ValueError(f"{text} is no filter; known: {', '.join(FILTERS)}")
    return text


def parse_role(text: str) -> str:
    """A role of attributes. Raises ValueError."""
    if text not in ROLES:
        raise ValueError(f"{text} is no role; known: {', '.join(ROLES)}")
    return text


@dataclass(frozen=True, slots=True)
class Shape:
    """Filters by kind, attributes by role, tests of state, and where the filter `submitter` is applied."""

    filters: dict[str, str] = field(default_factory=dict, metadata={"parse_key": parse_kind})
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict, metadata={"parse_key": parse_role})
    status: tuple[StatusTest, ...] = ()
    submitter_at: Literal["user", "group"] = "user"

    def __post_init__(self) -> None:
        check_filters(self.filters)

    def names(self, *roles: str) -> tuple[str, ...]:
        """The attributes that play these roles, in order."""
        return tuple(dict.fromkeys(name for role in roles for name in self.attributes.get(role, ())))

    def of_people(self, without: Collection[str] = ()) -> tuple[str, ...]:
        """The attributes that may be asked for of a person, but those of the roles `without`."""
        roles = (role for role in self.attributes if role not in _OF_HOSTS and role not in without)
        tested = (test.attribute for test in self.status)
        return tuple(dict.fromkeys((*self.names(*roles), *tested)))

    @property
    def wanted(self) -> tuple[str, ...]:
        """All attributes that may be asked for."""
        tested = (test.attribute for test in self.status)
        return tuple(dict.fromkeys((*self.names(*self.attributes), *tested)))

    def without(self, role: str) -> Shape:
        """The same shape with nothing in this role."""
        return replace(self, attributes={r: names for r, names in self.attributes.items() if r != role})


def check_filters(filters: Mapping[str, str]) -> None:
    """Raise ValueError for a filter that cannot be sent. An empty one is off."""
    for kind, text in filters.items():
        if text:
            try:
                check_filter(text, FILTERS[kind])
            except ValueError as wrong:
                raise ValueError(f"the filter {kind} {wrong}") from None


def merge(preset: Shape, filters: Mapping[str, str], attributes: Mapping[str, tuple[str, ...]]) -> Shape:
    """The preset with these filters and attributes in place of its own."""
    return Shape(
        {**preset.filters, **filters},
        {**preset.attributes, **attributes},
        preset.status,
        preset.submitter_at,
    )
