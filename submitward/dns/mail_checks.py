"""What receivers find about a domain: SPF, MX, DMARC.

Knows what is wrong with it and how it is mended. Must not know keys, nor how the DNS is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from submitward.dns import dmarc, spf
from submitward.dns.ask import Ask, CannotKnow
from submitward.dns.organisation import organisational_domain
from submitward.dns.spf_record import Faulty, parse
from submitward.findings import Finding, error, good, unavailable, warning

ASK_AGAIN = "nothing is known: see to the name servers of the domain, and ask again"
#: Addresses that send no mail (RFC 1112, 4; RFC 6666): for what the rest of a record costs.
STRANGERS = {4: "240.0.0.1", 6: "100::1"}
NEAR = 8  # look-ups from which on one more include may be too many


def judge_spf(ask: Ask, domain: str, addresses: tuple[str, ...]) -> Iterator[Finding]:
    """Whether mail of `domain` passes SPF from each of our addresses, and what the record lets others do."""
    where = f"SPF {domain}"
    try:
        found = spf.records(ask, domain)
    except CannotKnow as unknown:
        yield unavailable(where, f"cannot be known now: {unknown}", ASK_AGAIN)
        return
    if not found:
        text = "there is no SPF record"
        yield error(where, text, f"publish, with all others who send for it: {_record(addresses)}", "no_spf")
        return
    for address in addresses:
        yield _from(ask, where, domain, address, found[0])
    if len(found) == 1:
        yield from _judge_rest(ask, where, domain, found[0], passes=bool(addresses))


def _from(ask: Ask, where: str, domain: str, address: str, record: str) -> Finding:
    result = spf.check_host(ask, address, domain, f"postmaster@{domain}")
    if result.verdict == "pass":
        return good(
            where, f"{address} passes by {result.by} ({result.lookups} of {spf.LOOKUPS_MAX} look-ups)"
        )
    if result.verdict == "temperror":
        return unavailable(where, f"cannot be known now: {result.why}", ASK_AGAIN)
    if result.verdict == "permerror":
        return _broken(where, result)
    text = f"{address} is not in it: {result.verdict} by {result.by}"
    return error(where, text, f"publish: {_with(record, address)}", "spf_without_us")


def _broken(where: str, result: spf.Result) -> Finding:
    text = f"it is broken (permerror), so that nothing passes: {result.why}"
    if not result.over:
        return error(where, text, "mend the record; receivers ignore all of it", "spf_broken")
    mend = "name networks with ip4: and ip6: in place of includes; what was counted:\n" + "\n".join(
        result.trace
    )
    return error(where, text, mend, "spf_too_many_lookups")


def _judge_rest(ask: Ask, where: str, domain: str, record: str, *, passes: bool) -> Iterator[Finding]:
    """What the record says to others than us."""
    result = spf.check_host(ask, STRANGERS[4], domain, f"postmaster@{domain}")
    if result.verdict == "pass":
        yield error(where, f"it lets everybody pass, by {result.by}", "end it with ~all or -all", "spf_open")
    elif result.verdict == "permerror" and passes:
        text = f"for mail that is not ours it is broken: {result.why}"
        word = "spf_too_many_lookups" if result.over else "spf_broken"
        yield warning(where, text, "shorten the record: some receivers count all of it", word)
    elif result.verdict == "permerror":
        yield _broken(where, result)
    elif result.lookups >= NEAR:
        text = f"it takes {result.lookups} of {spf.LOOKUPS_MAX} look-ups: one more include may break it"
        yield warning(where, text, "name networks with ip4: and ip6: in place of includes", "spf_nearly_full")
    elif result.verdict == "neutral":
        text = f"it says nothing of others (neutral by {result.by})"
        yield warning(where, text, "end it with ~all or -all", "spf_neutral")
    try:
        names = {term.name for term in parse(record)}
    except Faulty:
        return
    if "ptr" in names:
        text = "it uses ptr, which RFC 7208 (5.5) says not to, and which some receivers do not follow"
        yield warning(where, text, "name the networks with ip4: and ip6:", "spf_ptr")


def _term(address: str) -> str:
    return f"ip{ip_address(address).version}:{address}"


def _record(addresses: tuple[str, ...]) -> str:
    return " ".join(["v=spf1", *map(_term, addresses), "~all"])


def _with(record: str, address: str) -> str:
    """The record with a term for the address, before the one that ends it."""
    words = record.split()
    ends = [n for n, word in enumerate(words) if word.lower().lstrip("+-~?") == "all"]
    ends += [n for n, word in enumerate(words) if word.lower().startswith(("redirect=", "exp="))]
    words.insert(min(ends, default=len(words)), _term(address))
    return " ".join(words)


def judge_mx(ask: Ask, domain: str) -> Iterator[Finding]:
    """Whether answers and bounces can reach the domain; receivers refuse senders that nobody can answer."""
    where = f"MX {domain}"
    try:
        answer = ask(domain, "MX")
        hosts = [text.partition(" ")[2] for text in answer.texts]
        if "" in hosts:
            text = "the domain says that it takes no mail (null MX, RFC 7505): many refuse mail from it"
            yield error(where, text, "publish a host that takes its mail", "null_mx")
        elif hosts:
            yield from _judge_hosts(ask, where, hosts)
        elif not answer.exists:
            text = "there is no such domain: receivers refuse a sender whom nobody can answer"
            yield error(where, text, "register it, or take it out of the directory", "no_domain")
        elif ask(domain, "A").texts or ask(domain, "AAAA").texts:
            text = "there is no MX record; mail goes to the address of the domain itself"
            yield warning(where, text, "publish an MX record", "no_mx")
        else:
            text = "neither MX nor address: receivers refuse a sender whom nobody can answer"
            yield error(where, text, "publish an MX record", "no_mx")
    except CannotKnow as unknown:
        yield unavailable(where, f"cannot be known now: {unknown}", ASK_AGAIN)


def _judge_hosts(ask: Ask, where: str, hosts: list[str]) -> Iterator[Finding]:
    lost = [host for host in hosts if not (ask(host, "A").texts or ask(host, "AAAA").texts)]
    if lost:
        report = error if len(lost) == len(hosts) else warning
        text = f"{', '.join(lost)} has no address"
        yield report(where, text, "an MX record names a host, and the host needs an address", "mx_lost")
    else:
        yield good(where, ", ".join(hosts))
    for host in hosts:
        if ask(host, "A").chain:
            text = f"{host} is an alias (CNAME), and an MX record must not name one (RFC 2181, 10.3)"
            yield warning(where, text, f"name {ask(host, 'A').chain[-1]} itself", "mx_cname")


def judge_dmarc(ask: Ask, domain: str, signed_by: tuple[str, ...]) -> Iterator[Finding]:
    """Whether there is a policy for `domain`, and whether each d= of `signed_by` is aligned with it."""
    where = f"DMARC {domain}"
    try:
        policy = dmarc.discover(ask, domain)
    except CannotKnow as unknown:
        yield unavailable(where, f"cannot be known now: {unknown}", ASK_AGAIN)
        return
    if isinstance(policy, dmarc.NoPolicy):
        yield _no_policy(where, domain, policy)
        modes: dmarc.Alignment = "relaxed"
    else:
        modes = policy.dkim
        yield good(where, f"{policy.policy}, by {policy.at}: {policy.record}")
        for note in policy.notes:
            yield warning(where, note, f"change the record at {policy.at}", "dmarc_notes")
        yield from _judge_reports(ask, where, policy)
    for identifier in signed_by:
        yield _judge_alignment(where, domain, identifier, modes)


def _no_policy(where: str, domain: str, found: dmarc.NoPolicy) -> Finding:
    mend = f'publish at _dmarc.{domain} as TXT: "v=DMARC1; p=none; rua=mailto:postmaster@{domain}"'
    if len(found.found) > 1:
        text = f"{len(found.found)} records stand at {found.at}: {found.why}"
        return error(where, text, f"leave one of them: {' | '.join(found.found)}", "several_dmarc")
    if found.found:
        text = f"the record at {found.at} does not count: {found.why} ({found.found[0]})"
        return error(where, text, mend, "bad_dmarc")
    text = "there is no DMARC record; large receivers refuse bulk mail of a domain without one"
    return error(where, text, mend, "no_dmarc")


def _judge_alignment(where: str, domain: str, identifier: str, mode: dmarc.Alignment) -> Finding:
    if dmarc.is_aligned(domain, identifier, mode):
        return good(where, f"passes by DKIM: d={identifier} is aligned ({mode})")
    word = "must be the same" if mode == "strict" else "must have the same organisational domain"
    text = f"d={identifier} is not aligned with From {domain}: with {mode} alignment they {word}"
    mend = f"give {domain} a key of its own: submitward dkim new {domain}"
    return error(
        where, text, f"{mend}, or take adkim=s out" if mode == "strict" else mend, "alignment_broken"
    )


def _judge_reports(ask: Ask, where: str, policy: dmarc.Policy) -> Iterator[Finding]:
    """Whether those to whom reports shall go have agreed (RFC 7489, 7.1)."""
    domain = policy.at.removeprefix("_dmarc.")
    for receiver in sorted({address.rpartition("@")[2].lower() for address in policy.reports}):
        if organisational_domain(receiver) == organisational_domain(domain):
            continue
        name = dmarc.report_name(domain, receiver)
        try:
            agreed = any(text.startswith("v=DMARC1") for text in ask(name, "TXT").texts)
        except CannotKnow:
            continue
        if not agreed:
            text = f"reports to {receiver} are not sent: it has not agreed"
            yield warning(where, text, f'{receiver} publishes at {name} as TXT: "v=DMARC1"', "dmarc_reports")
