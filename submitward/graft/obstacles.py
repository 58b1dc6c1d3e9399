"""What of a submission service stands in the way of what is wished for, and what an operator ought to know.

Knows parameters of smtpd(8) that go past lists and milters. Must not know where our words are put.
"""

from __future__ import annotations

from collections.abc import Iterator

from .files import MASTER, Reason, Refused, Service
from .rules import refuses_all
from .sites import LISTS, Configuration
from .wish import Wish

_RELAY = "smtpd_relay_restrictions"
_MAPS = "smtpd_milter_maps"


def obstacles(configuration: Configuration, service: Service, wish: Wish) -> Iterator[Reason]:
    """Why the service cannot be plugged in as it is. Raises Refused for what cannot be read."""
    yield from without_milters(configuration, service, wish)
    if wish.hosts:
        yield from _hosts_refused(configuration, service)
    if wish.authentication and not has_tls(configuration, service) and not _is_local(configuration, service):
        level = configuration.site(service, "smtpd_tls_security_level").value
        where, line = (level.file, level.line) if level else (MASTER, service.line)
        why = (
            f"smtpd_tls_security_level: {service.key} has no TLS, and without it no login is let in: all"
            " would fail. Give it -o smtpd_tls_security_level=encrypt and a certificate, or leave logins to"
            " your own server (--no-authentication, in Ansible submitward_postfix_authentication: false)"
        )
        yield Reason(where, line, why)


def notes(configuration: Configuration, service: Service, wish: Wish) -> Iterator[str]:
    """What is or will be otherwise on this service than anybody may think."""
    when = "with enforce" if wish.observe else "from now on"
    if wish.authentication and (said := configuration.says_yes(service, "smtpd_sasl_auth_enable")):
        yield (
            f"{said.file}:{said.line}: {service.key} has let logins in so far; saslauthd judges them {when},"
            " so that everybody has to be in the directory. To leave them to your own server:"
            " --no-authentication, in Ansible submitward_postfix_authentication: false"
        )
    relay = configuration.site(service, _RELAY).value
    if wish.hosts and relay is not None and relay.text:
        yield (
            f"{relay.file}:{relay.line}: {_RELAY}: {service.key} gets ours instead {when}: logins,"
            " certificates and networks of the directory, and nobody else"
        )
    maps = configuration.site(service, _MAPS).value
    if maps is not None and maps.text and (wish.milter or wish.signer):
        yield (
            f"{maps.file}:{maps.line}: {_MAPS}: for a client in these tables {service.key} asks the milters"
            f" named there, and not ours; name ours there too, or put -o {_MAPS}= into {service.key}"
        )
    if wish.authentication and not has_tls(configuration, service):
        yield (
            f"{MASTER}:{service.line}: {service.key} has no TLS: logins go on without it, since nobody but"
            " this host gets there"
        )


def logins_elsewhere(configuration: Configuration, service: Service) -> Iterator[str]:
    """A service that is not plugged in and offers AUTH: a way past all that we judge. It stays as it is."""
    name = "smtpd_sasl_auth_enable"
    try:
        value = configuration.says_yes(service, name)
    except Refused as refused:  # it is not ours to refuse it there
        place = f"{refused.reasons[0].file}:{refused.reasons[0].line}"
        offers = f"may offer AUTH ({name} is neither yes nor no)"
    else:
        if value is None:
            return
        place, offers = f"{value.file}:{value.line}", f"offers AUTH ({name} = yes)"
    ways = f"put -o {name}=no under {service.name} in master.cf"
    if not service.takes_from_all:
        ways += f", or plug it in too (--service {service.key}, in Ansible submitward_postfix_services)"
    yield (
        f"{place}: {service.key} {offers} and does not ask Submitward: who logs in there sends as anybody,"
        f" without a limit; {ways}"
    )


def without_milters(configuration: Configuration, service: Service, wish: Wish) -> Iterator[Reason]:
    """What keeps messages from our milters."""
    lost = [
        what
        for what, wanted in (("judge the author", wish.milter), ("sign", wish.signer))
        if wanted
    ]  # fmt: skip
    for name, word in (("smtpd_proxy_filter", ""), ("receive_override_options", "no_milters")):
        value = configuration.site(service, name).value
        if lost and value is not None and value.text and word in value.text.lower():
            why = (
                f"{name}: with {word or 'a proxy'} no milter sees what {service.key} takes in, and nobody"
                f" would {' and '.join(lost)}. Say it with -o on other services alone, or plug in no milter"
                " (--no-milter and no --signer; in Ansible submitward_postfix_milter: false and"
                " submitward_opendkim: false)"
            )
            yield Reason(value.file, value.line, why)


def has_tls(configuration: Configuration, service: Service) -> bool:
    """Whether it offers TLS, by any of the four parameters that can say so."""
    if configuration.says_yes(service, "smtpd_tls_wrappermode"):
        return True
    level = configuration.site(service, "smtpd_tls_security_level").value
    if level is not None and level.text:
        return level.text.lower() != "none"
    older = ("smtpd_use_tls", "smtpd_enforce_tls")
    return any(configuration.says_yes(service, name) for name in older)


def _is_local(configuration: Configuration, service: Service) -> bool:
    """Whether this host alone can reach it."""
    host = service.name.rpartition(":")[0]
    if host:
        return is_loopback(host)
    value = configuration.parameters.get("inet_interfaces")
    return value is not None and bool(value.words) and all(is_loopback(word.text) for word in value.words)


def is_loopback(host: str) -> bool:
    """Whether a name or address, as master.cf and inet_interfaces have it, is this host's alone."""
    host = host.strip("[]").lower()
    return host in ("localhost", "loopback-only", "::1") or host.startswith("127.")


def _hosts_refused(configuration: Configuration, service: Service) -> Iterator[Reason]:
    """A `reject` of the host's own, ahead of ours, would leave logins alone a chance."""
    for name in LISTS:
        value = configuration.site(service, name).value
        if name == _RELAY or value is None:
            continue
        if refuses_all([word.text for word in value.words], configuration.names(service)):
            why = (
                f"{name}: {service.key} refuses here whoever has no login, certificates and networks of"
                " the directory too; make a submission service of its own for them, or take the refusal"
                f" out ({_RELAY} will end in reject)"
            )
            yield Reason(value.file, value.line, why)
