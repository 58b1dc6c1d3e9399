"""The events of the SQLite ledger: a bound on all of them, and a cursor for who follows."""

from __future__ import annotations

import sqlite3

import pytest

from ledger import event_rows
from ledger.event_rows import EventRows
from ledger.events import KEPT, Event
from ledger.schema import prepare


@pytest.fixture
def rows():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    prepare(connection)
    rows = EventRows(connection)
    rows.now = 1e9
    yield rows
    connection.close()


def note(rows, *ids):
    for id in ids:
        rows.note(Event(id, "trip", "login:alice"))


def test_the_oldest_events_go_for_the_newest(rows, monkeypatch):
    monkeypatch.setattr(event_rows, "MOST", 3)
    note(rows, *"ABCDE")
    assert [one.id for one in rows.after(0, 10)] == ["C", "D", "E"]


def test_who_follows_reads_on_from_the_last_serial(rows):
    note(rows, *"ABC")
    first = rows.after(0, 2)
    assert [one.id for one in first] == ["A", "B"]
    assert [one.id for one in rows.after(first[-1].serial, 2)] == ["C"]
    assert rows.after(rows.last(), 2) == ()


def test_an_event_is_found_by_its_id_until_it_is_forgotten(rows):
    note(rows, "A")
    assert rows.find("A").subject == "login:alice"
    rows.forget("A")
    assert rows.find("A") is None


def test_a_serial_is_never_used_twice(rows):
    note(rows, "A", "B")
    last = rows.last()
    rows.forget("B")
    note(rows, "C")
    assert rows.find("C").serial > last


def test_tidying_deletes_what_is_too_old(rows):
    note(rows, "A", "B")
    rows.now += KEPT + 1
    note(rows, "C")
    rows.tidy(1)
    assert [one.id for one in rows.after(0, 10)] == ["B", "C"]
