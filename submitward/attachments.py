"""Whether Postfix's milters, authentication and addresses are as Submitward needs them.

Knows parameters outside the restriction lists. Must not know how a configuration is read: it judges what it
is given and looks at nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

from submitward.findings import Finding, error, good, warning
from submitward.graft.obstacles import is_loopback
from submitward.postconf import Configuration, Service
from submitward.restrictions import Policy, locate, parse_policy, split
from submitward.wiring import Ours, calls, is_submission

_ENCRYPTED = ("encrypt", "fingerprint", "verify", "secure")
#: Postfix's default is yes. While `sender` is enforced policyd refuses what has no domain.
_REWRITTEN = {"allow_percent_hack": "<ceo%example.org>", "swap_bangpath": "<example.org!ceo>"}


def judge_host(configuration: Configuration, ours: Ours) -> Iterator[Finding]:
    """What is to be said about the parameters of the whole host."""
    for parameter, example in _REWRITTEN.items():
        if configuration[parameter].lower() != "no":
            text = (
                f"{parameter} = {configuration[parameter]}: {example} is judged as one without a domain,"
                " and sent as ceo@example.org where that passes"
            )
            yield warning("main.cf", text, f"{parameter} = no, or leave the restriction `sender` on enforce")
    queue = configuration["queue_directory"]
    places = {
        locate(milter.endpoint, queue, chroot=False) for milter in _listed(configuration["non_smtpd_milters"])
    }
    if places & ours.milter:
        text = "the author milter stands in non_smtpd_milters: this host's own mail has no submission record"
        yield error("main.cf", text, "take it out; to sign bounces, name OpenDKIM alone")


def judge(service: Service, ours: Ours, queue_directory: str) -> Iterator[Finding]:
    """What is to be said about one service's milters, authentication and TLS."""
    milters = _listed(service["smtpd_milters"])
    places = [locate(milter.endpoint, queue_directory, chroot=service.chroot) for milter in milters]
    found = [index for index, place in enumerate(places) if place in ours.milter]
    if not is_submission(service, calls(service, ours, queue_directory)):
        if found:
            text = (
                "the author milter stands on a service that is no submission: mail from outside is deferred"
            )
            yield error(service.name, text, "name it with -o smtpd_milters= on submission services only")
        return
    if found:
        yield from _author(service, milters, found[0], set(found) if ours.author == "enforce" else set())
    elif ours.author != "off":
        text = "the author milter is missing: nobody judges the visible From"
        mend = "put it first into smtpd_milters, before OpenDKIM; without one say `author: {mode: off}`"
        yield error(service.name, text, mend)
    yield from _authentication(service, ours, queue_directory)
    if not service.says("strict_rfc821_envelopes"):
        text = "strict_rfc821_envelopes = no: MAIL FROM:<(x@y> is read as the null sender"
        say = error if ours.enforces else warning
        yield say(service.name, text, "strict_rfc821_envelopes = yes")
    digest = service["smtpd_tls_fingerprint_digest"]
    if digest != "sha256":
        text = f"smtpd_tls_fingerprint_digest is {digest}: certificates must be listed with that digest"
        yield warning(service.name, text, "smtpd_tls_fingerprint_digest = sha256")


def _listed(text: str) -> list[Policy]:
    """The milters of a list; they are written as policy services are (MILTER_README)."""
    return [parse_policy(word) for word in split(text)]


def _author(service: Service, milters: list[Policy], place: int, strict: set[int]) -> Iterator[Finding]:
    """Whether the author milter stands first, and lets no mail pass while it is away where it enforces; what
    the others do then (a virus scanner that may be missed) is their owner's choice."""
    if place:
        text = f"{milters[0].endpoint} stands before the author milter: what it signs has not been checked"
        yield error(service.name, text, "put the author milter first into smtpd_milters")
    for index, milter in enumerate(milters):
        action = milter.options.get("default_action", service["milter_default_action"])
        if action not in ("tempfail", "shutdown"):
            text = f"{milter.endpoint}: default_action={action} while it is away"
            yield (error if index in strict else warning)(service.name, text, "default_action=tempfail")
    yield good(service.name, f"milters: {', '.join(milter.endpoint for milter in milters)}")


def _authentication(service: Service, ours: Ours, queue_directory: str) -> Iterator[Finding]:
    """Where logins are judged, and that no password goes in the clear."""
    if not service.says("smtpd_sasl_auth_enable"):
        return
    kind, path = service["smtpd_sasl_type"], service["smtpd_sasl_path"]
    endpoint = path if path.startswith(("inet:", "unix:")) else f"unix:{path}"
    place = locate(endpoint, queue_directory, chroot=service.chroot)
    if kind == "dovecot" and (place in ours.auth or not ours.auth):
        yield good(service.name, f"AUTH is judged at {place}")
    else:
        text = f"AUTH is judged by {kind} at {path}, not by saslauthd"
        mend = "smtpd_sasl_type = dovecot and smtpd_sasl_path = submitward/auth, unless that is what you want"
        yield warning(service.name, text, mend)
    clear = service["smtpd_tls_security_level"] not in _ENCRYPTED and not service.says(
        "smtpd_tls_wrappermode"
    )
    if clear and not service.says("smtpd_tls_auth_only") and not _is_local(service):
        yield error(service.name, "AUTH without TLS: passwords can be read", "smtpd_tls_auth_only = yes")


def _is_local(service: Service) -> bool:
    """Whether this host alone gets there, so that nobody can listen on the way."""
    host = service.name.partition("/")[0].rpartition(":")[0]
    places = [host] if host else split(service["inet_interfaces"])
    return bool(places) and all(is_loopback(place) for place in places)
