"""`submitward dns check` against a real name server: each fault in a zone is named, with its mend."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from submitward.dkim.keyfile import PublicHalf, make_key
from submitward.dkim.record import format_record, split
from tests.submitward.command import submitward
from tests.submitward.dns.nsd import Nsd, name_server
from tests.submitward.dns.site import MX, RELAY, SPF, ZONES, Site, dmarc, key_record, quoted

BROKEN = "this is no zone\n"  # nsd answers SERVFAIL for it


class Publisher:
    """What the zones need to know of keys."""

    def __init__(self, mine: PublicHalf, other: PublicHalf) -> None:
        self.mine, self.other = mine, other
        self.record = format_record(mine.text)
        self.strings = split(self.record)

    def pkcs1(self) -> str:
        public = serialization.load_der_public_key(base64.b64decode(self.mine.text))
        octets = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
        return base64.b64encode(octets).decode()


def key(*strings: str) -> str:
    return f"s1._domainkey TXT {quoted(*strings)}\n"


def zones(p: Publisher) -> dict[str, tuple[str, str, str]]:
    """Domain → the word of its fault, a pattern of its mend, and its zone beside what is sound.

    What a zone says itself takes the place of what is sound; a line here is a test.
    """
    good, two = p.record, p.strings
    many = "".join(f'n{n} TXT "v=spf1 ip4:198.51.100.{n} -all"\n' for n in range(11))
    includes = " ".join(f"include:n{n}.lookups.example" for n in range(11))
    return {
        "sound.example": ("", "", ""),
        "alias.example": ("", "", "s1._domainkey CNAME s1._domainkey.sound.example.\n"),
        "org-policy.sound.example": ("", "", "-dmarc"),
        # more than UDP carries: the answer comes over TCP
        "large.example": ("", "", "".join(f'@ TXT "token={n:03}{"x" * 240}"\n' for n in range(40))),
        # the ten of the issue
        "no-key.example": ("no_key", r'TXT \(\n +"v=DKIM1; k=rsa; h=sha256; p=MII', "-key"),
        "wrong-key.example": ("wrong_key", "publish", key(*split(format_record(p.other.text)))),
        "split.example": ("split_wrongly", "in several strings", key(two[0]) + key(two[1])),
        "not-us.example": (
            "spf_without_us",
            f"publish: v=spf1 mx include:sound2.example ip4:{RELAY} ~all",
            '@ TXT "v=spf1 mx include:sound2.example ~all"\n',
        ),
        "lookups.example": (
            "spf_too_many_lookups",
            "in place of includes; what was counted:\ninclude:n0",
            f"@ TXT {quoted('v=spf1 ' + includes[:200], includes[200:] + ' -all')}\n{many}",
        ),
        "no-dmarc.example": ("no_dmarc", '_dmarc.no-dmarc.example as TXT: "v=DMARC1; p=none', "-dmarc"),
        "two-dmarc.example": (
            "several_dmarc",
            "leave one of them",
            '_dmarc TXT "v=DMARC1; p=none"\n_dmarc TXT "v=DMARC1; p=reject"\n',
        ),
        "sub.strict.example": (
            "alignment_broken",
            "submitward dkim new sub.strict.example, or take adkim=s out",
            '_dmarc TXT "v=DMARC1; p=none; adkim=s; rua=mailto:a@sub.strict.example"\n',
        ),
        "cname.example": (
            "dangling_cname",
            "where the alias leads",
            "s1._domainkey CNAME gone.sound.example.\n",
        ),
        "servfail.example": ("unavailable", "see to the name servers", BROKEN),
        # other keys
        "quotes.example": (
            "split_wrongly",
            "in several strings",
            key(two[0][:200], two[0][200:] + '\\" \\"' + two[1]),
        ),
        "cut.example": ("split_wrongly", "in several strings", key(two[0])),
        "order.example": ("split_wrongly", "in several strings", key(two[1], two[0])),
        "several.example": (
            "several_keys",
            "publish one",
            key(*two) + key(*split(format_record(p.other.text))),
        ),
        "revoked.example": ("revoked", "submitward dkim new", key("v=DKIM1; k=rsa; p=")),
        "testing.example": (
            "key_notes",
            "publish",
            key("v=DKIM1; t=y; p=", p.mine.text[:200], p.mine.text[200:]),
        ),
        "escaped.example": ("bad_key_record", "publish", key(*split(good.replace(";", "\\\\;")))),
        "sha1.example": ("bad_key_record", "publish", key(*split(good.replace("sha256", "sha1")))),
        "version.example": ("bad_key_record", "publish", key(*split(good.replace("DKIM1", "DKIM2")))),
        "base64.example": ("bad_key_record", "publish", key(*split(good.replace("MII", "M!I")))),
        "pkcs1.example": ("key_form", "publish", key(*split(format_record(p.pkcs1())))),
        "curve.example": (
            "wrong_key",
            "publish",
            key("v=DKIM1; k=ed25519; p=" + base64.b64encode(bytes(32)).decode()),
        ),
        "wildcard.example": ("bad_key_record", "publish", '-key\n*._domainkey TXT "v=spf1 -all"\n'),
        "other-alias.example": (
            "wrong_key",
            "publish",
            "s1._domainkey CNAME s1._domainkey.wrong-key.example.\n",
        ),
        "xn--bcher-kva.example": ("no_unicode_line", r"\*@bücher.example xn--bcher-kva.example", ""),
        # other SPF
        "no-spf.example": ("no_spf", f"publish, .*: v=spf1 ip4:{RELAY} ~all", "-spf"),
        "two-spf.example": ("spf_broken", "mend", f'{SPF}@ TXT "v=spf1 mx -all"\n'),
        "typo.example": ("spf_broken", "mend", '@ TXT "v=spf1 ip4=192.0.2.10 include:sound.example -al"\n'),
        "lost-include.example": ("spf_broken", "mend", '@ TXT "v=spf1 include:gone.sound.example -all"\n'),
        "open.example": ("spf_open", "-all", f'@ TXT "v=spf1 ip4:{RELAY} +all"\n'),
        "neutral.example": ("spf_neutral", "-all", f'@ TXT "v=spf1 ip4:{RELAY}"\n'),
        "ptr.example": ("spf_ptr", "networks", f'@ TXT "v=spf1 ip4:{RELAY} ptr -all"\n'),
        "late.example": (
            "spf_too_many_lookups",
            "shorten",
            f'@ TXT "v=spf1 ip4:{RELAY} '
            + '" " '.join(f"include:n{n}.lookups.example " for n in range(11))
            + '-all"\n',
        ),
        "spf-servfail.example": (
            "unavailable",
            "ask again",
            '@ TXT "v=spf1 include:servfail.example -all"\n',
        ),
        # other DMARC
        "dmarc-case.example": ("bad_dmarc", "p=none", '_dmarc TXT "v=dmarc1; p=none"\n'),
        "dmarc-policy.example": ("bad_dmarc", "p=none", '_dmarc TXT "v=DMARC1; p=nothing"\n'),
        "no-reports.example": ("dmarc_notes", "_dmarc.no-reports.example", '_dmarc TXT "v=DMARC1; p=none"\n'),
        "reports.example": (
            "dmarc_reports",
            "reports.example._report._dmarc.wrong-key.example",
            '_dmarc TXT "v=DMARC1; p=none; rua=mailto:a@wrong-key.example"\n',
        ),
        # MX
        "null-mx.example": ("null_mx", "publish", "@ MX 0 .\n"),
        "no-mx.example": ("no_mx", "publish", "-mx\n"),
        "a-only.example": ("no_mx", "publish", "-mx\n@ A 192.0.2.9\n"),
        "lost-mx.example": ("mx_lost", "address", "@ MX 10 gone\n"),
        "mx-alias.example": ("mx_cname", "mx itself|itself", "@ MX 10 m\nm CNAME mx\nmx A 192.0.2.20\n"),
    }


SOUND = {
    "sound2.example": '@ TXT "v=spf1 ip4:198.51.100.1 -all"\n',
    "strict.example": "",
}
#: For the names of the tests alone: the test's own keys are made later.
SPARE = (
    generate_private_key(65537, 2048)
    .public_key()
    .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
)
NAMES = zones(Publisher(*[PublicHalf(base64.b64encode(SPARE).decode(), 2048)] * 2))


def written(domain: str, lines: str, public: PublicHalf) -> str:
    """The zone: what is sound, where `lines` have nothing of their own and do not say that it is missing."""
    parts = {
        "-spf": (SPF, "v=spf1"),
        "-mx": (MX, "@ MX"),
        "-key": (key_record(public), "s1._domainkey"),
        "-dmarc": (dmarc(domain), "_dmarc TXT"),
    }
    text = ""
    for without, (sound, mark) in parts.items():
        own = mark in lines if without != "-spf" else re.search(r'^@ TXT "v=spf1', lines, re.MULTILINE)
        text += "" if without in lines.split() or own else sound
    return text + "".join(f"{line}\n" for line in lines.split("\n") if not line.startswith("-"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Nsd]]:
    path = tmp_path_factory.mktemp("site")
    signed = {domain: domain for domain in NAMES if domain != "sub.strict.example"}
    signed["sub.strict.example"] = "strict.example"
    site = Site(path, "127.0.0.1", signed, people=["alice@sound.example", "alice@sub.strict.example"])
    publisher = Publisher(site.public, make_key(path / "other.private"))
    texts = {
        domain: lines if lines == BROKEN else written(domain, lines, site.public)
        for domain, (_, _, lines) in zones(publisher).items()
    }
    texts["strict.example"] = key_record(site.public)
    with name_server({**ZONES, **SOUND, **texts}) as server:
        site.write(path, server.server)
        yield site, server


def check(place: tuple[Site, Nsd], capsys: Any, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    status, said = place[0].run(capsys, "dns", "check", *arguments)
    return status, said["findings"]


#: What else is wrong there, since one fault brings the other with it.
ALSO = {"sub.strict.example": {"foreign_key"}}


@pytest.mark.parametrize("domain", NAMES)
def test_a_fault_in_the_zone_is_named_with_its_mend(
    place: tuple[Site, Nsd], capsys: pytest.CaptureFixture[str], domain: str
) -> None:
    word, mend, _ = NAMES[domain]
    status, findings = check(place, capsys, domain)
    bad = [finding for finding in findings if finding["level"] != "ok"]
    if not word:
        assert (status, bad) == (0, [])
        return
    expected = {word} | ALSO.get(domain, set())
    assert {finding["fault"] for finding in bad} == expected, bad
    (found,) = [finding for finding in bad if finding["fault"] == word][:1]
    assert re.search(mend, found["mend"]), found["mend"]
    levels = {finding["level"] for finding in bad}
    assert status == (1 if "error" in levels else 75 if "unavailable" in levels else 0)


def test_every_domain_that_a_principal_may_write_is_looked_at(
    place: tuple[Site, Nsd], capsys: pytest.CaptureFixture[str]
) -> None:
    _, findings = check(place, capsys)
    looked_at = {f["where"].partition(" ")[2] for f in findings if f["where"].startswith("DMARC")}
    assert looked_at == set(NAMES) | {"strict.example"}
    assert [f for f in findings if f["where"].startswith("relay") and f["level"] != "ok"] == []


def test_what_a_person_reads_has_the_record_to_publish(place: tuple[Site, Nsd]) -> None:
    done = submitward(place[0].settings, "dns", "check", "no-key.example")
    assert done.returncode == 1
    assert re.search(
        r"^error +s1\._domainkey\.no-key\.example: no key is published here\n"
        r" +→ publish one TXT record in several strings:\n"
        r" +s1\._domainkey\.no-key\.example\. 3600 IN TXT \(\n"
        r' +"v=DKIM1; k=rsa; h=sha256; p=[^"]+"\n +"[^"]+"\n +\)$',
        done.stdout,
        re.MULTILINE,
    ), done.stdout


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--address", "192.0.2.99"), "no_ptr"),
        (("--address", "192.0.2.11"), "ptr_lost"),
        (("--address", RELAY, "--address", "192.0.2.12"), "helo_spf"),
        (("--address", "192.0.2.12"), "more_addresses"),
    ],
)
def test_faults_of_the_relay_itself_are_named(
    place: tuple[Site, Nsd], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], fault: str
) -> None:
    _, findings = check(place, capsys, "sound.example", *arguments)
    assert fault in {f["fault"] for f in findings if f["where"].startswith("relay")}, findings


def test_a_name_server_that_is_silent_is_cannot_know_and_not_no(
    place: tuple[Site, Nsd], capsys: pytest.CaptureFixture[str]
) -> None:
    server = place[1]
    server.freeze()
    try:
        status, findings = check(place, capsys, "sound.example", "--address", RELAY)
    finally:
        server.thaw()
    assert status == 75
    assert {f["level"] for f in findings} <= {"unavailable", "ok"}


@pytest.mark.parametrize(
    "arguments",
    [("--resolver", "nowhere"), ("--resolver", "127.0.0.1:0"), ("--address", "x"), ("a..example",)],
)
def test_arguments_that_are_wrong_end_with_2(place: tuple[Site, Nsd], arguments: tuple[str, ...]) -> None:
    done = submitward(place[0].settings, "dns", "check", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
