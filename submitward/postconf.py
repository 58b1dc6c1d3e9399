"""Postfix's own configuration, read through postconf(1): never changed, never parsed by us where Postfix can
do it.

Knows postconf's options and which parameters are of interest. Must not know what a value ought to be.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

_WHOLE = (
    "allow_percent_hack",
    "config_directory",
    "mail_owner",
    "mail_version",
    "milter_default_action",
    "non_smtpd_milters",
    "queue_directory",
    "swap_bangpath",
)
_OF_A_SERVICE = (
    "inet_interfaces",
    "milter_default_action",
    "milter_macro_daemon_name",
    "smtpd_client_restrictions",
    "smtpd_data_restrictions",
    "smtpd_end_of_data_restrictions",
    "smtpd_helo_restrictions",
    "smtpd_milters",
    "smtpd_policy_service_default_action",
    "smtpd_recipient_restrictions",
    "smtpd_relay_restrictions",
    "smtpd_restriction_classes",
    "smtpd_sasl_auth_enable",
    "smtpd_sasl_path",
    "smtpd_sasl_type",
    "smtpd_sender_restrictions",
    "smtpd_tls_auth_only",
    "smtpd_tls_fingerprint_digest",
    "smtpd_tls_security_level",
    "smtpd_tls_wrappermode",
    "strict_rfc821_envelopes",
)


class Unreadable(Exception):
    """Postfix's configuration cannot be read now; the text is postconf's own."""


@dataclass(frozen=True, slots=True)
class Service:
    """One smtpd service of master.cf: its values with its own -o options applied and every $name expanded."""

    name: str
    chroot: bool
    values: Mapping[str, str]
    classes: Mapping[str, str]

    def __getitem__(self, parameter: str) -> str:
        return self.values.get(parameter, "")

    def says(self, parameter: str) -> bool:
        """Whether a yes/no parameter is yes."""
        return self[parameter].lower() == "yes"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What `submitward check` looks at: parameters of the whole host, and its smtpd services."""

    directory: str
    values: Mapping[str, str]
    services: tuple[Service, ...]

    def __getitem__(self, parameter: str) -> str:
        return self.values.get(parameter, "")


def read(directory: str = "") -> Configuration:
    """Read the configuration in `directory`, Postfix's default one if empty. Raises Unreadable."""
    place = ("-c", directory) if directory else ()
    options = _options(place)
    services = []
    for line in _ask(*place, "-M").splitlines():
        words = line.split(None, 7)
        if len(words) < 8 or words[7].split()[0] != "smtpd":
            continue
        name = f"{words[0]}/{words[1]}"
        services.append(_service(place, name, words[4], options.get(name, ())))
    return Configuration(directory or "the default", _values(place, (), _WHOLE), tuple(services))


def _service(place: tuple[str, ...], name: str, chroot: str, options: tuple[str, ...]) -> Service:
    values = _values(place, options, _OF_A_SERVICE)
    names = tuple(values["smtpd_restriction_classes"].replace(",", " ").split())
    classes = _values(place, options, names) if names else {}
    return Service(name, _is_chrooted(place, chroot), values, classes)


def _is_chrooted(place: tuple[str, ...], column: str) -> bool:
    """``-`` means yes below compatibility level 1 (master(5))."""
    if column != "-":
        return column == "y"
    level = _values(place, (), ("compatibility_level",)).get("compatibility_level", "0")
    return level.split(".")[0].strip() in ("", "0")


def _options(place: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The -o options of each service, as ``name=value``."""
    found: dict[str, tuple[str, ...]] = {}
    for line in _ask(*place, "-P").splitlines():
        key, _, value = line.partition(" = ")
        service, _, parameter = key.strip().rpartition("/")
        option = f"{parameter}={value.strip()}"
        found[service] = (*found.get(service, ()), option)
    return found


def _values(place: tuple[str, ...], options: tuple[str, ...], names: tuple[str, ...]) -> dict[str, str]:
    """Parameters with their $names expanded; one that this Postfix does not know is left out."""
    overrides = [word for option in options for word in ("-o", option)]
    pairs = (line.partition(" =") for line in _ask(*place, "-x", *overrides, *names).splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _ask(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["postconf", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreadable(f"postconf cannot be run: {error}") from None
    if done.returncode:
        raise Unreadable((done.stderr.strip() or "postconf failed").splitlines()[-1])
    return done.stdout
