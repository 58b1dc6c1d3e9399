"""Whether Postfix asks policyd where it must, and nobody is let through before it is asked.

Knows which stages the policy needs, and what must not stand before it. Must not know how a configuration is
read: it judges what it is given and looks at nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from submitward.findings import Finding, error, good, warning
from submitward.postconf import Service
from submitward.restrictions import GUARDING, Policy, Restriction, locate, parse

#: list → the protocol state in which policyd is asked from it (with smtpd_delay_reject, the default)
STAGES = {
    "smtpd_client_restrictions": "RCPT",
    "smtpd_helo_restrictions": "RCPT",
    "smtpd_sender_restrictions": "RCPT",
    "smtpd_relay_restrictions": "RCPT",
    "smtpd_recipient_restrictions": "RCPT",
    "smtpd_data_restrictions": "DATA",
    "smtpd_end_of_data_restrictions": "END-OF-MESSAGE",
}
_LIST = {
    "RCPT": "smtpd_recipient_restrictions",
    "DATA": "smtpd_data_restrictions",
    "END-OF-MESSAGE": "smtpd_end_of_data_restrictions",
}
_WHY = {
    "RCPT": "refusals come late, after all recipients",
    "DATA": "RCPT TO:<postmaster> is judged by nobody, and nothing is charged",
    "END-OF-MESSAGE": "no charge is settled, and what is not settled is given back",
}
_CERTIFICATES = {"permit_tls_clientcerts", "permit_tls_all_clientcerts"}
_LIKE_SHIPPED = "as postfix/main.cf and postfix/master.cf show"


@dataclass(frozen=True, slots=True)
class Ours:
    """What of the settings Postfix must meet: places as `locate` gives them, and modes.

    `enforces`: whether any restriction of policyd refuses, rather than being observed or off; `asked`:
    whether Postfix is meant to ask policyd at all.
    """

    policy: frozenset[str]
    auth: frozenset[str]
    milter: frozenset[str]
    charge: str = "data"
    author: str = "enforce"
    enforces: bool = True
    asked: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """policyd in one list: what stands before it, and how it is asked."""

    parameter: str
    before: tuple[Restriction, ...]
    policy: Policy


def calls(service: Service, ours: Ours, queue_directory: str) -> tuple[Call, ...]:
    """Every place where the service asks policyd."""
    found = []
    for parameter in STAGES:
        chain = parse(service[parameter], service.classes)
        for index, restriction in enumerate(chain):
            policy = restriction.policy
            if policy and locate(policy.endpoint, queue_directory, chroot=service.chroot) in ours.policy:
                found.append(Call(parameter, chain[:index], policy))
    return tuple(found)


def is_submission(service: Service, asked: tuple[Call, ...]) -> bool:
    """Whether principals submit here: it offers AUTH, lets certificates relay, or asks us as submission."""
    relay = {restriction.name for restriction in parse(service["smtpd_relay_restrictions"], service.classes)}
    contexts = {call.policy.options.get("policy_context", "submission") for call in asked}
    return service.says("smtpd_sasl_auth_enable") or bool(relay & _CERTIFICATES) or "submission" in contexts


def judge(service: Service, ours: Ours, queue_directory: str) -> Iterator[Finding]:
    """What is to be said about the restriction lists of one smtpd service."""
    asked = calls(service, ours, queue_directory)
    if not is_submission(service, asked):
        stages = ", ".join(dict.fromkeys(STAGES[call.parameter] for call in asked))
        told = f"asked at {stages}" if asked else "not asked"
        yield good(service.name, f"no submission service; policyd is {told}")
        yield from _guarded(service, submission=False)
        return
    if asked:
        yield from _stages(service, asked, ours.charge)
        yield from _before(service, asked)
        yield from _manner(service, asked, ours.enforces)
    else:
        text = "principals are let in here and policyd is never asked: everybody may send as anybody"
        say = error if ours.asked else warning
        mend = f"ask policyd in {', '.join(_LIST.values())}, {_LIKE_SHIPPED}"
        if service.says("smtpd_sasl_auth_enable"):
            mend += "; or, where nobody is to log in, -o smtpd_sasl_auth_enable=no in master.cf"
        yield say(service.name, text, mend)
    yield from _guarded(service, submission=True)


def _stages(service: Service, asked: tuple[Call, ...], charge: str) -> Iterator[Finding]:
    """Which stages arrive, and which must."""
    present = {STAGES[call.parameter] for call in asked}
    told = ", ".join(stage for stage in _LIST if stage in present)
    yield good(service.name, f"policyd is asked at {told} (charge: {charge})")
    at_rcpt = [call.parameter for call in asked if STAGES[call.parameter] == "RCPT"]
    if len(at_rcpt) > 1:
        where = ", ".join(at_rcpt)
        text = f"policyd is asked {len(at_rcpt)} times at RCPT ({where}): each recipient counts as often"
        yield warning(service.name, text, f"ask it in {_LIST['RCPT']} alone")
    if charge == "rcpt":
        if "RCPT" not in present:
            yield error(service.name, "nothing is charged: charge is rcpt", f"add policyd to {_LIST['RCPT']}")
        if "DATA" not in present:
            text = "RCPT TO:<postmaster> skips every list but smtpd_data_restrictions: nobody judges it"
            yield warning(service.name, text, f"add policyd to {_LIST['DATA']} too")
        return
    for stage in _LIST:
        if stage not in present:
            say = warning if stage == "RCPT" else error
            text = f"policyd is not asked at {stage}: {_WHY[stage]}"
            yield say(service.name, text, f"add the same check_policy_service to {_LIST[stage]}")


def _before(service: Service, asked: tuple[Call, ...]) -> Iterator[Finding]:
    """What stands before policyd in its lists."""
    for call in asked:
        for restriction in call.before:
            where = f"{call.parameter}: {restriction} stands before policyd"
            if restriction.permits:
                mend = f"move {restriction} behind check_policy_service, or into smtpd_relay_restrictions"
                yield error(service.name, f"{where}; whom it permits is never judged", mend)
            elif restriction.may_permit:
                mend = "let it say DUNNO instead of OK, or move it behind ours"
                yield warning(service.name, f"{where}; an OK from it passes policyd by", mend)


def _manner(service: Service, asked: tuple[Call, ...], enforces: bool) -> Iterator[Finding]:
    """How policyd is asked: one connection, the right context, and nothing passes while it is away.

    Where nothing is enforced, what passes meanwhile would have passed.
    """
    if len({call.policy.text for call in asked}) > 1:
        text = "policyd is asked with different texts: smtpd keeps a connection for each"
        yield warning(service.name, text, "use one parameter in all lists, as submitward_policy in main.cf")
    for call in asked:
        action = call.policy.options.get("default_action", service["smtpd_policy_service_default_action"])
        if not is_deferral(action):
            text = (
                f"{call.parameter}: default_action is {action or 'empty'}: while policyd is away that holds"
            )
            say = error if enforces else warning
            yield say(service.name, text, "default_action = 451 4.3.5 and a text")
        if call.policy.options.get("policy_context") == "mx":
            text = f"{call.parameter}: policyd is asked as mx, where whoever is no principal passes"
            yield error(service.name, text, "policy_context=submission")


def is_deferral(action: str) -> bool:
    """Whether an action (access(5)) is a temporary refusal: a 4xx with a text, or a defer."""
    word, _, text = action.strip().partition(" ")
    if word.isdigit():
        return len(word) == 3 and word[0] == "4" and bool(text.strip())
    return word.upper() in ("DEFER", "DEFER_IF_PERMIT")


def _guarded(service: Service, *, submission: bool) -> Iterator[Finding]:
    """Whether somebody who is not permitted can relay."""
    parameter = "smtpd_relay_restrictions"
    chain = parse(service[parameter], service.classes)
    if not chain:
        parameter = "smtpd_recipient_restrictions"
        chain = parse(service[parameter], service.classes)
    guard = next((index for index, item in enumerate(chain) if item.name in GUARDING), len(chain))
    for restriction in chain[:guard]:
        if restriction.name in ("permit", "permit_tls_all_clientcerts"):
            yield error(
                service.name, f"{parameter}: {restriction} lets anybody relay", f"remove {restriction}"
            )
    end = "reject" if submission else "reject_unauth_destination"
    if guard == len(chain):
        text = f"{parameter} ends without a refusal: whoever is not permitted may relay"
        yield error(service.name, text, f"end it with {end}")
    elif submission and chain[-1].name != "reject":
        text = f"{parameter} does not end in reject: strangers may submit to our own domains here"
        yield warning(service.name, text, "end it with reject")
