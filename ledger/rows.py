"""How the values of a charge lie in the columns of the SQLite ledger.

Knows the written form of limits, takings and text. Must not know how they are searched for, or what they are
for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal

from ledger.charges import Amounts, ChargeId, Held, Submission
from ledger.limits import Limit

Taking = tuple[int, int, int]  # which of the counters of the charge's limits, sub-window, amount


#: The columns of a ChargeRow, in its order.
FIELDS = "id, state, era, principal, sender, messages, recipients, bytes, limits, takings"


class ChargeRow:
    """One charge as it was read: `limits` and `takings` still encoded, `principal` None without a record."""

    __slots__ = ("amounts", "era", "id", "limits", "principal", "sender", "state", "takings")

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.id: int = row[0]
        self.state: int = row[1]
        self.era: int = row[2]
        self.principal: str | bytes | None = row[3]
        self.sender: str | bytes = row[4]
        self.amounts = Amounts(row[5], row[6], row[7])
        self.limits: str = row[8]
        self.takings: str = row[9]


@lru_cache(maxsize=4096)
def encode_limits(limits: tuple[Held, ...]) -> str:
    """Limits as text; the same few tuples come again and again."""
    return json.dumps([(s, limit.amount, limit.unit, limit.window, enforce) for s, limit, enforce in limits])


@lru_cache(maxsize=4096)
def decode_limits(text: str) -> tuple[Held, ...]:
    """The limits in a text that `encode_limits` made."""
    return tuple(
        (s, Limit(amount, unit, window), enforce) for s, amount, unit, window, enforce in json.loads(text)
    )


def encode_takings(takings: Iterable[Taking]) -> str:
    """Takings as text: three numbers each."""
    return ";".join([f"{index} {bucket} {amount}" for index, bucket, amount in takings])


def decode_takings(text: str) -> list[Taking]:
    """The takings in a text that `encode_takings` made."""
    numbers = (part.split() for part in text.split(";") if part)
    return [(int(index), int(bucket), int(amount)) for index, bucket, amount in numbers]


def write(text: str) -> str | bytes:
    """Text as it can be stored: what is no UTF-8 (a sender with lone surrogates) goes in as bytes."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def read(stored: str | bytes) -> str:
    """The text that `write` stored."""
    return stored if isinstance(stored, str) else stored.decode("utf-8", "surrogatepass")


#: What became of a charge that is to be forgotten (`book.Book.forget`).
Gone = Literal["forgotten", "gone", "moved", "refunded"]
#: A charge as it is told to another ledger: charge id, record, amounts, limits, whether it is settled.
Outstanding = tuple[ChargeId, Submission | None, Amounts, tuple[Held, ...], bool]


def outstanding(row: tuple[Any, ...], settled: bool) -> Outstanding:
    """The charge in a row of FIELDS, mta, instance, queue id."""
    mta, instance, queue_id = row[-3:]
    who = None if row[3] is None else Submission(read(row[3]), read(row[4]))
    charge = ChargeId(read(mta), read(instance), read(queue_id))
    return charge, who, Amounts(*row[5:8]), decode_limits(row[8]), settled
