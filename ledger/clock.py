"""What time it is for the SQLite ledger, the same for every process of a host.

Knows the host's two clocks and how a ledger's time follows them. Must not know what is timed.

The kernel's boot clock never jumps and is one for all processes; the file keeps what has to be added to it
(the shift) to get epoch seconds. The wall clock is followed while it is within 5 s of that. When it jumps
further (set by a day, say) the ledger goes on counting as before, so that nobody is unblocked or blocked by
it; a sidecar that starts, and a host that starts, take the wall clock as it is then.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

FOLLOWED = 5.0  # seconds: a wall clock that is further off has been set
_IGNORED = 0.05  # seconds that are not worth a write


def uptime() -> float:
    """Seconds since the host was started, suspension included; the same for every process."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Time:
    """What time it is for the ledger (epoch seconds), what a reader's wall clock has over that, and what the
    file is to remember: which boot, and the shift from its clock."""

    now: float
    skew: float = 0.0
    booted: str = ""
    shift: float = 0.0


class HostClock:
    """The clocks of this host. While `adopt` is set, `tell` takes the wall clock as it is."""

    def __init__(self, *, adopt: bool = False) -> None:
        self.adopt = adopt
        try:
            self.booted = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            self.booted = "unknown"

    def wall(self) -> float:
        """The wall clock, epoch seconds."""
        return time.time()

    def uptime(self) -> float:
        """See `uptime`."""
        return uptime()

    def tell(self, booted: str, shift: float) -> Time:
        """The time, given what the file remembers."""
        uptime, wall = self.uptime(), self.wall()
        skew = wall - (uptime + shift)
        fresh = self.adopt or booted != self.booted
        if fresh or _IGNORED < abs(skew) <= FOLLOWED:
            return Time(wall, 0.0, self.booted, wall - uptime)
        return Time(uptime + shift, skew if abs(skew) > FOLLOWED else 0.0, booted, shift)
