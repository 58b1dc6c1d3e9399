"""`submitward auth test LOGIN`: the way of a login through the directory, each step with its time.

Knows the steps and how they are told. Must not know how the directory answers. The password comes from a
prompt or from standard input and is never shown.
"""

from __future__ import annotations

import argparse
import getpass
import json
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from directory.drafts import Reading
from directory.identity import BadLogin, Unavailable, normal_login
from directory.ldap_settings import LdapSettings
from directory.once import Once
from directory.passwords import is_acceptable
from directory.results import judge
from directory.servers import Server
from directory.settings import load_directory_settings, read_directory
from directory.troubles import Puzzling
from sidecar.settings import SettingsError
from submitward import auth_ask, auth_flush

HELP = "try a login against the directory, step by step; ask an auth socket; have a login forgotten"
YES, NO, USAGE, UNAVAILABLE = 0, 1, 2, 75


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what was done, whether it went well, what came of it, and how long it took (ms)."""

    name: str
    status: int
    text: str
    milliseconds: float = 0.0

    def __str__(self) -> str:
        mark = {YES: "ok", NO: "no", UNAVAILABLE: "unavailable"}[self.status]
        return f"{mark:<11} {self.name:<16} {self.milliseconds:7.1f} ms  {self.text}"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=["test", "ask", "flush"])
    parser.add_argument("login")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    auth_ask.arguments(parser)
    auth_flush.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """0 the password is right, 1 it is not or the login may not, 2 settings, 75 it cannot be known now."""
    if options.what == "ask":
        return auth_ask.ask(options, _password())
    try:
        settings = load_directory_settings(options.settings)
    except SettingsError as wrong:
        print(wrong, file=sys.stderr)
        return USAGE
    try:
        login = normal_login(options.login)
    except BadLogin as wrong:
        print(f"submitward auth {options.what}: {wrong}", file=sys.stderr)
        return USAGE
    if options.what == "flush":
        return auth_flush.flush(options, login)
    password = _password()
    if settings.kind == "ldap":
        steps = tuple(_walk(settings.ldap, settings.reading, login, password))
    else:
        steps = tuple(_file(lambda: read_directory(settings), login, password))
    status = steps[-1].status
    if options.json:
        print(json.dumps({"login": login, "status": status, "steps": [asdict(step) for step in steps]}))
    else:
        print("\n".join(map(str, steps)))
    return status


def _password() -> bytes:
    if sys.stdin.isatty():
        return getpass.getpass("Password: ").encode("utf-8", "surrogateescape")
    return sys.stdin.buffer.readline().rstrip(b"\r\n")


def _walk(settings: LdapSettings, reading: Reading, login: str, password: bytes) -> Iterator[Step]:
    """Server after server, until one answers."""
    for server in settings.open_servers():
        answered = False
        for step in _at(settings, reading, server, login, password):
            yield step
            answered = step.status != UNAVAILABLE
        if answered:
            return


class _Watch:
    """Times of steps."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def step(self, name: str, text: str, status: int = YES) -> Step:
        now = time.perf_counter()
        took, self._since = (now - self._since) * 1000, now
        return Step(name, status, text, round(took, 1))


def _at(
    settings: LdapSettings, reading: Reading, server: Server, login: str, password: bytes
) -> Iterator[Step]:
    watch, name = _Watch(), "resolve"
    try:
        found = sorted({str(one[4][0]) for one in socket.getaddrinfo(server.host, server.port)})
        yield watch.step(name, f"{server.host} is {', '.join(found)}")
        name = "connect"
        with Once(settings, reading, server) as once:
            once.connect()
            secured = once.secured()
            yield watch.step(name, f"{server}, {secured.version if secured else 'in CLEAR TEXT'}")
            name = "service account"
            once.bind_as_service()
            yield watch.step(name, settings.bind_dn or "anonymous")
            name = "look-up"
            yield from _person(once, watch, login, password)
    except (Unavailable, Puzzling, OSError) as wrong:
        yield watch.step(name, str(wrong), UNAVAILABLE)


def _person(once: Once, watch: _Watch, login: str, password: bytes) -> Iterator[Step]:
    person = once.person(login)
    if person is None:
        yield watch.step("look-up", f"nobody is found for {login}", NO)
        return
    yield watch.step("look-up", f"{person.dn}, login {person.name}")
    if not is_acceptable(password):
        yield watch.step("bind", "the password is empty, too long or holds NUL: it is not sent", NO)
        return
    reason = judge(once.check(person.dn, password))
    if reason is not None:
        yield watch.step("bind", f"refused: {reason}", NO)
        return
    yield watch.step("bind", "the password is right")
    if person.stopped is not None:
        yield watch.step("account", f"may not log in: {person.stopped}", NO)
        return
    if not person.terms_accepted:
        yield watch.step("terms", f"may log in; mail is refused until terms are accepted: {person.terms_url}")
    if person.puzzle:
        yield watch.step("addresses", person.puzzle, UNAVAILABLE)
        return
    yield watch.step("addresses", f"owns {len(person.addresses)} addresses, plan {person.plan}")


def _file(read: object, login: str, password: bytes) -> Iterator[Step]:
    from directory.passwords import Unjudged, matches

    watch = _Watch()
    try:
        roll = read()  # type: ignore[operator]
    except SettingsError as wrong:
        yield watch.step("directory", str(wrong), UNAVAILABLE)
        return
    principal, encoded = roll.logins.get(login), roll.hashes.get(login)
    if principal is None or encoded is None:
        yield watch.step("look-up", f"{login} has no entry, or no password", NO)
        return
    yield watch.step("look-up", f"login {principal.name}")
    try:
        right = is_acceptable(password) and matches(encoded, password)
    except Unjudged as wrong:
        yield watch.step("password", str(wrong), UNAVAILABLE)
        return
    if not right or principal.disabled:
        yield watch.step("password", "it is disabled" if right else "the password is wrong", NO)
        return
    yield watch.step("password", "the password is right")
