"""The life of a key: published, waiting, signing, retiring, retired; and when it may take its next step.

Knows what the DNS must show, and how long caches and mail on its way may need, before a step is safe. Must
not touch files, nor know how the DNS is asked. `now` is an argument: epoch seconds, as waits outlive reboots.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal

from submitward.dkim.published import fault_of
from submitward.dkim.record import BadRecord, format_record, owner_name, parse_record, zone_lines
from submitward.dns.ask import Answer, Ask, CannotKnow

#: published: its record is handed out · waiting: the DNS shows it, caches may not · signing: the tables lead
#: to it · retiring: another signs, and mail of this one may be on its way · retired: revoked, and removed.
Stage = Literal["published", "waiting", "signing", "retiring", "retired"]
Effect = Literal["", "sign", "remove"]
DAY = 86400.0
TTL_UNKNOWN = 86400  # seconds, for a record whose TTL nobody has seen
TTL_MAX = 7 * 86400  # seconds: no cache is to keep anything for longer (RFC 8767, 4), whatever a record says


@dataclass(frozen=True, slots=True)
class KeyState:
    """One key of a domain. `since`: when it came to this stage; `ttl`: the largest that was seen on the way
    to its record, or to its absence (seconds)."""

    selector: str
    path: str
    stage: Stage
    since: float
    ttl: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What a key may do now. `after` is its state then, `effect` what must be done before it is written down.

    `status` 0: it moves, or rests; 1: not yet; 75: the DNS cannot be asked.
    """

    after: KeyState
    text: str
    status: int = 0
    effect: Effect = ""


def take_step(key: KeyState, domain: str, public: str, keep: float, ask: Ask, now: float) -> Step:
    """The next step of `key`, or why it has to wait. `public` is its public half (base64), ``""`` where that
    is no longer needed; `keep` seconds: how long mail that it signed may be on its way."""
    key = replace(key, ttl=_kept(key.ttl))
    if now < key.since:  # the clock went back: what was waited for so far is not known
        key = replace(key, since=now)
    try:
        if key.stage == "published":
            return _published(key, domain, public, ask, now)
        if key.stage == "waiting":
            return _waiting(key, domain, public, ask, now)
        if key.stage == "retiring":
            return _retiring(key, domain, keep, ask, now)
    except CannotKnow as unknown:
        return Step(key, f"what the DNS shows cannot be known now, so nothing moves: {unknown}", 75)
    return Step(key, "signs" if key.stage == "signing" else "is retired")


def _kept(*seconds: int) -> int:
    """How long a cache may keep what was seen with these TTLs."""
    return min(max(seconds), TTL_MAX)


def _published(key: KeyState, domain: str, public: str, ask: Ask, now: float) -> Step:
    name = owner_name(key.selector, domain)
    answer = ask(name, "TXT")
    key = replace(key, ttl=_kept(key.ttl, answer.ttl, answer.negative))
    fault = fault_of(answer, public)
    if fault is not None:
        lines = zone_lines(name, format_record(public))
        return Step(key, f"the DNS does not show it yet: {fault.text}. Publish:\n{lines}", 1)
    ttl = _kept(key.ttl, ask(name, "SOA").negative)
    text = f"the DNS shows it; caches may know of it {moment(now + ttl)} at the latest"
    return Step(replace(key, stage="waiting", since=now, ttl=ttl), text)


def _waiting(key: KeyState, domain: str, public: str, ask: Ask, now: float) -> Step:
    name = owner_name(key.selector, domain)
    answer = ask(name, "TXT")
    fault = fault_of(answer, public)
    if fault is not None:
        back = replace(key, stage="published", since=now, ttl=_kept(key.ttl, answer.negative))
        lines = zone_lines(name, format_record(public))
        return Step(back, f"the DNS shows it no more: {fault.text}. Publish:\n{lines}", 1)
    key = replace(key, ttl=_kept(key.ttl, answer.ttl))
    if now < key.since + key.ttl:
        return Step(key, f"caches may not know of it yet: wait until {moment(key.since + key.ttl)}", 1)
    return Step(replace(key, stage="signing", since=now), "signs from now on", effect="sign")


def _retiring(key: KeyState, domain: str, keep: float, ask: Ask, now: float) -> Step:
    until = key.since + keep + (key.ttl or TTL_UNKNOWN)
    if now < until:
        text = f"mail that it signed may be on its way: leave its record until {moment(until)}"
        return Step(key, text, 1)
    name = owner_name(key.selector, domain)
    answer = ask(name, "TXT")
    if not answer.texts:
        return _retired(key, now, "its record is gone")
    if _is_revoked(answer):
        return _retired(key, now, "the DNS shows it revoked")
    return Step(key, f"its time is over. Publish in its place:\n{zone_lines(name, format_record(''))}", 1)


def _retired(key: KeyState, now: float, why: str) -> Step:
    text = f"{why}; the private key is removed"
    return Step(replace(key, stage="retired", since=now), text, effect="remove")


def _is_revoked(answer: Answer) -> bool:
    try:
        return len(answer.texts) == 1 and parse_record(answer.texts[0]).is_revoked
    except BadRecord:
        return False


def give_way(key: KeyState, domain: str, ask: Ask, now: float) -> KeyState:
    """A signing key whose place another has taken; the TTL of its record is asked for once more."""
    try:
        ttl = ask(owner_name(key.selector, domain), "TXT").ttl
    except CannotKnow:
        ttl = TTL_UNKNOWN
    seen = key.ttl or TTL_UNKNOWN  # an answer out of a cache tells less than the whole
    return replace(key, stage="retiring", since=now, ttl=_kept(seen, ttl))


def new_selector(now: float, taken: frozenset[str]) -> str:
    """A selector by date (UTC), ``s20261125``, with a letter when that is taken: none is ever used again."""
    plain = time.strftime("s%Y%m%d", time.gmtime(now))
    names = [plain, *(plain + letter for letter in "bcdefghijklmnopqrstuvwxyz")]
    free = next((name for name in names if name not in taken), None)
    if free is None:
        raise ValueError(
            f"all selectors of the day are taken, {plain} to {plain}z: choose one with --selector"
        )
    return free


def moment(at: float) -> str:
    """A moment in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(at))
