"""The bytes of the Dovecot auth client protocol, version 1, server side: lines in, lines out.

Knows framing, escaping, the commands' syntax and the peers' limits. Must not know what may come next (that is
`session`), nor what a response holds (that is `mechanisms`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

MAJOR = 1
MINOR = 4  # what we announce: empty responses told from absent ones (2), CANCELLED (4)
LINE_MAX = 16384  # octets before the LF that we read, as Dovecot does
SENT_MAX = 8000  # octets of a line that we write: Exim's buffer is 8192
ID_MAX = 2**32 - 1


class Broken(ValueError):
    """The peer broke the protocol; the connection cannot go on. The text never quotes it."""


class Unsendable(ValueError):
    """A value that the peers could not read (neither Postfix nor Exim unescapes). Never quotes it."""


@dataclass(frozen=True, slots=True)
class Version:
    """``VERSION``: the protocol that the client speaks."""

    major: int
    minor: int


@dataclass(frozen=True, slots=True)
class Cpid:
    """``CPID``: the client's process id. Not unique: clients on several hosts may share one."""

    pid: int


@dataclass(frozen=True, slots=True)
class Auth:
    """``AUTH``: a request. `parameters` are unescaped, the first of a name wins; `response` is base64 as it
    came, None when there was no ``resp``. Neither can be printed: a response holds the password."""

    id: int
    mechanism: str
    parameters: Mapping[bytes, bytes] = field(repr=False)
    response: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Cont:
    """``CONT``: the answer to a challenge, base64 as it came, perhaps empty. Cannot be printed."""

    id: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cancel:
    """``CANCEL``: the client no longer wants an answer."""

    id: int


Command = Version | Cpid | Auth | Cont | Cancel


