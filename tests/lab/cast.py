"""The story's people and the lines it is told in.

Knows how each of them reaches the relay, and when a line is as expected. Must not know what is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.lab.client import Client, Reply, Session
from tests.lab.evidence import delivered
from tests.lab.files import APPLICATION_HOST
from tests.lab.lab import Lab


@dataclass(frozen=True)
class Line:
    """One thing that was tried: what was sent, what the relay answered, and whether it is what must come."""

    sent: str
    answered: str
    good: bool

    def __str__(self) -> str:
        return f"{self.sent} → {self.answered} → {'as expected' if self.good else 'NOT as expected'}"


Step = Callable[[Lab], Iterator[Line]]


class Cast:
    """The story's people, each with the way they reach the relay."""

    def __init__(self, lab: Lab) -> None:
        tls = lab.places.tls
        self.lab = lab
        self.ca = tls / "ca.crt"
        self.anybody = Client(lab.submission, self.ca)
        self.printer = Client(lab.submission, self.ca, certificate=(tls / "printer.crt", tls / "printer.key"))
        self.stranger = Client(
            lab.submission, self.ca, certificate=(tls / "stranger.crt", tls / "stranger.key")
        )
        self.application = Client(lab.submission, self.ca, source=APPLICATION_HOST)
        self.outsider = Client(lab.mx, self.ca)

    def login(self, name: str, mechanism: str = "PLAIN", client: Client | None = None) -> Session:
        """A session in which `name` has authenticated; a temporary failure is tried again for ten seconds."""
        deadline = time.monotonic() + 10
        while True:
            session = (client or self.anybody).open()
            reply = session.auth(name, self.lab.logins[name], mechanism)
            if reply.code == 235:
                return session
            session.close()
            if reply.code != 454 or time.monotonic() > deadline:
                raise AssertionError(f"{name} cannot log in with {mechanism}: {reply}")
            time.sleep(0.2)


def refused(sent: str, reply: Reply, code: int, enhanced: str = "", having: Sequence[str] = ()) -> Line:
    """A line for a refusal that must have this code and these words."""
    good = (
        reply.code == code
        and reply.enhanced.startswith(enhanced)
        and all(word in reply.text for word in having)
    )
    return Line(sent, str(reply), good)


def taken(sent: str, reply: Reply) -> Line:
    """A line for a message that must be taken."""
    return Line(sent, str(reply), reply.code == 250)


def signed(lab: Lab, sent: str, sender: str, reply: Reply, word: str) -> Line:
    """A line for a message that must arrive once, from `sender`, with a verified and aligned signature."""
    if reply.code != 250:
        return Line(sent, str(reply), False)
    mail = delivered(lab, word)
    domains = ", ".join(m.signing_domain or "no valid signature" for m in mail)
    good = len(mail) == 1 and mail[0].sender == mail[0].author == sender and mail[0].is_aligned
    return Line(sent, f"{reply}; delivered {len(mail)}×, signed d={domains}", good)
