"""The counters of the SQLite ledger: what each subject has used in which sub-window.

Knows how counters are read, taken from, given back to and moved when the clock was set back. Must not know
messages, records or transactions, which are its caller's, nor what time it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger.charges import Amounts, Held, Refused
from ledger.limits import PER_MESSAGE, Limit, Standing, Unit, bucket_of, oldest_counted, reopens_at
from ledger.rows import Taking
from ledger.schema import Connection

Counter = tuple[str, Unit, int]  # subject, unit, window

_SUM = """SELECT sum(amount) FILTER (WHERE bucket >= ?), min(bucket), max(bucket) FROM used
    WHERE subject = ? AND unit = ? AND window = ?"""
_ADD = """INSERT INTO used VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET amount = amount + excluded.amount"""
_PRUNE = "DELETE FROM used WHERE subject = ? AND unit = ? AND window = ? AND bucket < ?"
_ROWS = """SELECT bucket, amount FROM used
    WHERE subject = ? AND unit = ? AND window = ? AND bucket >= ?"""
_LATER = """DELETE FROM used WHERE subject = ? AND unit = ? AND window = ? AND bucket > ?
    RETURNING amount"""
_TAKE_OUT = """UPDATE used SET amount = max(0, amount - ?)
    WHERE subject = ? AND unit = ? AND window = ? AND bucket = ?"""
_MOVES = """SELECT bound FROM moves
    WHERE era > ? AND subject = ? AND unit = ? AND window = ? ORDER BY era"""
# From one subject to the next in the index: DISTINCT would read every sub-window of everybody.
_SPENDERS = """WITH RECURSIVE next (subject) AS (SELECT min(subject) FROM used UNION ALL
    SELECT (SELECT min(subject) FROM used WHERE used.subject > next.subject) FROM next
    WHERE next.subject IS NOT NULL) SELECT subject FROM next WHERE subject IS NOT NULL"""
_PAGE = """SELECT subject, unit, window, bucket FROM used
    WHERE (subject, unit, window, bucket) > (?, ?, ?, ?) ORDER BY 1, 2, 3, 4 LIMIT 1 OFFSET ?"""
_STALE = """DELETE FROM used WHERE (subject, unit, window, bucket) > (?, ?, ?, ?)
    AND (subject, unit, window, bucket) <= (?, ?, ?, ?) AND (bucket + 61) * (window / 60) <= ?"""
# Not by age alone: a clock that was set back and forward again makes a move old while charges need it.
_FOLLOWED = """DELETE FROM moves WHERE at < ?
    AND NOT EXISTS (SELECT 1 FROM charges WHERE charges.era < moves.era)"""
_START = ("", "", 0, 0)
_END = ("\U0010ffff", "", 0, 0)


def counter_of(held: Held) -> Counter:
    """Which counter a limit with a window is counted in: its amount is no part of it."""
    return held[0], held[1].unit, held[1].window


def counters_of(limits: Iterable[Held]) -> tuple[Counter, ...]:
    """The counters of these limits, each once, in order; a limit per message has none."""
    return tuple(dict.fromkeys(counter_of(held) for held in limits if held[1].window))


class Tally:
    """The counters, within the caller's transaction. `now` is the ledger's time, `skew` what has to be added
    to it for the reader's clock, `era` counts the moves so far."""

    def __init__(self, connection: Connection) -> None:
        self._execute = connection.execute
        self._page = _START
        self.now = 0.0
        self.skew = 0.0
        self.era = 0

    def used(self, counter: Counter) -> int:
        """What counts of `counter` now. What lies in the future is now's from here on."""
        window = counter[2]
        current, oldest = bucket_of(self.now, window), oldest_counted(self.now, window)
        total, least, greatest = self._execute(_SUM, (oldest, *counter)).fetchone()
        if least is None:
            return 0
        if least < oldest:
            self._execute(_PRUNE, (*counter, oldest))
        if greatest > current:
            self._move(counter, current)
        return int(total or 0)

    def _move(self, counter: Counter, bound: int) -> None:
        later = sum(amount for (amount,) in self._execute(_LATER, (*counter, bound)).fetchall())
        if bound >= 0:
            self._execute(_ADD, (*counter, bound, later))
        self.era += 1
        self._execute("INSERT INTO moves VALUES (?, ?, ?, ?, ?, ?)", (self.era, *counter, bound, self.now))

    def judge(
        self, limits: tuple[Held, ...], whole: Amounts, over: Amounts
    ) -> tuple[dict[Counter, int], list[Held]]:
        """What each counter has used, and the enforced limits under which `over` cannot be taken, `whole`
        being all that the message has."""
        used: dict[Counter, int] = {}
        failing = []
        for held in limits:
            _, limit, enforce = held
            wanted = getattr(over, limit.unit)
            if limit.window == PER_MESSAGE:
                fits = getattr(whole, limit.unit) <= limit.amount
            else:
                counter = counter_of(held)
                if counter not in used:
                    used[counter] = self.used(counter)
                fits = used[counter] + wanted <= limit.amount
            if enforce and wanted and not fits:
                failing.append(held)
        return used, failing

    def take(self, used: dict[Counter, int], over: Amounts) -> list[Taking]:
        """Take `over` from the counters that `judge` has read, which it keeps true."""
        takings = []
        for index, counter in enumerate(used):
            amount = getattr(over, counter[1])
            if amount:
                bucket = bucket_of(self.now, counter[2])
                self._execute(_ADD, (*counter, bucket, amount))
                used[counter] += amount
                takings.append((index, bucket, amount))
        return takings

    def give_back(self, counters: tuple[Counter, ...], takings: Iterable[Taking], era: int) -> None:
        """Give what was taken in `era` back, out of the very sub-window it lies in by now."""
        for index, bucket, amount in takings:
            counter = counters[index]
            self._execute(_TAKE_OUT, (amount, *counter, self._moved_to(counter, bucket, era)))

    def shrink(
        self, used: dict[Counter, int], takings: Iterable[Taking], era: int, less: Amounts
    ) -> list[Taking]:
        """Give `less` back of what was taken in `era`; what is left of it, by where it lies now."""
        left = []
        for (index, bucket, amount), counter in ((taking, tuple(used)[taking[0]]) for taking in takings):
            bucket = self._moved_to(counter, bucket, era)
            returned = getattr(less, counter[1])
            if returned:
                self._execute(_TAKE_OUT, (returned, *counter, bucket))
                used[counter] = self.used(counter)
            left.append((index, bucket, amount - returned))
        return left

    def _moved_to(self, counter: Counter, bucket: int, era: int) -> int:
        if era < self.era:
            for (bound,) in self._execute(_MOVES, (era, *counter)):
                bucket = min(bucket, bound)
        return bucket

    def standings(self, limits: Iterable[Held], used: dict[Counter, int]) -> tuple[Standing, ...]:
        """The standings of `limits`, from what is known to be used and else read."""
        return tuple(self._standing(subject, limit, used) for subject, limit, _ in limits)

    def _standing(self, subject: str, limit: Limit, used: dict[Counter, int]) -> Standing:
        if limit.window == PER_MESSAGE:
            return Standing(subject, limit, 0)
        counter = (subject, limit.unit, limit.window)
        if counter not in used:
            used[counter] = self.used(counter)
        amount = used[counter]
        return Standing(
            subject, limit, amount, self._reopens(counter, limit, 1) if amount >= limit.amount else None
        )

    def refused(self, held: Held, wanted: int) -> Refused:
        """The refusal of `wanted` by this limit, as things stand now."""
        subject, limit, _ = held
        standing = self._standing(subject, limit, {})
        if limit.window == PER_MESSAGE:
            return Refused(limit, standing, None)
        return Refused(limit, standing, self._reopens(counter_of(held), limit, wanted))

    def _reopens(self, counter: Counter, limit: Limit, wanted: int) -> float | None:
        rows = self._execute(_ROWS, (*counter, oldest_counted(self.now, limit.window))).fetchall()
        at = reopens_at(rows, limit, wanted, self.now)
        return None if at is None else at + self.skew

    def spenders(self) -> tuple[str, ...]:
        """Everybody who has used something, and some who have lately."""
        return tuple(subject for (subject,) in self._execute(_SPENDERS))

    def forget(self, subject: str) -> int:
        """Forget all that `subject` has used; gives how many counters held something."""
        kinds = self._execute(
            "SELECT DISTINCT unit, window FROM used WHERE subject = ?", (subject,)
        ).fetchall()
        counters: list[Counter] = [(subject, unit, window) for unit, window in kinds]
        held = sum(1 for counter in counters if self.used(counter))
        for counter in counters:
            self._move(counter, -1)
        return held

    def tidy(self, rows: int) -> None:
        """Delete what is stale among the next `rows` rows: the counters of subjects that send no more."""
        last = self._execute(_PAGE, (*self._page, rows)).fetchone() or _END
        self._execute(_STALE, (*self._page, *last, self.now))
        self._page = _START if last == _END else last
        self._execute(_FOLLOWED, (self.now - 3 * 3600,))
