"""The tables of the SQLite ledger, and how an empty file becomes one.

Knows the SQL of the tables and their version. Must not know what is charged, or how a file is opened.
"""

from __future__ import annotations

from typing import Any, Protocol

APPLICATION_ID = 0x53574C47  # "SWLG", PRAGMA application_id: tells our file from any other database
VERSION = 4  # PRAGMA user_version


class Connection(Protocol):
    """What is used of a database connection (sqlite3.Connection has it)."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any:
        """Run one statement; gives a cursor."""


class WrongSchema(Exception):
    """The file is a database, but none that this version can keep a ledger in."""


TABLES = (
    # one row. generation moves when something that others hold has changed; era when takings were moved;
    # booted and shift say what time it is (ledger.clock)
    """CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER NOT NULL, era INTEGER NOT NULL,
        booted TEXT NOT NULL, shift REAL NOT NULL)""",
    # what was taken, by sub-window. A limit's amount is no part of the key, so changing it keeps the count
    """CREATE TABLE used (
        subject TEXT NOT NULL, unit TEXT NOT NULL, window INTEGER NOT NULL, bucket INTEGER NOT NULL,
        amount INTEGER NOT NULL, PRIMARY KEY (subject, unit, window, bucket)) WITHOUT ROWID""",
    # what was in a sub-window later than bound when era began now lies in bound (-1: nowhere, a reset)
    """CREATE TABLE moves (
        era INTEGER PRIMARY KEY, subject TEXT NOT NULL, unit TEXT NOT NULL, window INTEGER NOT NULL,
        bound INTEGER NOT NULL, at REAL NOT NULL)""",
    # a charge and its submission record; the greatest id is the newest. due is when it lapses or goes, made
    # when it was reserved, taken_up whether the milter has the message in hand
    """CREATE TABLE charges (
        id INTEGER PRIMARY KEY, mta TEXT NOT NULL, queue_id TEXT NOT NULL, instance TEXT NOT NULL,
        state INTEGER NOT NULL, due REAL NOT NULL, made REAL NOT NULL, taken_up INTEGER NOT NULL DEFAULT 0,
        era INTEGER NOT NULL, principal TEXT, sender TEXT,
        messages INTEGER NOT NULL, recipients INTEGER NOT NULL, bytes INTEGER NOT NULL,
        limits TEXT NOT NULL, takings TEXT NOT NULL, UNIQUE (mta, queue_id, instance))""",
    "CREATE INDEX charges_due ON charges (due)",
    """CREATE INDEX charges_untaken ON charges (mta, made)
        WHERE taken_up = 0 AND principal IS NOT NULL""",
    """CREATE TABLE blocks (
        id TEXT PRIMARY KEY, subject TEXT NOT NULL, extent TEXT NOT NULL, author TEXT NOT NULL,
        reason TEXT NOT NULL, contact TEXT NOT NULL, start REAL NOT NULL, until REAL,
        version INTEGER NOT NULL, lifted REAL, lifted_by TEXT, lifted_why TEXT)""",
    """CREATE TABLE audit (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, author TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, block TEXT NOT NULL, reason TEXT NOT NULL)""",
    "INSERT INTO meta VALUES (1, 1, 0, '', 0)",
    f"PRAGMA application_id = {APPLICATION_ID}",
)

#: What the tables of an older version lack: version → the statements that lead to it.
STEPS = {
    2: (
        # what is remembered under a key for a while (ledger.marks)
        """CREATE TABLE marks (
            key TEXT NOT NULL, name TEXT NOT NULL, due REAL NOT NULL,
            PRIMARY KEY (key, name)) WITHOUT ROWID""",
        "CREATE INDEX marks_due ON marks (due)",
        "CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL)",
        """CREATE TABLE app_passwords (
            id TEXT PRIMARY KEY, login TEXT NOT NULL, digest BLOB NOT NULL, label TEXT NOT NULL,
            networks TEXT NOT NULL, senders TEXT NOT NULL, made REAL NOT NULL, due REAL, revoked REAL,
            used REAL, used_from TEXT NOT NULL)""",
        "CREATE INDEX app_passwords_login ON app_passwords (login)",
    ),
    3: (
        # what became of limits and blocks (ledger.events)
        """CREATE TABLE events (
            serial INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, subject TEXT NOT NULL,
            at REAL NOT NULL, body TEXT NOT NULL)""",
        "CREATE INDEX events_subject ON events (subject, serial)",
    ),
    4: ("ALTER TABLE blocks ADD COLUMN terms TEXT NOT NULL DEFAULT ''",),  # of a grant (ledger.grants)
}


def prepare(connection: Connection) -> None:
    """Make the tables in an empty database, bring older ones of ours up to date, refuse any other database
    (WrongSchema).

    One transaction, so that two processes that start at once make them once.
    """
    if _version(connection) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        statements = list(TABLES) if version == 0 else []
        for step in range(version + 1, VERSION + 1):
            statements += STEPS.get(step, ())
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: Connection) -> int:
    """0 for an empty database, else its version."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION_ID:
        if version > VERSION:
            raise WrongSchema(
                f"it was made by a newer Submitward (schema {version}, this one knows {VERSION})"
            )
        return version
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise WrongSchema("it is another program's database")
    return 0
