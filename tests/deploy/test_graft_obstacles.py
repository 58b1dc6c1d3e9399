"""What the graft says of a Postfix on which its words would do nothing, or harm."""

from __future__ import annotations

import pytest

from submitward.graft.files import Refused
from submitward.graft.plan import plan, remove
from submitward.graft.wish import Wish

SUBMISSION = "submission inet n - y - - smtpd\n"
MASTER = f"smtp inet n - y - - smtpd\n{SUBMISSION}  -o smtpd_tls_security_level=encrypt\n"
SIGNING = Wish(milter=False, signer="unix:opendkim/opendkim.sock")


@pytest.mark.parametrize("value", ["${stress?{no}:{yes}}", "", "1"])
def test_whether_port_25_offers_auth_must_be_written_plainly(value: str) -> None:
    with pytest.raises(Refused, match=r"main\.cf:1: smtpd_sasl_auth_enable: .* is neither yes nor no"):
        plan(f"smtpd_sasl_auth_enable = {value}\n", MASTER, Wish(mx=True))
    plan("smtpd_sasl_auth_enable = No\n", MASTER, Wish(mx=True))


@pytest.mark.parametrize(
    ("main", "option", "planned"),
    [
        ("", "", "-o smtpd_milters=$submitward_signer"),
        ("", "-o smtpd_milters=inet:h:1", "-o smtpd_milters=inet:h:1,${submitward_signer}"),
        ("smtpd_milters = inet:h:1\n", "", "submitward_milters = inet:h:1 ${submitward_signer}"),
    ],
)
def test_a_signer_is_named_without_the_author_milter_too(main: str, option: str, planned: str) -> None:
    master = MASTER + f"  {option}\n"
    made = plan(main, master, SIGNING)
    assert planned in made.master + made.main
    assert "submitward_signer = { unix:opendkim/opendkim.sock, " in made.main
    assert "$submitward_milter" not in made.main
    assert remove(made.main, made.master) == type(made)(main, master)


def test_a_signer_that_is_named_already_is_not_named_again() -> None:
    main = "smtpd_milters = { unix:opendkim/opendkim.sock, timeout=1s }\n"
    assert "smtpd_milters" not in plan(main, MASTER, SIGNING).master
