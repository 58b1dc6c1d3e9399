"""The guard: who may ask the directory about a password, given what has failed lately.

Knows which failures count under which key, when they are too many, how long a refusal takes, and how many
wrong passwords of one login may reach the directory. Must not know where marks are kept, who asks, or what
time it is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network
from typing import NamedTuple

from directory.roll import parse_client
from ledger.marks import FLUSHES, Mark, Pair, Seen

FLUSH_KEPT = 300.0  # seconds
FLIGHT = 10.0  # seconds after which a password that was sent has surely been judged; AUTH waits 7
HELD = 10.0  # seconds that a ticket counts by itself: all that a process which dies on the way leaves behind
LONGEST = 6.0  # seconds until a refusal: the verdict is due within 7, and Postfix waits 10


@dataclass(frozen=True, slots=True)
class Rules:
    """The bounds; times in seconds, failures as different credentials within `window`.

    `binds` wrong passwords of a login reach the directory within `binds_window` (0: until it succeeds).
    """

    pair: int = 10
    network: int = 30
    login: int = 300
    window: float = 900.0
    binds: int = 4
    binds_window: float = 900.0
    known: float = 30 * 86400.0
    ipv4: int = 32
    ipv6: int = 64
    floor: float = 0.25
    delay: float = 4.0

    @property
    def kept(self) -> int:
        """A fifth of `binds`, and one at least: for networks where the login succeeded lately."""
        return max(1, math.ceil(self.binds / 5))


class Trace(NamedTuple):
    """What an attempt is known by: the login, the network it comes from (``""``: unknown), and a fingerprint
    of its credential, too short to learn a password from."""

    login: str
    network: str
    fingerprint: str


class Sight(NamedTuple):
    """What is known against an attempt: failures of the login from its network, of its network, of its login;
    whether the login succeeded there lately, and whether this credential has failed already."""

    pair: int = 0
    network: int = 0
    login: int = 0
    known: bool = False
    repeated: bool = False


class Case:
    """One attempt as the guard sees it: its traces (by the name that was typed, and by the principal's), and
    what was known against it."""

    def __init__(self, typed: Trace) -> None:
        self.traces = [typed]
        self.sight = Sight()
        self.ticket = ""
        self.taken = 0.0
        self.is_admitted = False
        self.era = 0  # of what was remembered when it began

    @property
    def trace(self) -> Trace:
        """The principal's, once it is known."""
        return self.traces[-1]


class Stop(NamedTuple):
    """The directory is not asked; `why` is for the log."""

    why: str


def network_of(rip: bytes, rules: Rules) -> str:
    """The network of a client address, as the guard counts; ``""`` for what is no address."""
    return _network(rip, rules.ipv4, rules.ipv6) if len(rip) <= 64 else ""


@lru_cache(maxsize=4096)
def _network(rip: bytes, ipv4: int, ipv6: int) -> str:
    address = parse_client(rip.decode("ascii", "replace"))
    if address is None:
        return ""
    return str(ip_network(f"{address}/{ipv4 if address.version == 4 else ipv6}", strict=False))


def fingerprint(key: bytes, login: str, password: bytes) -> str:
    """16 bits of a keyed BLAKE2b: enough to tell a repeated guess from another."""
    return hashlib.blake2b(login.encode() + b"\0" + password, key=key, digest_size=2).hexdigest()


def questions(trace: Trace) -> tuple[Pair, ...]:
    """What to look at for an attempt; `sight` reads the answers."""
    return (
        (_pair(trace), trace.fingerprint),
        (_network_key(trace), ""),
        (_login(trace), trace.fingerprint),
        (_known(trace), trace.network),
    )


def sight(seen: tuple[Seen, ...]) -> Sight:
    """What was seen for `questions`."""
    pair, network, login, known = seen
    return Sight(pair.count, network.count, login.count, known.holds, login.holds)


def judge(seen: Sight, rules: Rules) -> int | Stop:
    """How many wrong passwords may have reached the directory at most for this attempt to reach it too.

    Where the login succeeded lately only that number counts, so that nobody elsewhere locks its owner out. A
    credential that has failed already gets half: it must not use up what others need.
    """
    if not seen.known:
        if seen.pair >= rules.pair:
            return Stop("too many failures of this login from this network")
        if seen.network >= rules.network:
            return Stop("too many failures from this network")
        if seen.login >= rules.login:
            return Stop("too many failures of this login")
    most = rules.binds if seen.known else rules.binds - rules.kept
    return min(most, max(1, rules.binds // 2)) if seen.repeated else most


def bind(login: str, ticket: str, most: int) -> Mark:
    """The mark to note before a password reaches the directory."""
    return Mark(binds(login), ticket, HELD, most)


def spent(login: str, ticket: str, rules: Rules, *, surely: bool) -> Mark:
    """The mark of a password that reached the directory, and may be counted there a little later. What is not
    `surely` counted until a success (nobody has that login, or there was no answer) ends with the window."""
    window = rules.binds_window or (None if surely else rules.window)
    return Mark(binds(login), ticket, None if window is None else window + FLIGHT)


def ticket(taken: float, id: str) -> str:
    """The name of an attempt that is taken to the directory at `taken`, in epoch seconds."""
    return f"{taken:.3f} {id}"


def forgiven(tickets: Iterable[str], taken: float) -> tuple[str, ...]:
    """Those that the directory has forgotten by the success of one taken at `taken`. Of any that was under
    way at the same time nobody knows whether it was counted before that success or after it."""
    return tuple(name for name in tickets if float(name.partition(" ")[0]) <= taken - FLIGHT)


def binds(login: str) -> str:
    """The key of the passwords of `login` that have reached the directory."""
    return f"binds {login}"


def failure(traces: Sequence[Trace], rules: Rules) -> tuple[Mark, ...]:
    """The marks of a credential that is wrong; its network is blamed once, whatever the login was called."""
    marks = []
    for trace in traces:
        marks += [Mark(key, trace.fingerprint, rules.window) for key in (_pair(trace), _login(trace))]
    last = traces[-1]
    if last.network:
        marks.append(Mark(_network_key(last), f"{last.fingerprint} {last.login}", rules.window))
    return tuple(marks)


def success(traces: Iterable[Trace], rules: Rules) -> tuple[Mark, ...]:
    """The marks of a credential that is right: its network is known from now on."""
    return tuple(Mark(_known(trace), trace.network, rules.known) for trace in traces if trace.network)


def flush(login: str, id: str) -> Mark:
    """The mark that tells every process to forget what it remembers of a login; `id` names this flush."""
    return Mark(FLUSHES, f"{login} {id}", FLUSH_KEPT)


def forgotten(login: str) -> tuple[Pair, ...]:
    """What to drop so that the login may be asked about again, wherever it comes from."""
    return ((binds(login), ""), (f"login {login}", ""))


def delay(seen: Sight, rules: Rules) -> float:
    """Seconds that a refusal takes at least: they double with each failure of the login from its network, and
    with every fourth from its network."""
    count = max(seen.pair, seen.network // 4)
    return min(rules.delay, 0.25 * 2 ** min(count, 16)) if count else 0.0


def due(least: float, elapsed: float, rules: Rules) -> float:
    """Seconds from now until a refusal is told: `least` after the question, and at a multiple of `floor`, so
    that the time tells nothing of what was found. `elapsed` is what has passed."""
    total = max(least, elapsed)
    if rules.floor:
        total = math.ceil(total / rules.floor) * rules.floor
    return max(0.0, min(total, LONGEST) - elapsed)


def _pair(trace: Trace) -> str:
    return f"pair {trace.login} {trace.network}"


def _network_key(trace: Trace) -> str:
    return f"network {trace.network}"


def _login(trace: Trace) -> str:
    return f"login {trace.login}"


def _known(trace: Trace) -> str:
    return f"known {trace.login}"
