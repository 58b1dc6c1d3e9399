"""One connection's requests: what may come next, and exactly one answer to each.

Knows the state table, the outstanding requests and their bounds. Must not know Twisted, the
time (`now` is an argument, in seconds that never go back), nor how credentials are verified.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from directory.identity import Credentials, Verified
from saslauthd import wire
from saslauthd.answers import Answer, Ask, Drop, Event, Request, Send, accept, put_off, refuse
from saslauthd.mechanisms import MECHANISMS, Challenge, Realm, Refused, Step, decode_base64, encode_base64

OUTSTANDING_MAX = 32  # per connection; the directory has a bound of its own over all of them
HALF_OPEN_MAX = 150.0  # seconds between two steps of an exchange, as Dovecot has it


class HangUp(Exception):
    """The only temporary failure that this client can see is the end of the connection (454)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say: the mechanisms by their names in capitals, whether TLS must be on, and what
    becomes of the domain in a login."""

    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    require_tls: bool = True
    realm: Realm = field(default_factory=Realm)


class Session:
    """The judgement of one connection. `rules` may be replaced at any time and hold from the next AUTH on."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._expects: tuple[type[wire.Command], ...] = (wire.Version,)
        self._minor = 0
        self._outstanding: dict[int, Request] = {}

    @property
    def asked(self) -> int:
        """How many requests are being verified."""
        return sum(request.is_asked for request in self._outstanding.values())

    def greet(self, pid: int, number: int, cookie: bytes) -> bytes:
        """The whole handshake: it waits for nothing, and MECH comes before SPID, or clients give up."""
        mechs = (wire.encode_mech(name, MECHANISMS[name].flags) for name in self.rules.mechanisms)
        return b"".join((wire.encode_version(), *mechs, wire.encode_done(pid, number, cookie)))

    def receive(self, command: wire.Command, now: float) -> tuple[Event, ...]:
        """Judge one command; what is to be done, in order. Raises wire.Broken."""
        if not isinstance(command, self._expects):
            raise wire.Broken(f"{type(command).__name__.upper()} does not belong here")
        match command:
            case wire.Version():
                return self._version(command)
            case wire.Cpid():
                self._expects = (wire.Auth, wire.Cont, wire.Cancel)
                return ()
            case wire.Auth():
                return self._auth(command, now)
            case wire.Cont():
                return self._cont(command, now)
            case wire.Cancel():
                return self._cancel(command)

    def settle(self, request: Request, outcome: Verified | Refused) -> Answer | None:
        """The answer to a verified request, None if nobody waits for it any more."""
        if self._outstanding.get(request.id) is not request:
            return None
        if isinstance(outcome, Refused):
            return self._refuse(request, outcome)
        if not isinstance(outcome, Verified):
            raise TypeError("only a Verified is a yes")
        answer = accept(request, outcome)
        del self._outstanding[request.id]
        return answer

    def give_up(self, request: Request) -> Answer | None:
        """The answer to a request that cannot be judged now, None if nobody waits for it any more.

        Raises HangUp for a client of minor 0 that waits for nothing else: Postfix and Exim take any FAIL for
        a wrong password. Exchanges that wait for the client do not count: Postfix leaves them, uncancelled.
        """
        if self._outstanding.get(request.id) is not request:
            return None
        if self._minor == 0 and self.asked <= 1:
            raise HangUp
        del self._outstanding[request.id]
        return put_off(request, "unavailable")

    def _version(self, command: wire.Version) -> tuple[Event, ...]:
        if command.major != wire.MAJOR:
            raise wire.Broken(f"the major version is not {wire.MAJOR}")
        self._minor = command.minor
        self._expects = (wire.Cpid,)
        return ()

    def _auth(self, command: wire.Auth, now: float) -> tuple[Event, ...]:
        self._expire(now)
        if command.id in self._outstanding:
            raise wire.Broken("the request id is in use")
        request = _request(command, now)
        refusal = self._objection(request)
        if refusal:
            return (self._refuse(request, Refused(refusal)),)
        made_room = self._make_room()
        if len(self._outstanding) >= OUTSTANDING_MAX:
            return (put_off(request, "too_many_requests"),)
        self._outstanding[request.id] = request
        mechanism = MECHANISMS[request.mechanism]
        request.exchange = mechanism.begin()
        text = self._initial(command.response, mechanism.empty_is_none)
        return (*made_room, self._advance(request, text, now))

    def _objection(self, request: Request) -> str:
        if request.mechanism not in self.rules.mechanisms or request.mechanism not in MECHANISMS:
            return "unsupported_mechanism"
        return "no_tls" if self.rules.require_tls and not request.secured else ""

    def _initial(self, text: bytes | None, empty_is_none: bool) -> bytes | None:
        """The initial response in base64; None if there is none. ``resp==`` is an empty one (RFC 4954),
        ``resp=`` is one from minor 2 on: Exim, at minor 0, always sends it."""
        if text == b"" and self._minor < 2:
            return None
        text = b"" if text == b"=" else text
        return None if empty_is_none and not text else text

    def _cont(self, command: wire.Cont, now: float) -> tuple[Event, ...]:
        self._expire(now)
        request = self._outstanding.get(command.id)
        if request is None:
            return (self._refuse(Request(command.id, now), Refused("timed_out")),)
        if request.is_asked:
            return (Drop(request), self._refuse(request, Refused("unexpected_continuation")))
        return (self._advance(request, command.data, now),)

    def _cancel(self, command: wire.Cancel) -> tuple[Event, ...]:
        request = self._outstanding.pop(command.id, None)
        if request is None:
            return ()
        dropped: tuple[Event, ...] = (Drop(request),) if request.is_asked else ()
        cancelled = (Send(wire.encode_cancelled(command.id)),) if self._minor >= 4 else ()
        return (*dropped, *cancelled)

    def _advance(self, request: Request, text: bytes | None, now: float) -> Event:
        """Give the exchange its next response, still in base64."""
        response = None if text is None else decode_base64(text)
        if text is not None and response is None:
            return self._refuse(request, Refused("invalid_base64"))
        assert request.exchange is not None
        step: Step = request.exchange.respond(response)
        match step:
            case Challenge(data):
                request.waits_since = now
                return Send(wire.encode_cont(request.id, encode_base64(data)))
            case Credentials():
                login = self.rules.realm.apply(step.login)
                if isinstance(login, Refused):
                    return self._refuse(request, login)
                request.is_asked = True
                request.exchange = None
                return Ask(request, step if login == step.login else Credentials(login, step.password))
            case Refused():
                return self._refuse(request, step)

    def _refuse(self, request: Request, refused: Refused) -> Answer:
        answer = refuse(request, refused)  # one that cannot go out leaves the request for `give_up`
        self._outstanding.pop(request.id, None)
        return answer

    def _expire(self, now: float) -> None:
        """Forget the exchanges that the client left; a late CONT is told so."""
        for request in tuple(self._outstanding.values()):
            if not request.is_asked and now - request.waits_since > HALF_OPEN_MAX:
                del self._outstanding[request.id]

    def _make_room(self) -> tuple[Event, ...]:
        """At the bound the exchange that has waited longest for its client gives way, or someone who starts
        and leaves LOGINs could lock out whoever comes next through the same smtpd."""
        if len(self._outstanding) < OUTSTANDING_MAX:
            return ()
        waiting = [request for request in self._outstanding.values() if not request.is_asked]
        if not waiting:
            return ()
        oldest = min(waiting, key=lambda request: request.waits_since)
        del self._outstanding[oldest.id]
        return (put_off(oldest, "gave_way"),)


def _request(command: wire.Auth, now: float) -> Request:
    given = command.parameters
    return Request(
        id=command.id,
        began=now,
        mechanism=command.mechanism,
        service=given.get(b"service", given.get(b"protocol", b"")),
        secured=given.get(b"secured") in (b"", b"tls"),
        rip=given.get(b"rip", b""),
        waits_since=now,
    )
