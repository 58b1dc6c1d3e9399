"""Runs one coroutine in a reactor of its own, for subcommands that ask the directory or the ledger.

Knows how the reactor is installed and stopped. Must not know what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def run_coroutine(make: Callable[[Any], Coroutine[Deferred[Any], Any, T]]) -> T:
    """Install the asyncio reactor, run `make(reactor)` in it, and return what it returns or raise what it
    raises. Once per process."""
    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # type: ignore[no-untyped-call]
    from twisted.internet import reactor as installed

    reactor: Any = installed
    outcome: list[T | Failure] = []

    def begin() -> None:
        done = Deferred.fromCoroutine(make(reactor))
        done.addBoth(outcome.append)
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if not outcome:
        raise KeyboardInterrupt
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
        raise AssertionError
    return result
