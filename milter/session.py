"""One connection of the MTA: which step may follow which, what is remembered for how long, who gets an
answer.

Knows stages, macros and the life of a message. Must not know what makes a message right, nor sockets or time.
Each message is judged alone: everything known of one ends with MAIL, ABORT or the answer at end of message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from milter import wire
from milter.header import Header
from milter.lines import Lines
from milter.wire import Options, Packet, Violation

#: Steps that tell us nothing, and headers without a round trip each. MAIL is answered on purpose: Postfix
#: then notices at MAIL that a milter is gone, before anything was charged for the message.
PROTOCOL = (
    wire.NOCONNECT
    | wire.NOHELO
    | wire.NORCPT
    | wire.NODATA
    | wire.NOUNKNOWN
    | wire.NOBODY
    | wire.NR_HDR
    | wire.HDR_LEADSPC
)
#: The same when the body is looked at: it comes without a round trip for each chunk.
PROTOCOL_WITH_BODY = (PROTOCOL & ~wire.NOBODY) | wire.NR_BODY
#: What we want to know at MAIL and with the headers. Postfix repeats the second list with each header: keep
#: it short.
SYMBOLS: Mapping[int, bytes] = {
    wire.SYMBOLS_CONNECT: b"j",
    wire.SYMBOLS_MAIL: b"{auth_authen} {client_addr} {mail_addr}",
    wire.SYMBOLS_EOH: b"i {auth_authen} {client_addr}",
}
MACROS = frozenset((b"i", b"j", b"auth_authen", b"client_addr", b"mail_addr"))
MACRO_MAX = 1024  # octets of one value: the longest is an address

_DURING_CONNECTION = frozenset((wire.CONNECT, wire.HELO))


class Stage(Enum):
    """Where a connection stands."""

    NEW = "before the negotiation"
    OPEN = "between messages"
    ENVELOPE = "after MAIL"
    HEADER = "in the header"
    JUDGING = "waiting for our verdict"
    JUDGED = "after the end of headers"
    OVERRULING = "waiting for our verdict on the body"


_ALWAYS = frozenset((wire.MACRO, wire.ABORT, wire.QUIT, wire.QUIT_NEW_CONNECTION))
_ENVELOPE = frozenset((wire.MAIL, wire.RCPT, wire.DATA, wire.UNKNOWN, wire.HEADER, wire.END_OF_HEADERS))
#: The steps that may come in each stage. A header may come without MAIL: Postfix does that for a second
#: body in one transaction, and then too the message is judged, not passed.
LEGAL: Mapping[Stage, frozenset[bytes]] = {
    Stage.NEW: frozenset((wire.NEGOTIATE, wire.QUIT)),
    Stage.OPEN: _ALWAYS | _ENVELOPE | {wire.CONNECT, wire.HELO},
    Stage.ENVELOPE: _ALWAYS | _ENVELOPE,
    Stage.HEADER: _ALWAYS | {wire.HEADER, wire.END_OF_HEADERS},
    Stage.JUDGING: frozenset(),
    Stage.OVERRULING: frozenset(),
    Stage.JUDGED: _ALWAYS | {wire.BODY, wire.END_OF_MESSAGE, wire.MAIL},
}


@dataclass(slots=True)
class Message:
    """What is known of the message in hand."""

    macros: dict[bytes, bytes] = field(default_factory=dict)
    header: Header = field(default_factory=Header)
    body: Lines = field(default_factory=Lines)
    sender: bytes = b""
    may_edit: bool = False  # whether the MTA lets us remove fields

    def macro(self, name: bytes) -> str:
        """A macro's value as text, ``""`` when it is absent; bytes that are no UTF-8 become surrogates."""
        return self.macros.get(name, b"").decode("utf-8", "surrogateescape")

    @property
    def envelope_sender(self) -> str:
        """The envelope sender as MAIL named it, for the log."""
        return (self.sender or self.macros.get(b"mail_addr", b"")).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes to send now; none for a step that gets no answer."""

    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Judge:
    """The header is complete: find a verdict and hand its bytes to `Session.judged`."""

    message: Message


@dataclass(frozen=True, slots=True)
class Overrule:
    """The body has a line that is too long, and the header was let through: hand another verdict to
    `Session.judged`."""


@dataclass(frozen=True, slots=True)
class End:
    """The MTA says goodbye."""


Step = Answer | Judge | Overrule | End
_NOTHING = Answer()
_CONTINUE = Answer(wire.CONTINUE)


class Session:
    """Feed it packets one by one; it says what to do. Raises Violation for what may not come now.

    `body`: whether the MTA is asked for the body too, whose lines are then looked at.
    """

    def __init__(self, *, body: bool = False) -> None:
        self.stage = Stage.NEW
        self._wanted = PROTOCOL_WITH_BODY if body else PROTOCOL
        self._looks_at_body = body
        self._protocol = self._actions = 0
        self._connection: dict[bytes, bytes] = {}
        self._coming: dict[bytes, dict[bytes, bytes]] = {}
        self._message: Message | None = None
        self._verdict = self._edits = b""

    @property
    def is_idle(self) -> bool:
        """Whether no message is in hand."""
        return self.stage in (Stage.NEW, Stage.OPEN)

    def receive(self, packet: Packet) -> Step:
        """What follows from one packet."""
        command = packet.command
        if command not in LEGAL[self.stage]:
            raise Violation(f"command {command.decode('ascii')} {self.stage.value}")
        if command == wire.MACRO:
            self._learn(packet.data)
            return _NOTHING
        if command == wire.NEGOTIATE:
            return Answer(self._negotiate(wire.parse_options(packet.data)))
        if command in wire.SILENT:
            return self._leave(command)
        return self._step(command, packet.data)

    def judged(self, reply: bytes, edits: bytes = b"") -> Answer:
        """Our verdict, CONTINUE or an encoded refusal, goes out and holds to the end of this message.

        `edits` are encoded changes of the header, for which the MTA waits until the end of the message; those
        of the header's verdict hold when the body's lets the message through.
        """
        if self.stage is Stage.OVERRULING:
            answer = Answer(self._edits + reply if reply == wire.CONTINUE else reply)
            self._forget()
            return answer
        if self.stage is not Stage.JUDGING:
            raise RuntimeError("a verdict that nobody asked for")
        self.stage, self._verdict, self._edits = Stage.JUDGED, reply, edits
        return Answer(reply)

    def _negotiate(self, offer: Options) -> bytes:
        self._actions = offer.actions & (wire.SETSYMLIST | wire.CHGHDRS)
        self._protocol = offer.protocol & self._wanted
        self.stage = Stage.OPEN
        words = Options(min(offer.version, 6), self._actions, self._protocol)
        return wire.encode_options(words, SYMBOLS if self._actions & wire.SETSYMLIST else {})

    def _learn(self, data: bytes) -> None:
        command, macros = wire.parse_macros(data)
        kept = {name: value for name, value in macros.items() if name in MACROS}
        if any(len(value) > MACRO_MAX for value in kept.values()):
            raise Violation("a macro that is too long")
        if command in _DURING_CONNECTION:  # Postfix sends them even when it is asked to leave the step out
            self._connection.update(kept)
        else:
            self._coming.setdefault(command, {}).update(kept)

    def _leave(self, command: bytes) -> Step:
        self._forget()
        if command == wire.QUIT:
            return End()
        if command == wire.QUIT_NEW_CONNECTION:
            self._connection.clear()
        return _NOTHING

    def _forget(self) -> None:
        """No message is in hand any more, and nothing of the last one is left."""
        self._message, self._verdict, self._edits = None, b"", b""
        self._coming.clear()
        self.stage = Stage.OPEN

    def _step(self, command: bytes, data: bytes) -> Step:
        if command == wire.END_OF_MESSAGE:
            return self._end()
        if command not in _DURING_CONNECTION:
            self._in_message(command, data)
        if command == wire.END_OF_HEADERS:
            self.stage = Stage.JUDGING
            return Judge(self._message or Message())
        return _NOTHING if self._protocol & wire.UNANSWERED.get(command, 0) else self._answer(command)

    def _in_message(self, command: bytes, data: bytes) -> None:
        macros = self._coming.pop(command, {})
        if command == wire.MAIL or self._message is None:
            self._message = Message(dict(self._connection), may_edit=bool(self._actions & wire.CHGHDRS))
            self._verdict = self._edits = b""
        self._message.macros.update(macros)
        if command == wire.MAIL:
            self._coming.clear()
            self._message.sender = wire.parse_mail(data)
            self.stage = Stage.ENVELOPE
        elif command == wire.HEADER:
            self._message.header.add(*wire.parse_header(data))
            self.stage = Stage.HEADER
        elif command == wire.BODY and self._looks_at_body:
            self._message.body.feed(data)

    def _answer(self, command: bytes) -> Answer:
        """After a refusal every further step of the message gets it again: nothing may turn it into a yes."""
        return Answer(self._verdict) if command == wire.BODY and self._verdict else _CONTINUE

    def _end(self) -> Step:
        if self._message and self._message.body.is_long and self._verdict == wire.CONTINUE:
            self.stage = Stage.OVERRULING
            return Overrule()
        answer = Answer(self._edits + self._verdict)
        self._forget()
        return answer
