"""`submitward check`: the settings, the stores, the sockets as Postfix sees them, and Postfix's own files.

Knows the order of looking and how it is told. Must not know what is right or wrong with any of it. Nothing is
changed, in Postfix or anywhere else.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path

from directory.file import read_file
from directory.identity import Principal
from ledger.bookfile import open_book
from ledger.charges import Unavailable
from ledger.desk import open_desk
from policyd.scopes import DEFAULT
from sidecar.listen import Listener
from sidecar.settings import SettingsError, digest
from submitward import attachments, copied, postconf, wiring
from submitward.check_directory import look_at_ldap
from submitward.dkim.signer import NoTables, read_tables
from submitward.findings import SETTINGS, Finding, exit_status, format_json, format_text
from submitward.reach import reach
from submitward.restrictions import locate
from submitward.serve import SIDECARS
from submitward.settings import Settings, load_settings
from submitward.wiring import Ours

HELP = "look at settings, sockets, stores and Postfix's configuration, and say what to mend"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--postfix", default="", metavar="DIR", help="Postfix's configuration directory; default: postconf's"
    )
    less = parser.add_mutually_exclusive_group()
    less.add_argument(
        "--directory",
        type=Path,
        metavar="FILE",
        help="read FILE in the place of directory.file.path, and look no further",
    )
    less.add_argument(
        "--settings-only",
        nargs="?",
        const="all",
        choices=["all", *SIDECARS],
        metavar="SIDECAR",
        help="read the settings as SIDECAR does, or all of them, and look no further",
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=["policyd", "milter"],
        help="Postfix leaves this one out on purpose: warn where it is missing; may be given twice",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Look at everything. 0 nothing wrong (warnings too), 1 errors, 2 settings, 75 it cannot be seen now."""
    try:
        if options.settings_only in SIDECARS:
            # A sidecar can read its own secrets only: its sections are all that it is asked about.
            door = importlib.import_module(f"{options.settings_only}.settings")
            findings: tuple[Finding, ...] = (
                _good_settings(options.settings, door.load_settings(options.settings)),
            )
        else:
            settings = load_settings(options.settings)
            findings = (_good_settings(options.settings, settings),)
    except SettingsError as wrong:
        if options.json:
            print(format_json([Finding("error", "settings", str(problem)) for problem in wrong.problems]))
        else:
            print(wrong, file=sys.stderr)
        return SETTINGS
    if options.directory:
        findings = (*findings, *look_at_directory(settings, options.directory))
    elif not options.settings_only:
        findings = (*findings, *look(settings, options.postfix, options.without))
    print(format_json(findings) if options.json else format_text(findings))
    return exit_status(findings)


def _good_settings(path: str | Path, settings: object) -> Finding:
    return Finding("ok", str(path), f"the settings are good (digest {digest(settings)})")


def look(settings: Settings, postfix: str, without: Collection[str] = ()) -> Iterator[Finding]:
    """Every finding about what the settings name, in the order in which things depend on each other.

    `without`: sidecars that Postfix is not meant to ask.
    """
    if settings.directory.kind == "ldap":
        yield from look_at_ldap(settings.directory.ldap, settings.directory.reading)
    else:
        yield from look_at_directory(settings, settings.directory.file.path)
    yield look_at_ledger(settings)
    if settings.sign.key_table is not None:
        yield from look_at_signing(settings)
    try:
        configuration = postconf.read(postfix)
    except postconf.Unreadable as error:
        yield from look_at_sockets(settings, "postfix")
        yield Finding("unavailable", "Postfix", str(error), "is it installed, and is --postfix right?")
        return
    yield from look_at_sockets(settings, configuration["mail_owner"] or "postfix")
    yield from look_at_postfix(configuration, ours(settings, without))


def look_at_directory(settings: Settings, file: Path) -> Iterator[Finding]:
    """Whether the principals in `file` can be read, and have plans that there are."""
    try:
        roll = read_file(file, settings.directory.reading)
    except SettingsError as error:
        yield Finding("error", str(file), str(error), "the last good file stays in force until this one is")
        return
    yield Finding("ok", str(file), f"{len(roll.principals)} principals")
    missing: dict[str, list[str]] = {}
    for principal in roll.principals:
        if principal.plan not in settings.plans:
            missing.setdefault(principal.plan, []).append(principal.subject)
    for plan, subjects in missing.items():
        yield _no_plan(str(file), plan, subjects, settings)
    yield from _for_nobody(str(file), roll.principals, settings)


