"""The log: events with a level, written to a stream that may fail without harm.

Knows levels, the two formats by name, and what may not be logged. Must not know what any event means.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TextIO

from sidecar.lines import PRIORITIES, json_line, text_line

Level = Literal["debug", "info", "notice", "warning", "error"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_REFUSED = frozenset({"password", "passwords", "credential", "credentials", "resp", "secret", "secrets"})
_NAMES: set[str] = set()  # field names seen to be right


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The section `log`."""

    format: Literal["text", "json"] = field(
        default="text", metadata={"help": "`text` is one line of key=value, `json` one object a line"}
    )
    level: Level = field(default="info", metadata={"help": "the least that is written"})


class Log:
    """Writes events to a stream. `lost` counts the lines that could not be written; that harms nothing."""

    def __init__(
        self, stream: TextIO, *, program: str, format: Literal["text", "json"] = "text", level: Level = "info"
    ) -> None:
        self._stream = stream
        self._program = program
        self._json = format == "json"
        self._least = PRIORITIES[level]
        self.lost = 0

    def wants(self, level: Level) -> bool:
        """Whether an event of this level would be written."""
        return PRIORITIES[level] <= self._least

    def write(self, level: Level, event: str, **fields: object) -> None:
        """Write one event. None and "" are left out; a field named like a secret is a TypeError."""
        for name in fields:
            if name not in _NAMES:
                _learn(name)
        if PRIORITIES[level] > self._least:
            return
        if self._json:
            line = json_line(_stamp(time.time()), level, self._program, event, fields)
        else:
            line = text_line(level, self._program, event, fields)
        try:
            self._put(line + "\n")
        except (OSError, ValueError):  # a full disk, a closed pipe: the verdict goes out all the same
            self.lost += 1

    def _put(self, line: str) -> None:
        try:
            self._stream.write(line)
        except UnicodeEncodeError:
            self._stream.write(line.encode("ascii", "backslashreplace").decode("ascii"))
        self._stream.flush()

    def debug(self, event: str, **fields: object) -> None:
        """Write for whoever looks for a fault."""
        self.write("debug", event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Write what is normal."""
        self.write("info", event, **fields)

    def notice(self, event: str, **fields: object) -> None:
        """Write what is normal and seldom: start, reload, stop."""
        self.write("notice", event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Write what somebody should look at."""
        self.write("warning", event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Write what somebody must mend."""
        self.write("error", event, **fields)


def _learn(name: str) -> None:
    if name in _REFUSED:
        raise TypeError(f"a log field named {name!r} would print a secret")
    if not _NAME.fullmatch(name):
        raise TypeError(f"{name!r} is no name for a log field")
    _NAMES.add(name)


def _stamp(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"


def capture_twisted(log: Log) -> Callable[[], None]:
    """Send the warnings and failures of Twisted, asyncio and the interpreter through `log`, one line each.

    Returns what undoes it.
    """
    from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogBeginner, globalLogPublisher
    from zope.interface import provider

    levels = {LogLevel.warn: "warning", LogLevel.error: "error", LogLevel.critical: "error"}

    @provider(ILogObserver)
    def observe(event: dict[str, Any]) -> None:
        level: Any = levels.get(event.get("log_level"))
        if level is None:
            return
        failure = event.get("log_failure")
        trace = failure.getTraceback() if failure is not None else None
        log.write(
            level, "twisted", text=formatEvent(event), namespace=event.get("log_namespace"), traceback=trace
        )

    globalLogBeginner.beginLoggingTo([observe], discardBuffer=True, redirectStandardIO=False)
    handler = _Handler(log)
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    sys.excepthook = lambda kind, value, trace: _crash(log, value)
    sys.unraisablehook = lambda unraisable: _crash(log, unraisable.exc_value)
    threading.excepthook = lambda arguments: _crash(log, arguments.exc_value)

    def undo() -> None:
        globalLogPublisher.removeObserver(observe)
        logging.getLogger().removeHandler(handler)
        logging.captureWarnings(False)
        sys.excepthook, sys.unraisablehook, threading.excepthook = hooks

    return undo


class _Handler(logging.Handler):
    """The standard library's logging (asyncio's, warnings'), one line a record."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else None
        self._log.write(level, "python", text=record.getMessage(), namespace=record.name, traceback=trace)


def _crash(log: Log, error: BaseException | None) -> None:
    trace = None if error is None else "".join(traceback.format_exception(error))
    log.error("crash", traceback=trace)
