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


@pytest.mark.parametrize("wish", [Wish(policy=False), Wish(policy=False, own=("submission",))])
def test_the_author_milter_is_not_plugged_in_without_what_it_judges_by(wish: Wish) -> None:
    with pytest.raises(Refused, match=r"without policyd all mail would wait: .*--no-policy and --no-milter"):
        plan("smtpd_tls_cert_file = c\n", MASTER, wish)


PLAIN = Wish(milter=False)


@pytest.mark.parametrize(
    ("main", "option", "said"),
    [
        (
            "",
            "-o smtpd_proxy_filter=127.0.0.1:10024",
            r"master\.cf:4: smtpd_proxy_filter: with a proxy no milter",
        ),
        ("a = b\nsmtpd_proxy_filter = [::1]:24\n", "", r"main\.cf:2: smtpd_proxy_filter: "),
        ("x = no_milters\n", "-o receive_override_options=$x", r"main\.cf:1: x|main\.cf:1: receive_override"),
        ("receive_override_options = no_address_mappings, NO_MILTERS\n", "", r"main\.cf:1: receive_override"),
    ],
)
def test_a_service_on_which_no_milter_is_asked_is_refused(main: str, option: str, said: str) -> None:
    master = f"{MASTER}  {option}\n"
    for wish, lost in (
        (Wish(), "judge the author"),
        (SIGNING, "sign"),
        (Wish(signer="unix:x"), "author and sign"),
    ):
        with pytest.raises(Refused, match=f"{said}.*nobody would .*{lost}.*submitward_postfix_milter"):
            plan(main, master, wish)
    plan(main, master, PLAIN)


def test_a_service_that_is_made_has_what_main_cf_says_of_milters() -> None:
    main = "smtpd_tls_cert_file = /x\nreceive_override_options = no_milters\n"
    with pytest.raises(Refused, match=r"main\.cf:2: receive_override_options: .*submission/inet"):
        plan(main, "smtp inet n - y - - smtpd\n", Wish(own=("submission",)))


def test_milters_may_be_asked_where_other_overrides_are() -> None:
    plan("receive_override_options = no_address_mappings\nsmtpd_proxy_filter =\n", MASTER, Wish())
    plan("smtpd_proxy_filter = [::1]:24\n", MASTER + "  -o smtpd_proxy_filter=\n", Wish())


def test_milters_by_client_are_named_in_a_note() -> None:
    planned = plan("smtpd_milter_maps = cidr:/etc/postfix/milters\n", MASTER, Wish())
    assert [note for note in planned.notes if note.startswith("main.cf:1: smtpd_milter_maps: ")]


@pytest.mark.parametrize(
    ("main", "place"),
    [
        ("", r"master\.cf:1"),
        ("smtpd_tls_security_level = none\n", r"main\.cf:1"),
        ("a = b\nsmtpd_tls_security_level =\n", r"main\.cf:2"),
        ("smtpd_use_tls = no\n", r"master\.cf:1"),
    ],
)
def test_a_service_without_tls_is_refused_before_its_logins_fail(main: str, place: str) -> None:
    with pytest.raises(Refused, match=f"{place}: smtpd_tls_security_level: submission/inet has no TLS"):
        plan(main, SUBMISSION, Wish())
    plan(main, SUBMISSION, Wish(authentication=False))


@pytest.mark.parametrize(
    ("main", "options"),
    [
        ("", " -o smtpd_tls_wrappermode=yes"),
        ("tls = may\n", " -o smtpd_tls_security_level=$tls"),
        ("smtpd_use_tls = yes\n", ""),
        ("smtpd_enforce_tls = yes\n", ""),
    ],
)
def test_every_way_to_offer_tls_counts(main: str, options: str) -> None:
    planned = plan(main, SUBMISSION.replace("\n", f"{options}\n"), Wish())
    assert "smtpd_tls_auth_only=$submitward_tls_auth_only" in planned.master


