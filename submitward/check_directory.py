"""The walk through an LDAP directory for `submitward check`: each step, as far as the steps before it allow.

Knows what each step tells and how it is mended. Must not know LDAP's messages.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

from directory.drafts import Reading
from directory.identity import Unavailable
from directory.ldap_settings import LdapSettings
from directory.once import Once
from directory.people import login_of
from directory.servers import Server
from directory.troubles import Puzzling
from submitward.findings import Finding, error, good, warning

ENDS_SOON = 14 * 86400.0  # seconds before the end of a certificate


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
    yield _secured(once, where)
    once.bind_as_service()
    yield good(where, f"bound as {once.settings.bind_dn or 'nobody (anonymous)'}")
    once.has_base()
    yield good(where, f"{once.settings.base} is there")
    once.has_group()
    yield from _sample(once, where)
    background = once.background()
    yield good(
        where, f"{len(background.roll.principals)} hosts, {_aliases(background.reading)} aliases of domains"
    )
    for note in background.notes:
        yield error(where, note, "mend the entry; what is wrong in it counts for nothing")
    yield _unauthenticated(once, where)


def _secured(once: Once, where: str) -> Finding:
    found = once.secured()
    if found is None:
        return warning(where, "connected in CLEAR TEXT: passwords can be read on the way", "use ldaps://")
    how = " after StartTLS" if once.server.tls == "starttls" else ""
    date = time.strftime("%Y-%m-%d", time.gmtime(found.until))
    names = ", ".join(found.names)
    text = f"connected over {found.version}{how}; the certificate is for {names}, good until {date}"
    if found.until - time.time() < ENDS_SOON:
        return warning(where, text, "have it renewed: after that day every login is put off with 454")
    return good(where, text)


def _aliases(reading: Reading) -> int:
    return sum(len(names) for names in reading.aliases.values())


def _sample(once: Once, where: str) -> Iterator[Finding]:
    entry = once.sample()
    if entry is None:
        yield error(
            where,
            "the filter users finds nobody",
            "look at base, the preset and the service account's rights",
        )
        return
    shape, dn = once.searches.shape, entry.dn
    values = {name: len(entry.texts((name,))) for name in shape.wanted}
    seen = ", ".join(f"{name} ({count})" for name, count in values.items() if count) or "nothing"
    needed = [shape.names("login"), shape.names("mailboxes", "aliases", "proxies")]
    lacking = [names for names in needed if not any(values[name] for name in names)]
    if lacking:
        names = " and ".join(" or ".join(names) for names in lacking)
        yield error(where, f"{dn} shows {seen}, and no {names}", "let the service account read them")
        return
    yield good(where, f"a sample, {dn}, shows {seen}")
    person = once.person(login_of(entry, shape))
    if person is not None:
        yield good(where, f"looked up as {person.name}: one entry, {len(person.addresses)} addresses")
    else:
        yield error(where, f"{dn} is not found by the filter user", "look at filters.user")


def _unauthenticated(once: Once, where: str) -> Finding:
    dn = once.settings.bind_dn or f"cn=nobody,{once.settings.base}"
    if once.accepts_unauthenticated(dn):
        return warning(
            where,
            "it says yes to a name without a password (RFC 4513, 5.1.2); we never ask it, others may",
            "switch unauthenticated binds off at the server",
        )
    return good(where, "it refuses a name without a password")
