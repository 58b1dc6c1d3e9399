"""What can be seen of a lab from outside: the delivered mail and its signature, the standing of a principal.

Knows dkimpy, the sink's files and `submitward quota show --json`. Must not know which of it was expected.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email import message_from_bytes
from email.utils import parseaddr
from functools import cached_property
from typing import Any

import dkim

from tests.lab.lab import Lab


@dataclass(frozen=True)
class Delivered:
    """One file of the sink: envelope and message."""

    raw: bytes
    names: dict[str, str]

    @property
    def _parts(self) -> list[bytes]:
        return self.raw.split(b"\r\n", 2)

    @property
    def sender(self) -> str:
        return self._parts[0].decode().removeprefix("X-Envelope-From: <").removesuffix(">")

    @property
    def recipient(self) -> str:
        return self._parts[1].decode().removeprefix("X-Envelope-To: <").removesuffix(">")

    @property
    def message(self) -> bytes:
        return self._parts[2]

    @cached_property
    def author(self) -> str:
        return parseaddr(str(message_from_bytes(self.message)["From"]))[1]

    @property
    def is_signed(self) -> bool:
        return "DKIM-Signature" in message_from_bytes(self.message)

    @cached_property
    def signing_domain(self) -> str:
        """d= of a signature that verifies, ``""`` when there is none (RFC 6376)."""

        def txt(name: bytes, timeout: int = 5) -> bytes | None:
            record = self.names.get(name.decode())
            return record.encode() if record else None

        judge = dkim.DKIM(self.message)
        try:
            return judge.domain.decode() if self.is_signed and judge.verify(dnsfunc=txt) else ""
        except dkim.DKIMException:
            return ""

    @property
    def is_aligned(self) -> bool:
        """Whether a verified d= is the domain of the visible From."""
        return bool(self.signing_domain) and self.signing_domain == self.author.rpartition("@")[2].lower()


def delivered(lab: Lab, token: str, count: int = 1, seconds: float = 30) -> list[Delivered]:
    """The messages with `token`, after waiting for `count` of them."""
    names = json.loads(lab.places.dns.read_text())
    return [Delivered(raw, names) for raw in lab.wait_received(token, count, seconds)]


@dataclass(frozen=True)
class Used:
    """What a principal has used in its windows, by unit; per-message limits left out."""

    by_unit: dict[str, int]

    def __sub__(self, before: Used) -> Used:
        return Used({unit: used - before.by_unit[unit] for unit, used in self.by_unit.items()})

    def __getitem__(self, unit: str) -> int:
        return self.by_unit[unit]


def used(lab: Lab, target: str) -> Used:
    """What `target` (a login, or a subject such as ``certificate:sha256:…``) has used."""
    shown: dict[str, Any] = json.loads(lab.submitward("quota", "show", target, "--json").stdout)
    return Used({limit["unit"]: limit["used"] for limit in shown["limits"] if limit["window"]})


def names_limit(text: str, used_of: int, limit: str) -> bool:
    """Whether a refusal says what was used, the limit, and when it reopens."""
    return f"{used_of} of {limit}" in text and bool(re.search(r"reopens at .*\d\d:\d\d", text))