def _for_nobody(file: str, principals: tuple[Principal, ...], settings: Settings) -> Iterator[Finding]:
    """Plans that the settings give to a domain or a group that nobody has."""
    by, homes = settings.directory.plans, {principal.domain for principal in principals}
    groups = {group for principal in principals for group in principal.groups}
    named = [("limits.domains", name, homes, "is at home there") for name in settings.limits.domains]
    named += [("directory.plans.domains", name, homes, "is at home there") for name in by.domains]
    named += [("directory.plans.groups", name, groups, "is in it") for name in by.groups]
    for key, name, known, what in named:
        if name not in known and name != DEFAULT:
            near = get_close_matches(name, known, 1)
            advice = f"did you mean {near[0]}?" if near else "look at its spelling, or remove it"
            yield Finding("warning", file, f"{key}: {name}: nobody {what}", advice)


def _no_plan(file: str, plan: str, subjects: list[str], settings: Settings) -> Finding:
    more = f" and {len(subjects) - 1} more" if len(subjects) > 1 else ""
    text = f"{subjects[0]}{more}: the settings have no plan {plan!r}, so every message of theirs is deferred"
    near = get_close_matches(plan, settings.plans, 1)
    meant = f"did you mean {near[0]}? Else " if near else ""
    return Finding(
        "error", file, text, f"{meant}add it under plans, which has: {', '.join(settings.plans) or 'none'}"
    )


OPENS = "the ledger opens"


def look_at_ledger(settings: Settings) -> Finding:
    """Whether the ledger opens. One that is not there yet is not made here: it would belong to us."""
    file = settings.ledger.sqlite.path
    if not file.exists():
        return Finding("warning", str(file), "there is no ledger yet; policyd makes it when it starts")
    try:
        with open_book(file):
            pass
    except Unavailable as error:
        return Finding("unavailable", str(file), str(error))
    return look_at_redis(settings) if settings.ledger.kind == "redis" else Finding("ok", str(file), OPENS)


def look_at_redis(settings: Settings) -> Finding:
    """Whether Redis serves, and is one that limits can be kept in."""
    redis = settings.ledger.redis
    place = ", ".join(redis.sentinel.servers) or redis.url
    try:
        with open_desk(settings.ledger) as desk:
            if desk.away:
                return Finding("unavailable", place, desk.away)
    except Unavailable as error:
        return Finding("unavailable", place, str(error))
    return Finding("ok", place, OPENS)


def look_at_signing(settings: Settings) -> Iterator[Finding]:
    """Whether the signer's tables can be used; `submitward dkim tables` looks at their keys too."""
    try:
        tables = read_tables(settings.sign)
    except NoTables as none:
        yield from none.findings
        return
    place = f"{settings.sign.key_table}, {settings.sign.signing_table}"
    yield Finding("ok", place, f"{len(tables.keys)} keys, {len(tables.lines)} patterns")


def look_at_sockets(settings: Settings, user: str) -> Iterator[Finding]:
    """Each listener, as the user that Postfix runs as."""
    listen = settings.listen
    for listener in (*listen.policy, *listen.auth, *listen.milter):
        yield reach(listener, user)


def look_at_postfix(configuration: postconf.Configuration, mine: Ours) -> Iterator[Finding]:
    """Postfix's own configuration."""
    yield from attachments.judge_host(configuration, mine)
    yield from copied.judge(configuration["config_directory"])
    queue = configuration["queue_directory"]
    if not configuration.services:
        yield Finding("error", "master.cf", "there is no smtpd service", "is --postfix right?")
    for service in configuration.services:
        yield from wiring.judge(service, mine, queue)
        yield from attachments.judge(service, mine, queue)


def ours(settings: Settings, without: Collection[str] = ()) -> Ours:
    """What Postfix must meet, out of the settings; `without`: sidecars that it is not meant to ask."""

    def places(listeners: tuple[Listener, ...]) -> frozenset[str]:
        return frozenset(locate(listener.address, "/", chroot=False) for listener in listeners)

    listen = settings.listen
    return Ours(
        policy=places(listen.policy),
        auth=places(listen.auth),
        milter=places(listen.milter),
        charge=settings.policy.charge,
        author="off" if "milter" in without else settings.author.mode,
        enforces=any(mode == "enforce" for _, mode in settings.policy.ordered),
        asked="policyd" not in without,
    )
