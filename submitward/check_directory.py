"""The walk through an LDAP directory for `submitward check`: each step, as far as the steps before it allow.

Knows what each step tells and how it is mended. Must not know LDAP's messages.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

from directory.drafts import Reading
from directory.identity import Unavailable
from directory.ldap_settings import LdapSettings
from directory.once import Once
from directory.servers import Server
from directory.troubles import Puzzling
from submitward.findings import Finding, error, good, warning


def look_at_ldap(settings: LdapSettings, reading: Reading) -> Iterator[Finding]:
    """Walk every server, from its name to what it says to a name without a password."""
    try:
        servers = settings.open_servers()
    except (OSError, ValueError) as wrong:
        yield error("directory.ldap", f"TLS: {wrong}", "let ca_file name the PEM file of your CA")
        return
    for server in servers:
        yield from _walk(settings, reading, server)


def _walk(settings: LdapSettings, reading: Reading, server: Server) -> Iterator[Finding]:
    where = str(server)
    try:
        found = {
            str(one[4][0]) for one in socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
        }
        yield good(where, f"{server.host} is {', '.join(sorted(found))}")
        with Once(settings, reading, server) as once:
            yield from _steps(once, where)
    except OSError as wrong:
        yield Finding("unavailable", where, f"{server.host} cannot be resolved: {wrong}", "look at DNS")
    except Puzzling as wrong:
        yield error(where, str(wrong), "mend the entry; until then its login is put off")
    except Unavailable as wrong:
        yield Finding("unavailable", where, str(wrong), "logins are put off with 454 while it is so")


def _steps(once: Once, where: str) -> Iterator[Finding]:
    once.connect()
    how = {"ldaps": "over TLS", "starttls": "over TLS after StartTLS", "none": "in CLEAR TEXT"}[
        once.server.tls
    ]
    if once.server.tls == "none":
        yield warning(where, f"connected {how}: passwords can be read on the way", "use ldaps://")
    else:
        yield good(where, f"connected {how}; certificate and name are right")
    once.bind_as_service()
    yield good(where, f"bound as {once.settings.bind_dn or 'nobody (anonymous)'}")
    once.has_base()
    yield good(where, f"{once.settings.base} is there")
    yield from _sample(once, where)
    background = once.background()
    yield good(
        where, f"{len(background.roll.principals)} hosts, {_aliases(background.reading)} aliases of domains"
    )
    for note in background.notes:
        yield error(where, note, "mend the entry; what is wrong in it counts for nothing")
    yield _unauthenticated(once, where)


def _aliases(reading: Reading) -> int:
    return sum(len(names) for names in reading.aliases.values())


def _sample(once: Once, where: str) -> Iterator[Finding]:
    dn, values = once.sample()
    if not dn:
        yield error(
            where,
            "the filter users finds nobody",
            "look at base, the preset and the service account's rights",
        )
        return
    shape = once.searches.shape
    seen = ", ".join(f"{name} ({count})" for name, count in values.items() if count) or "nothing"
    needed = [shape.names("login"), shape.names("mailboxes", "aliases", "proxies")]
    lacking = [names for names in needed if not any(values[name] for name in names)]
    if lacking:
        names = " and ".join(" or ".join(names) for names in lacking)
        yield error(where, f"{dn} shows {seen}, and no {names}", "let the service account read them")
        return
    yield good(where, f"a sample, {dn}, shows {seen}")
    person = once.person(_login(once, dn))
    if person is not None:
        yield good(where, f"looked up as {person.name}: one entry, {len(person.addresses)} addresses")
    else:
        yield error(where, f"{dn} is not found by the filter user", "look at filters.user")


def _login(once: Once, dn: str) -> str:
    """The login of the sample: what its name begins with is good enough, or the filter says so."""
    return dn.partition(",")[0].partition("=")[2].lower()


def _unauthenticated(once: Once, where: str) -> Finding:
    dn = once.settings.bind_dn or f"cn=nobody,{once.settings.base}"
    if once.accepts_unauthenticated(dn):
        return warning(
            where,
            "it says yes to a name without a password (RFC 4513, 5.1.2); we never ask it, others may",
            "switch unauthenticated binds off at the server",
        )
    return good(where, "it refuses a name without a password")
