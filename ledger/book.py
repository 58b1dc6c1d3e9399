"""The verbs of the ledger in SQL, on a connection that somebody else opened.

Knows charges and their lives (reserved, settled, refunded, lapsed). Must not know files, threads, or what
time it is: a transaction is told when it begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.charges import (
    LAPSE,
    LAPSED_KEPT,
    RECORD_KEPT,
    UNTAKEN_WITHIN,
    Admitted,
    Amounts,
    ChargeId,
    Held,
    Refused,
    Submission,
    last_to_reopen,
)
from ledger.clock import Time
from ledger.limits import Limit, Standing
from ledger.rows import (
    FIELDS,
    ChargeRow,
    Gone,
    decode_limits,
    decode_takings,
    encode_limits,
    encode_takings,
    read,
    write,
)
from ledger.tally import counters_of
from ledger.transaction import Transaction

RESERVED: Final = 0
SETTLED: Final = 1
REFUNDED: Final = 2
LAPSED: Final = 3
UNTAKEN_AT_ONCE = 500  # refunds in one transaction: others wait for it

_FIND = f"SELECT {FIELDS} FROM charges WHERE mta = ? AND queue_id = ? AND instance = ?"  # noqa: S608
_NEWEST = f"SELECT {FIELDS} FROM charges WHERE mta = ? AND queue_id = ? ORDER BY id DESC LIMIT 1"  # noqa: S608
_DUE = f"SELECT {FIELDS} FROM charges WHERE due <= ? ORDER BY due LIMIT ?"  # noqa: S608
_UNTAKEN = f"""SELECT {FIELDS} FROM charges WHERE mta = ? AND made BETWEEN ? AND ? AND taken_up = 0
    AND principal IS NOT NULL AND state IN ({RESERVED}, {SETTLED}) LIMIT {UNTAKEN_AT_ONCE}"""  # noqa: S608
_WRITE = """INSERT OR REPLACE INTO charges (mta, queue_id, instance, state, due, made, era, principal, sender,
    messages, recipients, bytes, limits, takings) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_TAKE_UP = f"UPDATE charges SET taken_up = 1 WHERE id = ? AND state IN ({RESERVED}, {SETTLED})"  # noqa: S608
_CHANGE = "UPDATE charges SET state = ?, due = ?, era = ?, takings = ? WHERE id = ?"
_NOTHING = Amounts(0, 0, 0)


