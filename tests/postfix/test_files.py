"""The shipped files: what they must say, and that a lab runs them as they are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from submitward import postconf
from submitward.restrictions import parse
from tests.lab import Lab
from tests.lab.place import KEYS, MARK, SHIPPED, place

SERVICES = {"smtp": "127.0.0.1:10025", "submission": "127.0.0.1:10587", "submissions": "127.0.0.1:10465"}


@pytest.fixture
def placed(tmp_path: Path) -> Path:
    place(
        tmp_path,
        services=SERVICES,
        main={"inet_interfaces": "127.0.0.1"},
        opendkim={"Syslog": "no"},
        keys=tmp_path / "keys",
    )
    return tmp_path


@pytest.mark.parametrize("name", ["main.cf", "opendkim.conf"])
def test_one_block_is_appended_and_the_rest_is_byte_equal(placed: Path, name: str) -> None:
    shipped, written = (SHIPPED / name).read_bytes(), (placed / name).read_bytes()
    assert written.startswith(shipped + MARK.encode())
    assert MARK.encode() not in shipped


def test_only_the_service_column_of_three_services_differs(placed: Path) -> None:
    shipped, written = ((place / "master.cf").read_text().split("\n") for place in (SHIPPED, placed))
    differing = [(old, new) for old, new in zip(shipped, written, strict=True) if old != new]
    assert len(differing) == 3
    for old, new in differing:
        name = old.split()[0]
        assert new == SERVICES[name] + old.removeprefix(name)
        assert old.split()[1] == "inet"


def test_the_signing_tables_differ_in_the_directory_of_the_keys_alone(placed: Path) -> None:
    assert (placed / "SigningTable").read_bytes() == (SHIPPED / "SigningTable").read_bytes()
    assert (placed / "KeyTable").read_text().replace(str(placed / "keys"), KEYS) == (
        SHIPPED / "KeyTable"
    ).read_text()


def test_the_running_lab_uses_the_shipped_files(lab: Lab) -> None:
    for name in ("main.cf", "opendkim.conf"):
        text = (lab.places.postfix / name).read_bytes()
        assert text.partition(MARK.encode())[0] == (SHIPPED / name).read_bytes()


def shipped(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["postconf", "-c", str(SHIPPED), *arguments], capture_output=True, text=True, check=True
    )


def test_postfix_has_nothing_to_say_against_the_shipped_files() -> None:
    for arguments in (["-n"], ["-M"], ["-P"]):
        assert shipped(*arguments).stderr == ""


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("allow_percent_hack", "no"),
        ("swap_bangpath", "no"),
        ("strict_rfc821_envelopes", "yes"),
        ("message_reject_characters", "\\0"),
        ("mynetworks", ""),
        ("smtpd_forbid_bare_newline", "normalize"),
        ("smtpd_tls_auth_only", "yes"),
        ("smtpd_tls_fingerprint_digest", "sha256"),
        ("smtpd_sasl_auth_enable", "no"),
        ("smtpd_milters", ""),
        ("non_smtpd_milters", ""),
        ("milter_default_action", "tempfail"),
        ("smtp_tls_security_level", "may"),
        ("smtpd_data_restrictions", "reject_unauth_pipelining, reject_multi_recipient_bounce"),
    ],
)
def test_the_shipped_main_cf_says(parameter: str, value: str) -> None:
    assert shipped("-h", parameter).stdout.strip() == value


@pytest.mark.parametrize("name", ["submission/inet", "submissions/inet"])
def test_submission_is_encrypted_asked_and_milted(name: str) -> None:
    service = next(s for s in postconf.read(str(SHIPPED)).services if s.name == name)
    assert service["smtpd_tls_security_level"] == "encrypt"
    assert service["milter_macro_daemon_name"] == "ORIGINATING"
    assert [str(r) for r in parse(service["smtpd_relay_restrictions"])][:2] == [
        "permit_sasl_authenticated",
        "permit_tls_clientcerts",
    ]
    assert str(parse(service["smtpd_relay_restrictions"])[-1]) == "reject"
    asked = [
        restriction.policy
        for stage in ("recipient", "data", "end_of_data")
        for restriction in parse(service[f"smtpd_{stage}_restrictions"])
        if restriction.policy
    ]
    assert len(asked) == 3
    assert len({policy.text for policy in asked}) == 1
    assert asked[0].options["timeout"] == "10s"
    assert asked[0].options["default_action"].startswith("451 4.3.5 ")


def test_no_list_of_ours_holds_a_bare_permit() -> None:
    for service in postconf.read(str(SHIPPED)).services:
        for parameter, value in service.values.items():
            if parameter.endswith("_restrictions"):
                assert "permit" not in [restriction.name for restriction in parse(value)]


def test_both_submission_services_have_the_same_options_but_for_the_wrapper() -> None:
    lines = shipped("-P").stdout.splitlines()
    told = {
        name: {line.removeprefix(f"{name}/inet/") for line in lines if line.startswith(f"{name}/inet/")}
        for name in ("submission", "submissions")
    }
    assert told["submission"] ^ told["submissions"] == {
        "syslog_name = postfix/submission",
        "syslog_name = postfix/submissions",
        "smtpd_tls_wrappermode = yes",
    }


def test_opendkim_accepts_the_shipped_configuration(placed: Path) -> None:
    """Its own test mode, with the tables where the lab puts them."""
    shutil.chown(placed, "opendkim")
    text = (placed / "opendkim.conf").read_text()
    for name in ("KeyTable", "SigningTable"):
        text = text.replace(f"/etc/opendkim/{name}", str(placed / name))
    (placed / "opendkim.conf").write_text(text)
    done = subprocess.run(
        ["opendkim", "-n", "-x", str(placed / "opendkim.conf")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