class Reader:
    """Cuts a connection's bytes into commands. Holds at most one line and what `feed` was given last."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0

    @property
    def is_partial(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[Command]:
        """Take bytes; iterate over the commands that they complete. The iteration raises Broken in its place,
        after the commands before it; nothing may be fed after that."""
        self._buffer += data
        return self._commands()

    def _commands(self) -> Iterator[Command]:
        while (line := self._line()) is not None:
            yield parse(line)

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._scanned)
        if (end if end >= 0 else len(self._buffer)) > LINE_MAX:
            raise Broken(f"a line is longer than {LINE_MAX} octets")
        if end < 0:
            self._scanned = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._scanned = 0
        return line.removesuffix(b"\r")


def parse(line: bytes) -> Command:
    """The command in one line, its end removed. Raises Broken."""
    name, *fields = line.split(b"\t")
    parser = _PARSERS.get(name)
    if parser is None:
        raise Broken("unknown command")
    return parser(fields)


_DECIMAL = re.compile(rb"0|[1-9][0-9]{0,9}")


def _number(fields: list[bytes], index: int, what: str, *, least: int = 0) -> int:
    text = fields[index] if index < len(fields) else b""
    if not _DECIMAL.fullmatch(text) or not least <= int(text) <= ID_MAX:
        raise Broken(f"{what} is no number from {least} to {ID_MAX}")
    return int(text)


def _auth(fields: list[bytes]) -> Auth:
    id = _number(fields, 0, "the request id", least=1)
    if len(fields) < 2 or not fields[1]:
        raise Broken("AUTH without a mechanism")
    parameters: dict[bytes, bytes] = {}
    response = None
    for text in fields[2:]:
        if response is not None:  # a TAB that the remote user smuggled into its response would add parameters
            raise Broken("AUTH with something after resp=")
        name, _, value = text.partition(b"=")  # at the first "=": resp== is real
        if name == b"resp":
            response = value
        elif name:
            parameters.setdefault(name, unescape(value))
    if b"service" not in parameters and b"protocol" not in parameters:
        raise Broken("AUTH without service= or protocol=")
    return Auth(id, fields[1].decode("ascii", "backslashreplace").upper(), parameters, response)


def _cont(fields: list[bytes]) -> Cont:
    id = _number(fields, 0, "the request id", least=1)
    if len(fields) != 2:
        raise Broken("CONT without exactly one data field")
    return Cont(id, fields[1])


_PARSERS: dict[bytes, Callable[[list[bytes]], Command]] = {
    b"VERSION": lambda fields: Version(
        _number(fields, 0, "the major"), _number(fields, 1, "the minor version")
    ),
    b"CPID": lambda fields: Cpid(_number(fields, 0, "the process id", least=1)),
    b"AUTH": _auth,
    b"CONT": _cont,
    b"CANCEL": lambda fields: Cancel(_number(fields, 0, "the request id", least=1)),
}

_ESCAPED = {b"0": b"\0", b"1": b"\x01", b"t": b"\t", b"r": b"\r", b"n": b"\n"}
_ESCAPE = re.compile(rb"\x01(.?)", re.DOTALL)


def unescape(value: bytes) -> bytes:
    """What ``\\001`` escapes stand for (strescape.c); any other escaped octet is itself."""
    return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), value)


_UNSENDABLE = re.compile(r"[\0\x01\t\r\n]")


def _line(*fields: str) -> bytes:
    if any(_UNSENDABLE.search(text) for text in fields):
        raise Unsendable("a field holds NUL, \\001, TAB, CR or LF")
    try:
        line = "\t".join(fields).encode("utf-8")
    except UnicodeEncodeError:
        raise Unsendable("a field cannot be encoded as UTF-8") from None
    if len(line) >= SENT_MAX:
        raise Unsendable(f"the line has more than {SENT_MAX} octets")
    return line + b"\n"


def encode_version(minor: int = MINOR) -> bytes:
    """``VERSION``, always with its two numbers: smtpd crashes on one without a TAB."""
    return _line("VERSION", str(MAJOR), str(minor))


def encode_mech(name: str, flags: Iterable[str]) -> bytes:
    """``MECH``. A wrong flag changes what smtpd_sasl_security_options lets through."""
    if not name:
        raise Unsendable("a mechanism without a name")
    return _line("MECH", name, *flags)


def encode_done(pid: int, number: int, cookie: bytes) -> bytes:
    """``SPID``, ``CUID``, ``COOKIE`` and ``DONE``: our process id, the connection's number, 16 random octets.
    Never before the MECH lines: clients then take us for another kind of socket."""
    if len(cookie) != 16:
        raise Unsendable("a cookie has 16 octets")
    lines = (("SPID", str(pid)), ("CUID", str(number)), ("COOKIE", cookie.hex()), ("DONE",))
    return b"".join(_line(*fields) for fields in lines)


def encode_cont(id: int, base64: bytes) -> bytes:
    """``CONT``: a challenge, in base64, perhaps empty."""
    return _line("CONT", _id(id), base64.decode("ascii"))


def encode_ok(id: int, login: str) -> bytes:
    """``OK``. ``user=`` is mandatory: without it Postfix says 535 and Exim defers."""
    if not login:
        raise Unsendable("OK without a login")
    return _line("OK", _id(id), f"user={login}")


Code = Literal["", "authz_fail", "invalid_base64"]


def encode_fail(id: int, *, login: str = "", code: Code = "", reason: str) -> bytes:
    """``FAIL`` for good, 535 in Postfix; the remote user is shown `reason`. There is no code for a temporary
    failure here: `encode_temporary` is the only way to say one."""
    if code not in get_args(Code):
        raise Unsendable("no code of a permanent failure")
    if not reason:
        raise Unsendable("FAIL without a reason")
    fields = {"user": login, "code": code, "reason": reason}
    return _line("FAIL", _id(id), *(f"{name}={value}" for name, value in fields.items() if value))


def encode_temporary(id: int) -> bytes:
    """``FAIL`` for now, in the new and the old spelling, for clients that read it: not Postfix, not Exim."""
    reason = "Temporary authentication failure"
    return _line("FAIL", _id(id), "code=temp_fail", f"reason={reason}", "temp")


def encode_cancelled(id: int) -> bytes:
    """``CANCELLED``, for clients of minor 4 and later."""
    return _line("CANCELLED", _id(id))


def _id(id: int) -> str:
    if not 1 <= id <= ID_MAX:
        raise Unsendable(f"a request id is 1 to {ID_MAX}")
    return str(id)
