"""Which key signs for whom, out of the tables and the keys on this host.

Knows where the settings say that they are. Must not know what the DNS shows, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import idna

from milter.settings import SignSettings
from milter.tables import OF_THE_AUTHOR, Key, TableError, Tables, parse_tables
from submitward.dkim.keyfile import KeyTrouble, PublicHalf, parse_public, read_public
from submitward.findings import Finding, error, unavailable, warning

#: A local part that is asked about where nobody's is known.
ANYBODY = "postmaster"


class NoTables(Exception):
    """The tables cannot be used; `findings` say why."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__(findings[0].text)
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Signing:
    """A key that signs for authors of a domain: its line, with the d= that results, and `author`, one of
    those it signs for."""

    name: str
    key: Key
    author: str


def read_tables(sign: SignSettings) -> Tables:
    """Both tables. Raises NoTables."""
    if sign.key_table is None or sign.signing_table is None:
        text = "the settings name no tables, so nothing is known of keys"
        raise NoTables(error("sign", text, "set sign.key_table and sign.signing_table", "no_tables"))
    texts = []
    for path in (sign.key_table, sign.signing_table):
        try:
            texts.append(path.read_text("utf-8"))
        except OSError as wrong:
            raise NoTables(
                unavailable(str(path), f"cannot be read: {wrong.strerror}", "run as root?")
            ) from None
        except UnicodeDecodeError:
            raise NoTables(error(str(path), "is no text in UTF-8", "write it anew", "bad_table")) from None
    try:
        return parse_tables(*texts)
    except TableError as wrong:
        places = {"KeyTable": sign.key_table, "SigningTable": sign.signing_table}
        raise NoTables(*(_mistake(mistake, places) for mistake in wrong.mistakes)) from None


def _mistake(text: str, places: dict[str, Path]) -> Finding:
    table, line, what = text.split(":", 2)
    mend = "mend the line; until then every message is deferred, and OpenDKIM must not be reloaded"
    return error(f"{places[table]}:{line}", what.strip(), mend, "bad_table")


def signings(tables: Tables, domain: str, local_parts: Iterable[str]) -> Iterator[Signing | str]:
    """Each key that signs for one of the authors at `domain`, once; an author whom none signs for as text."""
    seen: set[str | None] = set()
    for local in local_parts:
        author = f"{local}@{domain}"
        name = tables.key_name(author)
        if name in seen:
            continue
        seen.add(name)
        yield author if name is None else Signing(name, _resolved(tables.keys[name], domain), author)


def _resolved(key: Key, domain: str) -> Key:
    return replace(key, domain=domain) if key.domain == OF_THE_AUTHOR else key


def unicode_form(domain: str) -> str:
    """The domain as people write it; the same when it has no other form."""
    try:
        return idna.decode(domain)
    except idna.IDNAError:
        return domain


def public_half(key: Key) -> PublicHalf | Finding:
    """The public half of a key of the table, or what is wrong with it."""
    where = f"KeyTable:{key.line}"
    try:
        if not key.path.startswith(("/", ".")):
            return parse_public(key.path.encode("ascii"))
        return read_public(Path(key.path))
    except PermissionError:
        return unavailable(key.path, "cannot be read", "run as root, or as the user who signs", "unreadable")
    except (OSError, KeyTrouble) as wrong:
        said = wrong.strerror if isinstance(wrong, OSError) else str(wrong)
        text = f"{said} ({where}): each message that it should sign is deferred"
        return error(key.path, text, "put the key back, or make another: submitward dkim new", "bad_key")


def judge_signing(domain: str, signing: Signing | str) -> Iterator[Finding]:
    """Whether what signs for `domain` is its own key."""
    if isinstance(signing, str):
        text = f"no line of the SigningTable is for {signing}: such mail is refused and not sent unsigned"
        yield error(domain, text, f"submitward dkim new {domain}", "no_signing_line")
    elif signing.key.domain != domain:
        text = (
            f"{signing.author} would be signed with d={signing.key.domain}: the author check defers such mail"
        )
        yield error(domain, text, f"give it a key of its own: submitward dkim new {domain}", "foreign_key")


def judge_unicode(tables: Tables, domain: str) -> Iterator[Finding]:
    """Whether the domain is signed for as SMTPUTF8 writes it, too."""
    other = unicode_form(domain)
    if other != domain and tables.key_name(f"{ANYBODY}@{other}") is None:
        text = f"mail From …@{other} (SMTPUTF8) has no line in the SigningTable and is deferred"
        line = f"*@{other} {tables.key_name(f'{ANYBODY}@{domain}')}"
        yield warning(domain, text, f"add to the SigningTable: {line}", "no_unicode_line")
