"""Ending: what SIGTERM and SIGINT mean before there is anything to end.

Knows how to leave at once while nothing is open, and how to let the signals wait while sockets are being
opened. Must not know what runs afterwards, and imports next to nothing: a door calls it before it does.
"""

from __future__ import annotations

import os
import signal

#: The signals that end a process. A supervisor starts its children with them blocked, so that an early one is
#: late and neither lost nor taken for a crash.
SIGNALS = frozenset((signal.SIGTERM, signal.SIGINT))


def leave_at_once() -> None:
    """From now on they end this process with status 0. To be called first thing, before the long imports."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))
    resume()


def wait() -> None:
    """Let them wait until `resume`: to be called before sockets are opened, whose files must go again."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def resume() -> None:
    """Let them come, also those that have waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
