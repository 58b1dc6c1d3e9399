"""What an operator wants of the graft, and the parameters of ours that follow from it.

Knows names and values of our own parameters. Must not know where in a file they are named.
"""

from __future__ import annotations

from dataclasses import dataclass

from .marks import PREFIX

POLICY, MX, MILTER, SIGNER = (f"{PREFIX}{name}" for name in ("policy", "policy_mx", "milter", "signer"))
_MILTER_OPTIONS = "connect_timeout=5s, command_timeout=15s, content_timeout=60s"
_AWAY = "{ default_action = 451 4.3.5 The policy service of this relay is away, please try again later }"


@dataclass(frozen=True)
class Wish:
    """What is to be plugged in, and where.

    `services`: submission services that are there (``submission/inet``); empty: those named for submission.
    `own`: submission services to be made, as master.cf names them (``submission``, ``127.0.0.1:587``).
    `wrapped`: those of `own` that begin with TLS. `signer`: OpenDKIM's socket, ``""`` for none of our doing.
    `hosts`: certificates and networks of the directory may relay, by the tables in `tables`.
    `observe`: all mail passes as it did, so what a service has of its own is not taken from it, and a sidecar
    that is away stops nobody.
    """

    services: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    wrapped: tuple[str, ...] = ()
    policy: bool = True
    authentication: bool = True
    milter: bool = True
    hosts: bool = False
    observe: bool = False
    mx: bool = False
    signer: str = ""
    sockets: str = "submitward"
    tables: str = "/var/lib/submitward-export"


def values(wish: Wish) -> dict[str, str]:
    """Every parameter of ours that could be named, in the order in which they are written."""
    policy = f"check_policy_service {{ unix:{wish.sockets}/policy, timeout=10s"
    away = "default_action=DUNNO" if wish.observe else _AWAY
    milter = f"default_action={'accept' if wish.observe else 'tempfail'}, {_MILTER_OPTIONS}"
    return {
        POLICY: f"{policy}, policy_context=submission, {away} }}",
        MX: f"{policy}, policy_context=mx, default_action=DUNNO }}",
        MILTER: f"{{ unix:{wish.sockets}/milter, {milter} }}",
        SIGNER: f"{{ {wish.signer}, {milter} }}",
        f"{PREFIX}milter_macro_daemon_name": "ORIGINATING",
        f"{PREFIX}sasl_auth_enable": "yes",
        f"{PREFIX}sasl_type": "dovecot",
        f"{PREFIX}sasl_path": f"{wish.sockets}/auth",
        f"{PREFIX}sasl_security_options": "noanonymous",
        f"{PREFIX}sasl_tls_security_options": "noanonymous",
        f"{PREFIX}tls_auth_only": "yes",
        f"{PREFIX}tls_security_level": "encrypt",
        f"{PREFIX}strict_envelopes": "yes",
        f"{PREFIX}ask_certificate": "yes",
        f"{PREFIX}fingerprint_digest": "sha256",
        f"{PREFIX}relay_clientcerts": f"texthash:{wish.tables}/relay_clientcerts",
        f"{PREFIX}networks": f"cidr:{wish.tables}/networks",
        f"{PREFIX}relay_restrictions": (
            "permit_sasl_authenticated, permit_tls_clientcerts,"
            f" check_client_access ${PREFIX}networks, reject"
            if wish.hosts
            else "permit_sasl_authenticated, reject"
        ),
        f"{PREFIX}empty": "",
    }


def options(wish: Wish) -> dict[str, str]:
    """Options of every submission service: smtpd's parameter → ours."""
    found = {} if wish.observe else {"strict_rfc821_envelopes": "strict_envelopes"}
    if wish.authentication:
        found |= {
            "smtpd_sasl_auth_enable": "sasl_auth_enable",
            "smtpd_sasl_type": "sasl_type",
            "smtpd_sasl_path": "sasl_path",
            "smtpd_sasl_security_options": "sasl_security_options",
            "smtpd_sasl_tls_security_options": "sasl_tls_security_options",
            "smtpd_tls_auth_only": "tls_auth_only",
        }
    if wish.signer:
        found |= {"milter_macro_daemon_name": "milter_macro_daemon_name"}
    if wish.hosts:
        found |= {
            "smtpd_tls_ask_ccert": "ask_certificate",
            "smtpd_tls_fingerprint_digest": "fingerprint_digest",
            "relay_clientcerts": "relay_clientcerts",
            "smtpd_relay_restrictions": "relay_restrictions",
        }
    return {name: PREFIX + ours for name, ours in found.items()}


def own_options(wish: Wish, name: str) -> dict[str, str]:
    """Options of a submission service that we make: nothing in it is inherited from the host's lists."""
    empty = ("client", "helo", "sender")
    found = {
        "smtpd_tls_security_level": f"{PREFIX}tls_security_level",
        **{f"smtpd_{stage}_restrictions": f"{PREFIX}empty" for stage in empty},
        "smtpd_relay_restrictions": f"{PREFIX}relay_restrictions",
        **options(wish),
    }
    if wish.policy:
        found |= {f"smtpd_{stage}_restrictions": POLICY for stage in ("recipient", "data", "end_of_data")}
    if name in wish.wrapped:
        found |= {"smtpd_tls_wrappermode": f"{PREFIX}tls_auth_only"}
    return found
