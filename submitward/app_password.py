"""`submitward app-password`: credentials of a login beside the directory's password.

Knows how one is made, shown once, listed and revoked. Must not know how AUTH judges it.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from directory.address import Malformed
from directory.identity import normal_login
from directory.ownership import parse_entry
from directory.roll import parse_network
from ledger.app_passwords import (
    ID_LENGTH,
    ID_LETTERS,
    LABEL_MAX,
    SECRET_OCTETS,
    AppPassword,
    digest_of,
    format_app_password,
)
from policyd.settings import Settings
from sidecar.settings import duration
from submitward.bookkeeping import DONE, NO, Answer, Refused, answer, author, moment, the_book
from submitward.targets import argument

HELP = "make, list or revoke an app password: a credential of a login that the directory knows nothing of"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="make one; it is shown once and can never be shown again")
    shown = actions.add_parser("list", help="what there is, and when and from where each was used last")
    revoke = actions.add_parser("revoke", help="make one invalid, at once and for good")
    for action in (add, shown, revoke):
        action.add_argument("login", type=argument(normal_login), metavar="LOGIN")
        action.add_argument("--json", action="store_true", help="print one JSON object")
    revoke.add_argument("id", metavar="ID", help="the part of it before the dot")
    add.add_argument("--label", default="", type=argument(_label), help="what it is for, such as `phone`")
    add.add_argument("--for", dest="span", type=argument(duration), metavar="TIME", help="such as `90 days`")
    add.add_argument("--network", action="append", default=[], type=argument(_network), metavar="CIDR")
    add.add_argument("--sender", action="append", default=[], metavar="ADDRESS", help="it may use only these")


def run(options: argparse.Namespace) -> int:
    """0 done, 1 there is none such, 2 usage or settings, 75 unavailable."""
    work = {"add": add, "list": listed, "revoke": revoke}[options.action]
    return answer(options, lambda settings: work(settings, options))


def add(settings: Settings, options: argparse.Namespace) -> Answer:
    """Make one and show it. Whether the directory knows the login is not asked: it may be away."""
    if options.span is not None and options.span <= 0:
        raise Refused("--for needs more than nothing")
    try:
        senders = tuple(str(parse_entry(text, settings.directory.addresses)) for text in options.sender)
    except Malformed as wrong:
        raise Refused(f"--sender: {wrong}") from None
    secret = secrets.token_bytes(SECRET_OCTETS)
    end = None if options.span is None else time.time() + options.span
    with the_book(settings) as book:
        key = book.secret("app-passwords")
        kept = False
        while not kept:
            id = "".join(secrets.choice(ID_LETTERS) for _ in range(ID_LENGTH))
            one = AppPassword(
                id,
                options.login,
                digest_of(secret, key),
                options.label,
                tuple(options.network),
                senders,
                end=end,
            )
            kept = book.keep_app_password(one, author())
    text = format_app_password(id, secret)
    if sys.stderr.isatty():
        print("Write it down now: it is not kept and cannot be shown again.", file=sys.stderr)
    return Answer(DONE, {"login": options.login, "id": id, "app_password": text}, (text,))


def listed(settings: Settings, options: argparse.Namespace) -> Answer:
    """Every app password of the login."""
    with the_book(settings) as book:
        kept = book.app_passwords_of(options.login)
    now = time.time()
    lines = [f"{options.login}: {len(kept)} app password{'' if len(kept) == 1 else 's'}"]
    lines += [f"  {in_words(one, now)}" for one in kept]
    return Answer(
        DONE, {"login": options.login, "app_passwords": [in_json(one, now) for one in kept]}, tuple(lines)
    )


def in_words(one: AppPassword, now: float) -> str:
    """One line about one of them."""
    words = [one.id, one.label or "-", f"made {moment(one.made)}"]
    if one.revoked is not None:
        words.append(f"revoked {moment(one.revoked)}")
    elif one.end is not None:
        words.append(f"{'ends' if one.holds(now) else 'ended'} {moment(one.end)}")
    words.append(
        f"last used {moment(one.used)} from {one.used_from}" if one.used is not None else "never used"
    )
    if one.networks:
        words.append(f"from {' '.join(one.networks)} only")
    if one.senders:
        words.append(f"as {' '.join(one.senders)} only")
    return ", ".join(words)


def in_json(one: AppPassword, now: float) -> dict[str, object]:
    """The same for programs; times in epoch seconds."""
    names = ("id", "label", "networks", "senders", "made", "end", "revoked", "used", "used_from")
    return {name: getattr(one, name) for name in names} | {"holds": one.holds(now)}


def revoke(settings: Settings, options: argparse.Namespace) -> Answer:
    """Revoke one; AUTH refuses it at once, and open sessions that it narrowed own nothing any more."""
    with the_book(settings) as book:
        revoked = book.revoke_app_password(options.login, options.id, author())
    if not revoked:
        raise Refused(f"{options.login} has no app password {options.id} that holds", NO)
    return Answer(
        DONE, {"login": options.login, "id": options.id, "revoked": True}, (f"{options.id}: revoked",)
    )


def _label(text: str) -> str:
    if len(text) > LABEL_MAX or not text.isprintable():
        raise ValueError(f"at most {LABEL_MAX} characters, on one line and printable")
    return text


def _network(text: str) -> str:
    return str(parse_network(text))
