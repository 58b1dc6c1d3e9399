"""How the verbs of the ledger are said to `charge.lua`, and what its answers mean.

Knows the arguments of each verb and the written form of limits and blocks. Must not know Redis, connections,
or what time it is.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ledger.blocks import Block, actions_of
from ledger.charges import Admitted, Amounts, ChargeId, Held, Refused, Submission
from ledger.limits import Limit, Standing
from ledger.tombstones import Tombstone

Verb = tuple[bytes | Callable[[], bytes], ...]  # a name and its arguments
_NO_LIMITS = b""


def write(text: str) -> bytes:
    """Text as Redis keeps it; what is no UTF-8 (a sender with lone surrogates) too."""
    return text.encode("utf-8", "surrogatepass")


def read(kept: bytes) -> str:
    """The text that `write` wrote."""
    return kept.decode("utf-8", "surrogatepass")


@lru_cache(maxsize=4096)
def write_limits(limits: tuple[Held, ...]) -> bytes:
    """Limits as text, one on a line; raises ValueError when a subject cannot stand on one."""
    if any("\n" in subject for subject, _, _ in limits):
        raise ValueError("a subject is one line")
    return write(
        "".join(
            f"{t.amount} {t.unit} {t.window} {int(enforce)} {subject}\n" for subject, t, enforce in limits
        )
    )


@lru_cache(maxsize=4096)
def read_limits(text: bytes) -> tuple[Held, ...]:
    """The limits in a text that `write_limits` wrote."""
    rows = (line.split(" ", 4) for line in read(text).split("\n") if line)
    return tuple((s, Limit(int(n), unit, int(w)), e == "1") for n, unit, w, e, s in rows)  # type: ignore[arg-type]


def _number(amount: int) -> bytes:
    return b"%d" % amount


def _charge(charge: ChargeId) -> tuple[bytes, bytes, bytes]:
    return write(charge.mta), write(charge.queue_id), write(charge.instance)


def _amounts(amounts: Amounts) -> tuple[bytes, bytes, bytes]:
    amounts = amounts.bounded()
    return _number(amounts.messages), _number(amounts.recipients), _number(amounts.bytes)


def reserve(
    charge: ChargeId,
    submission: Submission | None,
    amounts: Amounts,
    limits: tuple[Held, ...],
    final: bool,
) -> Verb:
    """`charges.Ledger.reserve`, as for all verbs below; `read_outcome` reads the answer."""
    who = (write(submission.principal), write(submission.sender)) if submission else (b"", b"")
    return (
        b"reserve", *_charge(charge), *who, *_amounts(amounts), write_limits(limits), b"1" if final else b"0"
    )  # fmt: skip


def settle(charge: ChargeId, amounts: Amounts) -> Verb:
    """Answered with the outcome and the limits that were reserved under."""
    return b"settle", *_charge(charge), *_amounts(amounts)


def release(charge: ChargeId) -> Verb:
    """Answered ``0`` or ``1``."""
    return b"release", *_charge(charge)


def refund(mta: str, queue_id: str, subject: str) -> Verb:
    """Answered ``0`` or ``1``."""
    return b"refund", write(mta), write(queue_id), write(subject)


def record(mta: str, queue_id: str) -> Verb:
    """Answered as taking up is."""
    return b"record", write(mta), write(queue_id)


def take_up(mta: str, queue_id: str) -> Verb:
    """Answered with nothing, or principal and sender."""
    return b"take_up", write(mta), write(queue_id)


def refund_untaken(mta: str, older_than: Callable[[], float]) -> Verb:
    """Answered with how many; `older_than` is asked when the verb goes out."""
    return b"refund_untaken", write(mta), lambda: b"%r" % older_than()


def standing(pairs: tuple[tuple[str, Limit], ...]) -> Verb:
    """Answered as an admission is."""
    return b"standing", write_limits(tuple((subject, limit, True) for subject, limit in pairs))


def spenders(offset: int, most: int) -> Verb:
    """Answered with subjects."""
    return b"spenders", _number(offset), _number(most)


def reset(subject: str, author: str, reason: str) -> Verb:
    """Answered with the number of counters that held something."""
    return b"reset", write(subject), audit_of(author, "reset", subject, "", reason)


def look(epoch: bytes) -> Verb:
    """Answered with generation, epoch (`epoch` if there was none) and the number of changes to blocks."""
    return b"look", epoch


def keep(block: Block, ids: tuple[str, ...]) -> Verb:
    """Answered with id and version; `ids` are those a new block may get."""
    audit = audit_of(block.author, actions_of(block.extent)[0], block.subject, "%ID%", block.said)
    return b"keep", write(block.id), write(" ".join(ids)), _body(block), audit


def keep_once(block: Block) -> Verb:
    """Answered ``1``, or ``0`` when the id is taken."""
    audit = audit_of(block.author, "block", block.subject, block.id, block.reason)
    return b"keep_once", write(block.id), _body(block), audit


def lift(block: Block, author: str, reason: str) -> Verb:
    """Answered with the tombstone, or ``""``."""
    lifting = write(json.dumps({"by": author, "why": reason}))
    audit = audit_of(author, actions_of(block.extent)[1], block.subject, block.id, reason)
    return b"lift", write(block.id), lifting, audit


def merge(one: Tombstone) -> Verb:
    """Answered ``1`` when it was news."""
    return b"merge", write(one.block.id), write_block(one)


def audit_of(author: str, action: str, subject: str, block: str, reason: str) -> bytes:
    """A line of the audit trail."""
    return write(
        json.dumps({"author": author, "action": action, "subject": subject, "block": block, "reason": reason})
    )


def _body(block: Block) -> bytes:
    values = (block.subject, block.extent, block.author, block.reason, block.contact, block.start, block.end)
    return write(json.dumps((*values, block.terms) if block.terms else values))


def write_block(one: Tombstone) -> bytes:
    """A block, lifted or not, as Redis keeps it."""
    body = _body(one.block)
    lifted, lifting = b"-", b""
    if one.lifted is not None:
        lifted = b"%r" % one.lifted
        lifting = write(json.dumps({"by": one.lifted_by, "why": one.lifted_why}))
    return b"%d %s %d %s%s" % (one.block.version, lifted, len(body), body, lifting)


def read_block(block_id: bytes, text: bytes) -> Tombstone:
    """The block in a text that `write_block` or the script wrote. Raises ValueError."""
    version, lifted, size, rest = text.split(b" ", 3)
    subject, extent, author, reason, contact, start, end, *terms = json.loads(rest[: int(size)])
    block = Block(read(block_id), subject, extent, author, reason, contact, start, end, int(version), *terms)
    if lifted == b"-":
        return Tombstone(block, None, None, None)
    lifting = json.loads(rest[int(size) :])
    return Tombstone(block, float(lifted), lifting["by"], lifting["why"])


def read_blocks(flat: list[bytes]) -> tuple[Tombstone, ...]:
    """The blocks in id, text, id, text … without those that cannot be read: a newer host may write more, and
    must not keep all others from us."""
    found = []
    for block_id, text in zip(flat[::2], flat[1::2], strict=True):
        with contextlib.suppress(ValueError, LookupError, TypeError):
            found.append(read_block(block_id, text))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Clock:
    """What a reader's clock has over the server's, in seconds; for moments that a reader is shown."""

    skew: float = 0.0

    def read(self, text: bytes) -> float | None:
        """A moment in an answer, by the reader's clock."""
        return None if text == b"-" else float(text) + self.skew


def read_outcome(answer: bytes, limits: tuple[Held, ...], clock: Clock) -> Admitted | Refused:
    """What a reservation or a settlement came to. Raises ValueError for what is no answer to it."""
    words = answer.split(b" ")
    if words[0] == b"A":
        return Admitted(_standings(words[1:], limits, clock))
    if words[0] != b"R" or len(words) != 5:
        raise ValueError(f"{answer!r} is no outcome")
    subject, limit, _ = limits[int(words[1])]
    known = Standing(subject, limit, int(words[2]), clock.read(words[3]))
    return Refused(limit, known, clock.read(words[4]))


def read_settled(answer: list[bytes], clock: Clock) -> Admitted | Refused:
    """What a settlement came to, from its answer: that, and the limits of its charge."""
    return read_outcome(answer[0], read_limits(answer[1]), clock)


def _standings(words: list[bytes], limits: tuple[Held, ...], clock: Clock) -> tuple[Standing, ...]:
    pairs: Any = zip(words[::2], words[1::2], strict=True)
    return tuple(
        Standing(subject, limit, int(used), clock.read(at))
        for (subject, limit, _), (used, at) in zip(limits, pairs, strict=True)
    )
