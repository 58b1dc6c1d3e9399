"""The graft reads main.cf and master.cf as Postfix does: lines, blanks, options."""

from __future__ import annotations

import pytest

from submitward.graft.files import Refused, services
from submitward.graft.plan import Plan, plan, remove
from submitward.graft.wish import Wish
from tests.deploy.existing import COMMENT

SMTPD = "submission inet n - y - - smtpd -o smtpd_tls_security_level=may"
MASTER_HEAD = f"smtp inet n - y - - smtpd\n{SMTPD}\n"


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ("-o a=b -v -o c=d", ["a=b", "c=d"]),
        ("-vo a=b -oc=d -vov=w", ["a=b", "c=d", "v=w"]),
        ("-n name -o { a = b c } -s 1 -o d=e", ["a=b c", "d=e"]),
        ("-o a=b stop -o c=d", ["a=b"]),
        ("-o a=b -- -o c=d", ["a=b"]),
    ],
)
def test_options_are_read_up_to_the_first_word_that_is_none(arguments: str, options: list[str]) -> None:
    (service,) = services(f"{SMTPD} {arguments}\n")
    assert [f"{option.name}={option.text}" for option in service.options[1:]] == options


def test_an_option_without_a_value_is_refused_with_its_line_in_smtpd_alone() -> None:
    other = "x unix - n n - - pipe user=u argv=/usr/sbin/sendmail -oi -o quiet\n"
    assert not services(other)[0].options
    with pytest.raises(Refused, match=r"master\.cf:3: -o without name=value"):
        services(f"{other}{SMTPD}\n  -oi -o a=b\n")


def test_the_bytes_of_a_letter_are_neither_line_ends_nor_blanks() -> None:
    main = f"# {COMMENT}\nmua =\n  # {COMMENT}\n  reject_x\n  permit_mynetworks\n"
    master = f"# {COMMENT}\n{MASTER_HEAD}  -o smtpd_recipient_restrictions=$mua\n# {COMMENT}\n"
    planned = plan(main, master, Wish(authentication=False, milter=False))
    assert planned.main.startswith(main.replace("permit_my", "$submitward_policy, permit_my"))
    assert remove(planned.main, planned.master) == Plan(main, master)


def test_the_copy_of_a_list_holds_none_of_its_comments() -> None:
    main = f"smtpd_recipient_restrictions =\n  reject_x\n  # {COMMENT}\n  permit\n"
    planned = plan(main, MASTER_HEAD, Wish(authentication=False, milter=False))
    assert "\nsubmitward_recipient_restrictions = reject_x $submitward_policy permit\n" in planned.main


def test_a_form_feed_at_the_beginning_continues_a_line_as_it_does_for_postfix() -> None:
    main = "mua = reject_x,\n\fpermit\r\nmyhostname = a\r\n"
    planned = plan(main, MASTER_HEAD + MUA, ASKED)
    assert planned.main.startswith("mua = reject_x,\n\f$submitward_policy, permit\r\nmyhostname")


ASKED = Wish(authentication=False, milter=False)
OTHER = "465 inet n - y - - smtpd\n"
MUA = "  -o smtpd_recipient_restrictions=$mua\n"


@pytest.mark.parametrize(
    ("main", "options", "list_then"),
    [
        (
            "mua = reject_x, $inner, permit\ninner = reject_y\n",
            "",
            "reject_x, $inner, $submitward_policy, permit",
        ),
        (
            "mua = reject_x, $inner, permit\ninner = reject_y\n",
            "  -o inner=permit_mynetworks\n",
            "reject_x, $submitward_policy, $inner, permit",
        ),
        (
            "mua = reject_x, $inner, permit\ninner = reject_y, $more\nmore = reject_z\n",
            "  -o more=permit_mynetworks\n",
            "reject_x, $submitward_policy, $inner, permit",
        ),
        ("mua = reject_$kind, permit\nkind = x, permit\n", "", "$submitward_policy, reject_$kind, permit"),
        (
            "mua = reject_x, reject_local_only, reject\nreject_local_only = permit_mynetworks, reject\n"
            "smtpd_restriction_classes = reject_local_only\n",
            "",
            "reject_x, $submitward_policy, reject_local_only, reject",
        ),
        (
            "mua = reject_x, defer_some, reject\ndefer_some = reject_y\n"
            "smtpd_restriction_classes = defer_some\n",
            "  -o defer_some=permit_mynetworks\n",
            "reject_x, $submitward_policy, defer_some, reject",
        ),
        (
            "mua = reject_x, reject_some, reject\nreject_some = permit_mynetworks\n",
            "  -o smtpd_restriction_classes=reject_some\n",
            "reject_x, $submitward_policy, reject_some, reject",
        ),
    ],
)  # fmt: skip
def test_names_in_a_list_are_followed_as_the_service_reads_them(main, options, list_then) -> None:
    planned = plan(main, MASTER_HEAD + MUA + options, ASKED)
    assert planned.main.startswith(f"mua = {list_then}\n")


@pytest.mark.parametrize("swapped", [False, True])
def test_two_services_that_read_one_list_in_two_ways_are_both_asked_before_it_permits(swapped) -> None:
    main = "mua = reject_x, $inner, permit\ninner = reject_y\n"
    entries = [SMTPD + "\n" + MUA, OTHER + MUA + "  -o inner=permit_mynetworks\n"]
    planned = plan(main, "".join(reversed(entries) if swapped else entries), ASKED)
    assert planned.main.startswith("mua = reject_x, $submitward_policy, $inner, permit\n")


def test_a_list_that_is_read_at_rcpt_and_at_data_asks_first() -> None:
    main = "mua = reject_x, permit\n"
    planned = plan(main, MASTER_HEAD + MUA + "  -o smtpd_data_restrictions=$mua\n", ASKED)
    assert planned.main.startswith("mua = $submitward_policy, reject_x, permit\n")


def test_a_refusal_in_what_a_list_refers_to_is_seen_when_hosts_shall_pass() -> None:
    main = "mua = permit_sasl_authenticated, $strangers\nstrangers = reject_x, reject\n"
    with pytest.raises(Refused, match=r"main\.cf:1: smtpd_recipient_restrictions: .* refuses here"):
        plan(main, MASTER_HEAD + MUA, Wish(authentication=False, milter=False, hosts=True))


def test_a_comment_may_name_us_and_stays_as_it_is() -> None:
    said = (
        "# submitward_mx, $submitward_policy_mx, and submitward: begin (see the wiki) ${submitward_signer}\n"
    )
    main, master = f"{said}mua = reject_x,\n  {said}  permit\n", f"{said}{MASTER_HEAD}{MUA}  {said}"
    planned = plan(main, master, Wish())
    assert planned.main.startswith(main.replace("  permit", "  $submitward_policy, permit"))
    assert "submitward_signer = " not in planned.main
    assert remove(planned.main, planned.master) == Plan(main, master)


@pytest.mark.parametrize("mark", ["# submitward: begin (written", "# submitward: end"])
def test_a_mark_without_its_other_end_is_refused_with_its_line(mark: str) -> None:
    with pytest.raises(Refused, match=r"main\.cf:2: .*take this line out by hand"):
        remove(f"a = b\n{mark}\n", MASTER_HEAD)
