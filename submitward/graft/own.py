"""A submission service of our own, on a host that has none.

Knows the entry as it is written into master.cf. Must not know the lists of other services: it inherits none.
"""

from __future__ import annotations

from collections.abc import Iterator

from .files import MAIN, MASTER, Reason, is_mx, services
from .marks import PREFIX
from .sites import Configuration
from .wish import MILTER, SIGNER, Wish, own_options

OWN_MILTERS = f"{PREFIX}own_milters"
_ANY = {"", "0.0.0.0", "::"}  # noqa: S104
_CERTIFICATES = ("smtpd_tls_cert_file", "smtpd_tls_chain_files", "smtpd_tls_eccert_file")


def own_milters(wish: Wish) -> str:
    """The author milter, then the signer."""
    return ", ".join(f"${our}" for our, wanted in ((MILTER, wish.milter), (SIGNER, wish.signer)) if wanted)


def cannot_make(configuration: Configuration, name: str) -> Iterator[Reason]:
    """Why there cannot be a service of that name."""
    if is_mx(name):
        yield Reason(MASTER, 0, f"{name} is the MX port: make a submission service, such as submission")
    for service in services(configuration.master):
        if service.kind != "inet" or not _ports(service.name) & _ports(name):
            continue
        same = _host(service.name) == _host(name)
        if not service.is_smtpd and (same or _ANY & {_host(service.name), _host(name)}):
            why = (
                f"{service.key} ({service.command}) has the port that {name} is to have: Postfix would end."
                " Make one at another port, or take that entry out"
            )
            yield Reason(MASTER, service.line, why)
        elif same:
            why = f"{service.key} is here already; name it as an existing service instead of making one"
            yield Reason(MASTER, service.line, why)
        elif _ANY & {_host(service.name), _host(name)}:
            why = (
                f"{service.key} has this port at another address than {name}, and one of the two means all of"
                " them: Postfix would end. Name it as an existing service, or make one with an address"
            )
            yield Reason(MASTER, service.line, why)
    if not any(configuration.follow(parameter) for parameter in _CERTIFICATES):
        why = "there is no certificate (smtpd_tls_cert_file, smtpd_tls_chain_files), and submission needs TLS"
        yield Reason(MAIN, 0, why)


def entry(configuration: Configuration, wish: Wish, name: str) -> Iterator[str]:
    """Its lines in master.cf, chrooted when the other services are."""
    column = next((service.chroot for service in configuration.services if service.kind == "inet"), "-")
    yield f"{name} inet n - {column} - - smtpd"
    yield f"  -o syslog_name=postfix/{'submissions' if name in wish.wrapped else 'submission'}"
    for parameter, ours in own_options(wish, name).items():
        yield f"  -o {parameter}=${ours}"
    yield f"  -o smtpd_milters=${OWN_MILTERS}"


def _host(name: str) -> str:
    host = name.rpartition(":")[0].strip("[]")
    return "" if host in _ANY else host


def _ports(name: str) -> set[str]:
    """A service's port by every name."""
    port = name.rpartition(":")[2]
    pairs = ({"submission", "587"}, {"submissions", "smtps", "465"})
    return {port}.union(*(pair for pair in pairs if port in pair))
