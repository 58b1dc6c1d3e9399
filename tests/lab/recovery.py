"""Step 8 of the story: the sidecars are killed during a run of messages, and a sender that tries again loses
nothing.

Knows how a mail client's queue behaves: temporary refusals and lost connections are tried again, a permanent
refusal is the end. Must not know how a sidecar comes back.
"""

from __future__ import annotations

import smtplib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.lab.cast import Line
from tests.lab.client import FRIEND, Client, compose, token
from tests.lab.evidence import delivered, used
from tests.lab.lab import Lab
from tests.lab.running import SIDECARS
from tests.lab.story import BOB

PATIENCE = 60.0


@dataclass
class Run:
    """A run of messages by bob, each tried until it is taken."""

    lab: Lab
    client: Client
    words: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)  # temporary trouble on the way
    wrong: list[str] = field(default_factory=list)  # what must not happen

    def deliver(self, before: Mapping[str, Callable[[], object]] | None = None) -> None:
        """Send one more message. What `before` names happens once: ``AUTH`` before logging in, the rest as in
        `Session.send`."""
        word = token()
        self.words.append(word)
        hooks = {name: _once(hook) for name, hook in (before or {}).items()}
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._attempt(word, hooks):
                return
            time.sleep(0.5)
        last = self.seen[-1] if self.seen else "nothing was said"
        self.wrong.append(f"not taken within {PATIENCE:g} s: {last}")

    def _attempt(self, word: str, hooks: Mapping[str, Callable[[], object]]) -> bool:
        """One try; True when it is over, for good or ill."""
        try:
            with self.client.open() as session:
                hooks.get("AUTH", _once(None))()
                reply = session.auth("bob", self.lab.logins["bob"])
                if reply.code == 235:
                    reply = session.send(BOB, [FRIEND, "other@elsewhere.example"], compose(BOB, word), hooks)
        except (ConnectionRefusedError, smtplib.SMTPConnectError) as closed:
            self.wrong.append(f"the port is closed: {closed}")
            return False
        except smtplib.SMTPResponseException as error:  # STARTTLS
            return self._judge(error.smtp_code, str(error.smtp_error))
        except (OSError, smtplib.SMTPException) as lost:
            self.seen.append(f"{type(lost).__name__}: {lost}")
            return False
        return self._judge(reply.code, str(reply))

    def _judge(self, code: int, text: str) -> bool:
        if 400 <= code < 500:
            self.seen.append(text)
            return False
        if code != 250:
            self.wrong.append(text)
        return True


def killed(lab: Lab) -> Iterator[Line]:
    """8. Each sidecar is killed during a run of messages: each arrives and is charged once."""
    run = Run(lab, Client(lab.submission, lab.places.tls / "ca.crt"))
    before = used(lab, "bob")
    run.deliver()
    # policyd between RCPT and DATA, saslauthd before AUTH, the milter with a message before it.
    for name, moment in zip(SIDECARS, ("DATA", "AUTH", "DATA"), strict=True):
        old = lab.pid(name)
        trouble = len(run.seen)
        run.deliver({moment: lambda name=name: lab.kill(name)})
        run.deliver()
        came_back = lab.wait_pid(name, old)
        met = "; ".join(run.seen[trouble:]) or "nothing was noticed"
        yield Line(f"{name} (pid {old}) is killed before {moment}", f"{met}; back: {came_back}", came_back)
    run.deliver()
    counts = [len(delivered(lab, word, 2)) for word in run.words]
    yield Line(
        f"{len(counts)} messages to 2 recipients each, tried until taken",
        f"delivered {sum(counts)}×; {'; '.join(run.wrong) or 'no permanent refusal, no closed port'}",
        not run.wrong and all(count == 2 for count in counts),
    )
    spent = used(lab, "bob") - before
    yield Line(
        "what they cost",
        f"{spent['messages']} messages, {spent['recipients']} recipients",
        spent["messages"] == len(counts) and spent["recipients"] == 2 * len(counts),
    )


def _once(hook: Callable[[], object] | None) -> Callable[[], None]:
    """The hook for the first call, nothing for the others."""
    left = [hook] if hook else []

    def call() -> None:
        if left:
            left.pop()()

    return call
