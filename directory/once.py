"""LDAP for a command that runs once: asked step by step, in the foreground, without cache, threads or retry.

Knows the order in which a directory can go wrong. Must not know how what it found is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType

from directory.bindwire import BindResult, Reader, encode_unauthenticated
from directory.drafts import Reading
from directory.hosts import Background
from directory.identity import Principal, Unavailable
from directory.ldap import Session
from directory.ldap_settings import LdapSettings
from directory.people import Entry, Person
from directory.roll import Roll
from directory.searches import Searches
from directory.servers import Secured, Server
from directory.troubles import Ambiguous, Puzzling, Refused


class Once:
    """One connection to one server, bound as the service; a context manager. All of it raises Unavailable."""

    def __init__(self, settings: LdapSettings, reading: Reading, server: Server) -> None:
        self.settings = settings
        self.server = server
        self.searches = Searches(settings, reading)
        self._session = Session(server)
        self._background: Background | None = None

    def __enter__(self) -> Once:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._session.close()

    def connect(self) -> None:
        """Connect and secure the connection."""
        self._session.connect()

    def bind_as_service(self) -> None:
        """Bind as the service account, if there is one."""
        password = self.settings.password
        if password is not None:
            bind_as_service(self._session, self.settings.bind_dn, password.reveal())

    def background(self) -> Background:
        """Hosts and aliases of domains."""
        if self._background is None:
            searches = self.searches
            self._background = (
                searches.read_background(self._session)
                if searches.has_background
                else searches.static_background()
            )
        return self._background

    def person(self, login: str) -> Person | None:
        """The person behind a login in normal form."""
        return self.searches.find_person(self._session, login, self.background())

    def secured(self) -> Secured | None:
        """What TLS has come to, None without TLS."""
        return self._session.secured()

    def has_group(self) -> None:
        """Raise Refused unless the submission group, if there is to be one, is there and may be read."""
        if self.settings.submission_group:
            self.searches.find_group(self._session)

    def sample(self) -> Entry | None:
        """The first of the people that the filter `users` finds, None when it finds nobody."""
        shape = self.searches.shape
        filter = shape.filters.get("users") or "(objectClass=person)"
        return next(self._session.enumerate(self.settings.base, filter, shape.wanted), None)

    def has_base(self) -> None:
        """Raise Refused unless the base is there and may be read."""
        self._session.search(self.settings.base, "(objectClass=*)", ("1.1",), scope="BASE")

    def check(self, dn: str, password: bytes) -> BindResult:
        """The server's answer to a bind, on a connection of its own."""
        session = Session(self.server)
        try:
            session.connect()
            return session.bind(dn, password, policy=True)
        finally:
            session.close()

    def accepts_unauthenticated(self, dn: str) -> bool:
        """Whether the server says yes to a name without a password (RFC 4513, 5.1.2)."""
        session = Session(self.server)
        try:
            session.connect()
            answer = session.converse(encode_unauthenticated(1, dn), Reader().feed)
        finally:
            session.close()
        return bool(answer) and answer[0].result.code == 0


def bind_as_service(session: Session, dn: str, password: str) -> None:
    """Bind as the service account. Raises Transport, and Refused when the server refuses it."""
    result = session.bind(dn, password.encode())
    if result.code != 0:
        why = f"result {result.code} {result.text[:200]}".strip()
        raise Refused(
            f"{session.server} refuses the service account {dn}: {why}:"
            " nobody can log in until bind_dn and password in the settings are right"
        )


def _first(settings: LdapSettings, reading: Reading, errand: Callable[[Once], object]) -> object:
    """What `errand` finds on the first server that answers. Raises Unavailable."""
    trouble = Unavailable("no LDAP server is listed")
    for server in settings.open_servers():
        try:
            with Once(settings, reading, server) as once:
                once.connect()
                once.bind_as_service()
                return errand(once)
        except Puzzling as wrong:
            raise Unavailable(str(wrong)) from None
        except Unavailable as wrong:
            trouble = wrong
    raise trouble


def read_hosts(settings: LdapSettings, reading: Reading) -> Roll:
    """Every host; logins are not listed. Raises Unavailable."""

    def errand(once: Once) -> Roll:
        background = once.background()
        if background.twice:
            raise Puzzling(f"{', '.join(sorted(background.twice))}: at more than one host")
        return background.roll

    found = _first(settings, reading, errand)
    assert isinstance(found, Roll)
    return found


def find_people(settings: LdapSettings, reading: Reading, logins: Iterable[str]) -> dict[str, Principal]:
    """The people behind logins in normal form, over one connection, without those that there are not and
    those whose entry is wrong. Raises Unavailable."""

    def errand(once: Once) -> dict[str, Principal]:
        found: dict[str, Principal] = {}
        for login in logins:
            try:
                person = once.person(login)
            except (Puzzling, Ambiguous):
                continue
            if person is not None and not person.puzzle:
                found[login] = person
        return found

    people = _first(settings, reading, errand)
    assert isinstance(people, dict)
    return people


def find_person(settings: LdapSettings, reading: Reading, login: str) -> Principal | None:
    """The person behind a login in normal form, None when there is none. Raises Unavailable."""
    found = _first(settings, reading, lambda once: once.person(login))
    assert found is None or isinstance(found, Person)
    if found is not None and found.puzzle:
        raise Unavailable(found.puzzle)
    return found
