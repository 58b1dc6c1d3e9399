"""Who submits: what the submission record and the MTA's macros say, and whether they agree.

Knows the order in which they count (the record, then what must agree with it) and what to ask the
directory. Must not know what the principal owns, nor fetch anything. What does not agree is a doubt, and a
doubt is temporary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from directory.identity import BadLogin, Certificate, Login, Network, Principal, Question, parse_login
from ledger.charges import Submission
from milter.session import Message


class Doubt(Exception):
    """It is not known who submits. str() is for the log."""


class Nobody(Exception):
    """Nobody that we could judge submits (``charge: rcpt``, neither login nor listed network)."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What the macros say. `login` is in normal form, None for one that cannot be a login, ``""`` for no
    login; `credential` names the app password that narrows it."""

    queue_id: str
    login: str | None
    client_address: str
    credential: str = ""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What to ask the directory, and the ledger's subject that the answer must have (``""``: any)."""

    question: Question
    subject: str = ""


_QUEUE_ID = re.compile(r"[!-~]{1,255}")


def claim(message: Message) -> Claim:
    """What the macros of `message` say."""
    named = message.macro(b"auth_authen")
    try:
        found = parse_login(named) if named else None
    except BadLogin:
        found = Login("")
    login = found.name or None if found else ""
    queue_id = message.macro(b"i")
    if not _QUEUE_ID.fullmatch(queue_id):
        queue_id = ""
    credential = found.credential if found else ""
    return Claim(queue_id, login, _address(message.macro(b"client_addr")), credential)


def _address(text: str) -> str:
    """A client address as the directory takes it; ``""`` for none (Postfix says "unknown" for local mail)."""
    try:
        return str(ip_address(text.removeprefix("IPv6:").partition("%")[0]))
    except ValueError:
        return ""


def payer(claimed: Claim) -> str:
    """The subject that was charged, as far as the macros tell it; ``""`` when only the record would."""
    return f"login:{claimed.login}" if claimed.login else ""


def by_record(claimed: Claim, record: Submission | None) -> Inquiry:
    """Whom to ask for when policyd has recorded the submission (``charge: data``). Raises Doubt."""
    if not claimed.queue_id:
        raise Doubt("the MTA named no queue id (macro i)")
    if record is None:
        raise Doubt("there is no submission record: is policyd asked at DATA?")
    kind, _, name = record.principal.partition(":")
    if kind == "login" and name and claimed.login == name:
        return Inquiry(Login(name, claimed.credential), record.principal)
    if kind == "certificate" and name and claimed.login == "":
        return Inquiry(Certificate((name,)), record.principal)
    if kind == "network" and claimed.client_address and claimed.login == "":
        return Inquiry(Network(claimed.client_address), record.principal)
    raise Doubt(f"the record says {record.principal}, and the MTA's macros disagree")


def by_macros(claimed: Claim) -> Inquiry:
    """Whom to ask for where nothing is recorded (``charge: rcpt``). Raises Doubt or Nobody."""
    if claimed.login is None:
        raise Doubt("{auth_authen} is no login")
    if claimed.login:
        return Inquiry(Login(claimed.login, claimed.credential))
    if claimed.client_address:
        return Inquiry(Network(claimed.client_address))
    raise Nobody


def agreed(inquiry: Inquiry, found: Principal | None) -> Principal:
    """The principal, when the directory's answer is the one that the record names. Raises Doubt or Nobody."""
    if inquiry.subject and (found is None or found.subject != inquiry.subject):
        listed = found.subject if found else "nothing"
        raise Doubt(f"the record says {inquiry.subject}, and the directory lists {listed}")
    if found is None:
        raise Nobody
    return found