class Book(Transaction):
    """All verbs, synchronous, each within a transaction: `begin`, verbs, then `commit` or `rollback`.

    The amounts of a refused verb are never written, so a transaction can hold many callers' verbs.
    """

    def begin(self, tell_time: Callable[[str, float], Time], *, sweep: int = 64) -> None:
        """Begin a transaction, in which at most `sweep` charges that are due are seen to."""
        super().begin(tell_time)
        self._sweep(sweep)

    def reserve(
        self,
        charge: ChargeId,
        submission: Submission | None,
        amounts: Amounts,
        limits: tuple[Held, ...],
        *,
        final: bool = False,
    ) -> Admitted | Refused:
        """See `charges.Ledger.reserve`."""
        amounts = amounts.bounded()
        row = self._find(charge)
        if row and row.state in (RESERVED, SETTLED) and row.amounts == amounts:
            return Admitted(self._tally.standings(limits, {}))
        replacing = row if row and row.state == RESERVED else None
        if replacing:
            self._set_aside(replacing, limits)
        used, failing = self._tally.judge(limits, amounts, amounts)
        if failing:
            refused = self._last(failing, amounts)
            if replacing:
                self._execute("ROLLBACK TO replacing")
                self._execute("RELEASE replacing")
            return refused
        if replacing:
            self._execute("RELEASE replacing")
        takings = self._tally.take(used, amounts)
        who = None if final else submission
        self._execute(
            _WRITE,
            (
                write(charge.mta),
                write(charge.queue_id),
                write(charge.instance),
                SETTLED if final else RESERVED,
            )
            + (self._now + (RECORD_KEPT if final else LAPSE), self._now, self._tally.era)
            + ((write(who.principal), write(who.sender)) if who else (None, None))
            + (amounts.messages, amounts.recipients, amounts.bytes)
            + (encode_limits(limits), encode_takings(takings)),
        )
        return Admitted(self._tally.standings(limits, used))

    def _set_aside(self, row: ChargeRow, limits: tuple[Held, ...]) -> None:
        """Give a reservation back so that it can be had again, should its replacement be refused."""
        for counter in counters_of(limits):
            self._tally.used(counter)
        self._execute("SAVEPOINT replacing")
        self._give_back(row)

    def settle(self, charge: ChargeId, amounts: Amounts) -> Admitted | Refused:
        """See `charges.Ledger.settle`."""
        amounts = amounts.bounded()
        row = self._find(charge)
        if row is None:
            return Admitted(())
        limits = decode_limits(row.limits)
        if row.state in (REFUNDED, SETTLED):
            return Admitted(self._tally.standings(limits, {}))
        before = row.amounts if row.state == RESERVED else _NOTHING
        over = amounts.over(before)
        used, failing = self._tally.judge(limits, amounts, over)
        if failing:
            self._lapse(row)
            return self._last(failing, amounts)
        takings = self._tally.shrink(used, decode_takings(row.takings), row.era, before.over(amounts))
        takings += self._tally.take(used, over)
        self._change(row, SETTLED, RECORD_KEPT, encode_takings(takings))
        return Admitted(self._tally.standings(limits, used))

    def release(self, charge: ChargeId) -> bool:
        """See `charges.Ledger.release`."""
        row = self._find(charge)
        if row is None or row.state != RESERVED:
            return False
        self._give_back(row)
        self._execute("DELETE FROM charges WHERE id = ?", (row.id,))
        self._moved = True
        return True

    def refund(self, mta: str, queue_id: str, subject: str) -> bool:
        """See `charges.Ledger.refund`."""
        row = self._newest(mta, queue_id)
        if row is None or row.principal is None or read(row.principal) != subject or row.state == REFUNDED:
            return False
        charged = row.state != LAPSED
        if charged:
            self._give_back(row)
            self._moved = True
        self._change(row, REFUNDED, RECORD_KEPT, "")
        return charged

    def record(self, mta: str, queue_id: str) -> Submission | None:
        """See `charges.Ledger.record`."""
        row = self._newest(mta, queue_id)
        if row is None or row.principal is None or row.state not in (RESERVED, SETTLED):
            return None
        return Submission(read(row.principal), read(row.sender))

    def take_up(self, mta: str, queue_id: str) -> Submission | None:
        """See `charges.Ledger.take_up`."""
        if row := self._newest(mta, queue_id):
            self._execute(_TAKE_UP, (row.id,))
        return self.record(mta, queue_id)

    def refund_untaken(self, mta: str, older_than: float) -> int:
        """See `charges.Ledger.refund_untaken`; UNTAKEN_AT_ONCE at most."""
        last = self._now - older_than
        found = self._execute(_UNTAKEN, (write(mta), last - UNTAKEN_WITHIN, last)).fetchall()
        for row in map(ChargeRow, found):
            self._give_back(row)
            self._change(row, REFUNDED, RECORD_KEPT, "")
            self._moved = True
        return len(found)

    def standing(self, pairs: tuple[tuple[str, Limit], ...]) -> tuple[Standing, ...]:
        """See `charges.Ledger.standing`."""
        return self._tally.standings(((subject, limit, True) for subject, limit in pairs), {})

    def reset(self, subject: str, author: str, reason: str) -> int:
        """See `charges.Ledger.reset`."""
        count = self._tally.forget(subject)
        self.register.note(author, "reset", subject, "", reason)
        self._moved = True
        return count

    def forget(self, charge: ChargeId, settled: bool) -> Gone:
        """Give a charge back and know it no more: it is counted elsewhere. Only if it is still as it was read
        (`settled`, or reserved); else it stays, and the answer says what became of it."""
        row = self._find(charge)
        if row is None:
            return "gone"
        if row.state != (SETTLED if settled else RESERVED):
            return "refunded" if row.state == REFUNDED else "moved"
        self._give_back(row)
        self._execute("DELETE FROM charges WHERE id = ?", (row.id,))
        return "forgotten"

    def tidy(self, rows: int = 500) -> None:
        """Delete some of what no verb comes across any more."""
        self._tally.tidy(rows)
        self.marks.tidy(rows)
        self.events.tidy(rows)

    def _sweep(self, most: int) -> None:
        for row in map(ChargeRow, self._execute(_DUE, (self._now, most)).fetchall()):
            if row.state == RESERVED:
                self._lapse(row)
            else:
                self._execute("DELETE FROM charges WHERE id = ?", (row.id,))

    def _find(self, charge: ChargeId) -> ChargeRow | None:
        key = write(charge.mta), write(charge.queue_id), write(charge.instance)
        return ChargeRow(row) if (row := self._execute(_FIND, key).fetchone()) else None

    def _newest(self, mta: str, queue_id: str) -> ChargeRow | None:
        key = write(mta), write(queue_id)
        return ChargeRow(row) if (row := self._execute(_NEWEST, key).fetchone()) else None

    def _lapse(self, row: ChargeRow) -> None:
        self._give_back(row)
        self._change(row, LAPSED, LAPSED_KEPT, "")
        self._moved = True

    def _give_back(self, row: ChargeRow) -> None:
        self._tally.give_back(counters_of(decode_limits(row.limits)), decode_takings(row.takings), row.era)

    def _change(self, row: ChargeRow, state: int, kept: float, takings: str) -> None:
        self._execute(_CHANGE, (state, self._now + kept, self._tally.era, takings, row.id))

    def _last(self, failing: list[Held], amounts: Amounts) -> Refused:
        return last_to_reopen(self._tally.refused(held, getattr(amounts, held[1].unit)) for held in failing)
