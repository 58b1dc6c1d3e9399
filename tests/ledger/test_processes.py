"""Several processes on one file or one Redis, and processes that are killed."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from ledger.bookfile import open_book
from ledger.limits import parse_limit
from tests.ledger.spender import LIMIT
from tests.redis.books import Books
from tests.redis.server import running

ROOT = Path(__file__).parents[2]


def spenders(path, names, count, *redis):
    """Started processes, all ready to begin at once; with the url of a Redis and a prefix, each with a file
    of its own beside."""
    children = []
    for name in names:
        command = [sys.executable, "-m", "tests.ledger.spender", str(path) + (name if redis else ""), name]
        command += [str(count), *redis]
        children.append(subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, text=True))
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    return children


def used(path):
    with open_book(path) as book:
        return book.standing((("relay", parse_limit(LIMIT)),))[0].used


def sound(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()


def test_processes_that_start_at_once_and_spend_at_full_speed_never_overrun_by_one(tmp_path):
    path = tmp_path / "ledger.sqlite"
    lines = [
        line for child in spenders(path, "abc", 900) for line in child.communicate(timeout=60)[0].splitlines()
    ]
    assert len(lines) == 2700
    assert sum(line.startswith("settled") for line in lines) == 2000
    assert used(path) == 2000


def test_mail_hosts_that_spend_at_full_speed_from_one_redis_never_overrun_by_one(tmp_path):
    server = running()
    prefix = server.prefix()
    children = spenders(tmp_path / "copy", "abc", 900, server.url, prefix)
    lines = [line for child in children for line in child.communicate(timeout=60)[0].splitlines()]
    assert len(lines) == 2700
    assert sum(line.startswith("settled") for line in lines) == 2000
    books = Books(prefix, server)
    assert books.used("relay", LIMIT) == books.used("relay", LIMIT, later=3700) == 2000
    books.close()


def test_a_killed_process_loses_nothing_that_was_answered(tmp_path):
    path = tmp_path / "ledger.sqlite"
    answered: set[str] = set()
    for round_number in range(6):
        (child,) = spenders(path, [f"r{round_number}-"], 100_000)
        time.sleep(random.uniform(0.05, 0.4))
        child.kill()
        said = child.communicate()[0].splitlines(keepends=True)
        whole = [line for line in said if line.endswith("\n")]  # it may be killed in the middle of its last
        answered |= {line.split()[1] for line in whole if line.startswith("settled")}
    assert sound(path)
    connection = sqlite3.connect(path)
    kept = {row[0] for row in connection.execute("SELECT queue_id FROM charges WHERE state = 1")}
    charged = connection.execute("SELECT count(*) FROM charges WHERE takings != ''").fetchone()[0]
    connection.close()
    assert answered
    assert answered <= kept
    assert used(path) == charged <= 2000