@pytest.mark.parametrize(
    ("name", "main"),
    [
        ("127.0.0.1:587", ""),
        ("[::1]:587", ""),
        ("localhost:submission", ""),
        ("submission", "inet_interfaces = loopback-only\n"),
        ("submission", "inet_interfaces = 127.0.0.1, [::1]\n"),
    ],
)
def test_a_service_for_this_host_alone_keeps_its_logins_without_tls(name: str, main: str) -> None:
    master = SUBMISSION.replace("submission", name, 1)
    planned = plan(main, master, Wish())
    assert "smtpd_sasl_path=$submitward_sasl_path" in planned.master
    assert "tls_auth_only" not in planned.master + planned.main
    assert [note for note in planned.notes if note.startswith(f"master.cf:1: {name}/inet has no TLS")]


def test_what_will_change_is_told_and_when() -> None:
    main = "smtpd_relay_restrictions = permit_mynetworks, reject\n"
    master = MASTER + "  -o smtpd_sasl_auth_enable=yes\n"
    for observe, when in ((False, "from now on"), (True, "with enforce")):
        said = plan(main, master, Wish(hosts=True, observe=observe)).notes
        assert [note.split(":")[1] for note in said if when in note] == ["4", "1"]
    assert plan(main, master, Wish(authentication=False)).notes == ()


OTHERS = "smtpd pass - - y - - smtpd\n10025 inet n - y - - smtpd\n  -o smtpd_sasl_auth_enable=yes\n"


@pytest.mark.parametrize("wish", [Wish(), Wish(observe=True), Wish(authentication=False), Wish(own=("587",))])
def test_logins_that_go_past_us_are_told_for_each_service_that_lets_them_in(wish: Wish) -> None:
    main = "smtpd_tls_cert_file = c\nsmtpd_sasl_auth_enable = yes\n"
    master = MASTER + OTHERS if not wish.own else MASTER.split("submission")[0] + OTHERS
    planned = plan(main, master, wish)
    told = [note for note in planned.notes if "sends as anybody" in note]
    line = master.count("\n")
    assert [note.split(" offers AUTH")[0] for note in told] == [
        "main.cf:2: smtp/inet",
        "main.cf:2: smtpd/pass",
        f"master.cf:{line}: 10025/inet",
    ]
    assert [note.split("; ")[1].split(",")[0] for note in told] == [
        f"put -o smtpd_sasl_auth_enable=no under {name} in master.cf" for name in ("smtp", "smtpd", "10025")
    ]
    assert ["--service" in note for note in told] == [False, False, True]
    again = plan(planned.main, planned.master, wish)
    assert (again.main, again.master) == (planned.main, planned.master)
    assert [note.split(": ", 1)[1] for note in again.notes] == [
        note.split(": ", 1)[1] for note in planned.notes
    ]


def test_of_logins_elsewhere_only_what_may_be_let_in_is_told() -> None:
    off = MASTER.replace("smtpd\n", "smtpd -o smtpd_sasl_auth_enable=no\n", 1)
    for main, master in (("smtpd_sasl_auth_enable = yes\n", off), ("smtpd_sasl_auth_enable = no\n", MASTER)):
        assert not [note for note in plan(main, master, Wish()).notes if "sends as anybody" in note]
    said = plan(
        "auth = ${stress?{no}:{yes}}\n",
        MASTER.replace("smtpd\n", "smtpd -o smtpd_sasl_auth_enable=$auth\n", 1),
        Wish(),
    ).notes
    assert [note.split(" (")[0] for note in said] == ["main.cf:1: smtp/inet may offer AUTH"]


def test_observe_takes_nothing_from_a_service_and_lets_mail_pass_without_a_sidecar() -> None:
    main = "smtpd_relay_restrictions = permit_mynetworks, reject\n"
    wish = Wish(hosts=True, observe=True, signer="unix:opendkim/opendkim.sock")
    made = plan(main, MASTER + "  -o smtpd_sasl_auth_enable=yes\n", wish)
    asks = {f"smtpd_{stage}_restrictions" for stage in ("recipient", "data", "end_of_data")}
    given = {
        line.split("=")[0].removeprefix("  -o ") for line in made.master.splitlines() if "$submitw" in line
    }
    assert given == asks | {"smtpd_milters", "milter_macro_daemon_name"}
    assert made.main.count("default_action=DUNNO") == 1
    assert made.main.count("default_action=accept") == 2
    assert "default_action = 451" not in made.main


def test_observe_brings_logins_where_there_were_none() -> None:
    made = plan("", MASTER, Wish(observe=True))
    assert "-o smtpd_sasl_path=$submitward_sasl_path" in made.master
    assert "strict_" not in made.master
