"""The public texts of policyd: what the sender of a refused message may read, one function for each case.

Knows codes (RFC 5321, RFC 3463) and words: what happened, why, what to do. Must not know when a case arises,
nor any private reason: those go to the log line only.
"""

from __future__ import annotations

from datetime import UTC, datetime

from directory.identity import Principal
from ledger.blocks import Block
from ledger.limits import Limit, Standing, format_limit
from policyd.wire import DeferIfPermit, Reply, plain

_POSTMASTER = "the postmaster"


def name_of(principal: Principal) -> str:
    """``login alice``, ``certificate sha256:0a1b2c3d4e5f6071...`` or ``network …``, fit for a reply."""
    return f"{principal.kind} {plain(principal.name, 40)}"


def name_of_all(subject: str) -> str:
    """``your domain example.org, all its senders together``: somebody whose limits many share."""
    kind, _, value = subject.partition(":")
    who = f"your {kind} {plain(value, 70)}, all its" if value else "this relay, all"
    return f"{who} senders together"


def no_principal(login: str, contact: str, incident: str) -> Reply:
    """Nobody we know submits. `login` is the name that was given and is not known, ``""`` if none was."""
    what = f"login {plain(login, 60)} is not known here" if login else "nobody known here is submitting"
    how = "log in with another name" if login else "log in first"
    return Reply(554, "5.7.1", f"{what}: {how}, or ask {_contact(contact)} (incident {incident})")


def disabled(principal: Principal, contact: str, incident: str) -> Reply:
    """The principal is listed and switched off."""
    who = name_of(principal)
    return Reply(554, "5.7.1", f"{who} is disabled here: ask {_contact(contact)} (incident {incident})")


def terms(principal: Principal, contact: str) -> Reply:
    """The principal has not accepted the terms."""
    where = f"at {plain(principal.terms_url, 200)}" if principal.terms_url else f"with {_contact(contact)}"
    who = name_of(principal)
    return Reply(554, "5.7.1", f"{who} has not accepted the terms of use: do so {where}, then send again")


def no_tls() -> Reply:
    """A principal speaks in the clear (RFC 3207 section 4)."""
    return Reply(530, "5.7.0", "Must issue a STARTTLS command first")


def blocked(block: Block, contact: str, incident: str, *, queues: bool) -> Reply:
    """A block holds. `queues` is whether the sender is a host that keeps mail and tries again."""
    said = plain(block.contact or f"ask {_contact(contact)}", 280).strip()
    text = f"{_subject(block.subject)} is blocked from sending: {said} (incident {incident})"
    return Reply(450, "4.7.1", text) if queues else Reply(554, "5.7.1", text)


def malformed(sender: str, why: str) -> Reply:
    """The envelope sender is no address; `why` are the words of directory.address.Malformed."""
    text = f"sender <{plain(sender, 70)}>: {plain(why, 80)}; use one like name@domain"
    return Reply(553, "5.1.7", plain(text, 200))


def not_owned(principal: Principal, address: str, contact: str) -> Reply:
    """The envelope sender is not the principal's; the null sender is owned by nobody."""
    who = name_of(principal)
    if not address:
        return Reply(
            553, "5.7.1", f"{who} may not send with the empty sender <>: set its own address as sender"
        )
    advice = f"send as its own address, or ask {_contact(contact, 45)} to add this one"
    return Reply(553, "5.7.1", plain(f"{who} does not own <{plain(address, 70)}>: {advice}", 200))


def too_many_recipients(limit: Limit) -> Reply:
    """One recipient too many, while the client can still send to those before."""
    return Reply(452, "4.5.3", f"{format_limit(limit)} at most: send to the others in another message")


def far_too_many_recipients(count: int, limit: Limit) -> Reply:
    """More recipients than one message may have, and it is too late to split it."""
    return Reply(
        554, "5.7.1", f"{count} recipients, but {format_limit(limit)} at most: send several messages"
    )


def too_large(size: int, limit: Limit) -> Reply:
    """More bytes than one message may have."""
    return Reply(552, "5.3.4", f"{size} bytes, but {format_limit(limit)} at most: send less in one message")


def used_up(
    payer: str, standing: Standing, wanted: int, reopens_at: float, now: float, incident: str
) -> Reply:
    """`wanted` more do not fit into a window of `payer` (`name_of`, `name_of_all`), and will at `reopens_at`
    (epoch seconds)."""
    unit = " bytes" if standing.limit.unit == "bytes" else ""
    used = f"used {standing.used}{unit} of {format_limit(standing.limit)}"
    needs = f", this message needs {wanted}" if standing.remaining else ""
    when = reopening(reopens_at, now)
    return Reply(450, "4.7.1", f"{payer}: {used}{needs}, reopens {when}, incident {incident}")


def never_fits(payer: str, limit: Limit, incident: str) -> Reply:
    """More than a whole window of `payer` allows: no waiting helps."""
    whole = f"{payer} may send {format_limit(limit)}"
    return Reply(
        554, "5.7.1", f"{whole}, and this message is more than that: divide it (incident {incident})"
    )


def unavailable(incident: str) -> DeferIfPermit:
    """We cannot know now."""
    return DeferIfPermit(f"cannot check this sender now, try again in some minutes (incident {incident})")


def at_end(refusal: Reply | DeferIfPermit) -> Reply:
    """A refusal as it must be said at END-OF-MESSAGE: 421, which ends the connection too, because Postfix
    before 3.12 would carry the transaction on after any other."""
    enhanced = "4.7.1" if isinstance(refusal, Reply) else "4.3.0"
    return Reply(421, enhanced, refusal.text)


def reopening(at: float, now: float) -> str:
    """``at 14:05 UTC (in 12 min)``, with the day when it is another one; rounded up to the minute."""
    at = -(-at // 60) * 60
    day, today = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(now, UTC)
    clock = f"{day:%H:%M} UTC" if day.date() == today.date() else f"{day:%Y-%m-%d %H:%M} UTC"
    minutes = max(1, int(at - now + 59) // 60)
    span = f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
    return f"at {clock} (in {span})"


def _subject(subject: str) -> str:
    kind, _, value = subject.partition(":")
    return f"{kind} {plain(value, 40)}" if value else "this relay"


def _contact(contact: str, most: int = 120) -> str:
    return plain(contact, most).strip() or _POSTMASTER
