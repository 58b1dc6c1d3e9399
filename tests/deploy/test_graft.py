"""The graft as a text: where words go, what is refused, and that what was put in comes out again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from submitward import postconf
from submitward.attachments import judge as judge_attachments
from submitward.graft import host
from submitward.graft.files import MAIN, MASTER, Refused
from submitward.graft.plan import plan, remove
from submitward.graft.wish import Wish
from submitward.wiring import Ours
from submitward.wiring import judge as judge_wiring
from tests.deploy.existing import COMMENT, EXISTING, NAMES, REFUSED, TAKEN, placed, read, states, wish


@pytest.mark.parametrize("name", NAMES)
def test_every_state_is_as_it_was_reviewed(name: str) -> None:
    stored = {path.name for path in (EXISTING / name).iterdir() if path.is_dir()} - {"before"}
    now = states(name)
    assert now == {state: read(name, state) for state in sorted(stored)}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_removed_was_never_there(name: str) -> None:
    assert read(name, "removed") == read(name, "before")


@pytest.mark.parametrize("name", TAKEN)
def test_the_second_plan_changes_nothing(name: str) -> None:
    after = read(name, "after")
    again = plan(after[MAIN], after[MASTER], wish(name))
    assert (again.main, again.master) == (after[MAIN], after[MASTER])


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_file_the_line_and_what_to_do(name: str) -> None:
    for line in read(name, "plan")["refused"].splitlines():
        assert line.startswith(("main.cf:", "master.cf:"))
        assert len(line.split()) > 6


@pytest.mark.parametrize("name", TAKEN)
def test_no_other_service_is_touched(name: str, tmp_path: Path) -> None:
    """As Postfix itself reads both configurations."""
    before, after = (postconf.read(str(placed(name, state, tmp_path))) for state in ("before", "after"))
    told = {service.name: service for service in after.services}
    submission = {"submission", "submissions", "smtps", "192.0.2.25:587"}
    others = [service for service in before.services if service.name.rpartition("/")[0] not in submission]
    assert others
    for service in others:
        values = dict(told[service.name].values)
        if wish(name).mx:
            assert "policy_context=mx" in values.pop("smtpd_recipient_restrictions")
        assert values.items() <= service.values.items()
    values = [{n: v for n, v in state.values.items() if n != "config_directory"} for state in (before, after)]
    assert values[0] == values[1]


@pytest.mark.parametrize("name", TAKEN)
def test_submission_is_as_check_wants_it(name: str, tmp_path: Path) -> None:
    configuration = postconf.read(str(placed(name, "after", tmp_path)))
    queue = configuration["queue_directory"]
    places = [frozenset({f"unix:{queue}/submitward/{part}"}) for part in ("policy", "auth", "milter")]
    observed = wish(name).observe
    ours = Ours(*places, author="observe" if observed else "enforce", enforces=not observed)
    services = [s for s in configuration.services if "submitward/policy" in s["smtpd_data_restrictions"]]
    assert services
    assert observed or any("submitward/auth" in service["smtpd_sasl_path"] for service in services)
    for service in services:
        found = [*judge_wiring(service, ours, queue), *judge_attachments(service, ours, queue)]
        errors = [finding.text for finding in found if finding.level == "error"]
        # What the host's own milters do while they are away was so before.
        assert [text for text in errors if not text.startswith("inet:localhost:11332: default_action")] == []


@pytest.mark.parametrize("name", TAKEN)
def test_postfix_has_nothing_new_to_say(name: str, tmp_path: Path) -> None:
    said = []
    for state in ("before", "after"):
        directory = placed(name, state, tmp_path)
        with (directory / MAIN).open("a") as main:  # the host's own queue is none of our business
            main.write(f"\nqueue_directory = {tmp_path}/queue\ndata_directory = {tmp_path}/data\n")
        (tmp_path / "queue").mkdir(exist_ok=True)
        said.append(host.warnings(directory))
    assert [line for line in said[1] if line not in said[0]] == []


TLS = " -o smtpd_tls_security_level=may"
MASTER_HEAD = f"smtp inet n - y - - smtpd\nsubmission inet n - y - - smtpd{TLS}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("permit_mynetworks, reject", "$submitward_policy, permit_mynetworks, reject"),
        ("reject_x permit", "reject_x $submitward_policy, permit"),
        ("reject_x,reject", "reject_x,$submitward_policy, reject"),
        ("warn_if_reject check_a cidr:/x", "$submitward_policy, warn_if_reject check_a cidr:/x"),
        ("reject_rbl_client permit.q permit", "reject_rbl_client permit.q $submitward_policy, permit"),
        ("reject_a, $b, permit", "reject_a, $b, $submitward_policy, permit"),
        ("reject_a, $c, reject_b", "reject_a, $submitward_policy, $c, reject_b"),
        ("reject_a, no_such_thing", "reject_a, $submitward_policy, no_such_thing"),
        ("reject_a, reject_b", "reject_a, reject_b ${submitward_policy}"),
        ("reject_a, sleep 5 ,", "reject_a, sleep 5 ${submitward_policy} ,"),
        ("PERMIT_MYNETWORKS", "$submitward_policy, PERMIT_MYNETWORKS"),
        ("check_p { inet:h:1, x=1s }", "$submitward_policy, check_p { inet:h:1, x=1s }"),
    ],
)  # fmt: skip
def test_the_token_comes_before_the_first_that_can_permit(before: str, after: str) -> None:
    main = f"mua = {before}\nb = reject_q\nc = reject_q, permit_mynetworks\n"
    master = MASTER_HEAD + "  -o smtpd_recipient_restrictions=$mua\n"
    planned = plan(main, master, Wish(authentication=False, milter=False))
    assert planned.main.startswith(f"mua = {after}\n")
    assert remove(planned.main, planned.master).main == main


def test_what_was_written_behind_the_block_stays_when_the_block_goes() -> None:
    main, master = "myhostname = a", MASTER_HEAD + "# the end"
    planned = plan(main, master, Wish())
    bare = remove(planned.main + "later = yes\n", planned.master + "x unix - - n - - pipe\n")
    assert bare.main == "myhostname = a\nlater = yes\n"
    assert bare.master == master.removesuffix("# the end") + "# the end" + "x unix - - n - - pipe\n"


def test_what_somebody_moved_out_of_the_block_is_refused_with_its_line() -> None:
    planned = plan("myhostname = a\n", MASTER_HEAD, Wish())
    moved = planned.master.replace("smtp inet n", "other inet n") + "  -o smtpd_milters=$submitward_milter\n"
    with pytest.raises(Refused) as refused:
        remove(planned.main, moved)
    assert str(refused.value).startswith(f"master.cf:{moved.count(chr(10))}: ")


def test_port_25_is_asked_only_when_wished_and_never_beside_auth() -> None:
    main = "smtpd_recipient_restrictions = reject_unauth_destination, permit\n"
    assert "mx" not in plan(main, MASTER_HEAD, Wish()).main
    assert "policy_context=mx, default_action=DUNNO" in plan(main, MASTER_HEAD, Wish(mx=True)).main
    with pytest.raises(Refused, match=r"main\.cf:2: smtp/inet offers AUTH"):
        plan(main + "smtpd_sasl_auth_enable = yes\n", MASTER_HEAD, Wish(mx=True))
    with pytest.raises(Refused, match=r"master\.cf:2: smtp/inet offers AUTH"):
        offers = MASTER_HEAD.replace("smtpd\n", "smtpd\n -o smtpd_sasl_auth_enable=yes\n", 1)
        plan(main, offers, Wish(mx=True))


@pytest.mark.parametrize(
    ("master", "asked"),
    [
        (MASTER_HEAD, Wish(services=("smtp/inet",))),
        (MASTER_HEAD + "192.0.2.1:25 inet n - y - - smtpd\n", Wish(services=("192.0.2.1:25/inet",))),
        (MASTER_HEAD + "smtpd pass - - y - - smtpd\n", Wish(services=("smtpd/pass",))),
        ("submission inet n - y - - smtpd\n", Wish(own=("smtp",))),
        ("submission inet n - y - - smtpd\n", Wish(own=("192.0.2.1:25",))),
    ],
)
def test_a_port_that_takes_the_worlds_mail_is_no_submission_service(master: str, asked: Wish) -> None:
    with pytest.raises(Refused, match=r"master\.cf.*(takes mail from everybody|is the MX port)"):
        plan("smtpd_tls_cert_file = /x\n", master, asked)


@pytest.mark.parametrize(
    ("main", "option", "place"),
    [
        ("", "$smtpd_recipient_restrictions", r"master\.cf:3"),
        ("a = $b\nb = $a\n", "$a", r"main\.cf:2"),
        ("smtpd_recipient_restrictions = $smtpd_recipient_restrictions\n", "", r"main\.cf:1"),
    ],
)
def test_a_list_that_names_itself_is_refused(main: str, option: str, place: str) -> None:
    master = MASTER_HEAD + (f"  -o smtpd_recipient_restrictions={option}\n" if option else "")
    with pytest.raises(Refused, match=f"{place}: .*leads back to itself"):
        plan(main, master, Wish())


def test_the_author_milter_never_stands_in_non_smtpd_milters() -> None:
    main = "smtpd_milters = inet:h:1\nnon_smtpd_milters = $smtpd_milters\n"
    planned = plan(main, f"submission inet n - y - - smtpd{TLS}\n", Wish())
    assert planned.main.startswith(main)
    assert "submitward_milters = $submitward_milter inet:h:1" in planned.main


_LINES = st.sampled_from(
    [
        *("# a comment", "", "   ", "\t# another", "myhostname = a", "# submitward"),
        *("mua = permit, reject", "mua = reject_x,", "  permit", "  reject_y, warn_if_reject"),
        *("smtpd_recipient_restrictions = $mua", "smtpd_recipient_restrictions ="),
        *("smtpd_recipient_restrictions = reject_x", "smtpd_data_restrictions=permit"),
        *("smtpd_milters = inet:h:1,", "  { inet:h:2, timeout=1s }"),
        *("# ask submitward_policy, $submitward_policy, x", "  # permit ${submitward_policy}"),
        *(f"# {COMMENT}", f"  # {COMMENT}", "\f reject_z", "\x85", "\xa0x = 1", "  \x1cpermit", "\r"),
    ]
)
_ENTRIES = st.sampled_from(
    [
        *("# a comment", "", "\t# mua", "qmgr unix n - n 300 1 qmgr", "smtp inet n - y - - smtpd"),
        *(f"submission inet n - y - - smtpd{TLS}", f"587 inet n - n - - smtpd -v{TLS}", "  -o syslog_name=x"),
        *("  -o smtpd_recipient_restrictions=$mua", "  -o smtpd_data_restrictions=reject_x,permit"),
        *("  -o { smtpd_milters = inet:h:1, inet:h:2 }", f"# {COMMENT}", f"\t# {COMMENT}", "\v-v\r"),
    ]
)


@given(
    main=st.lists(_LINES, max_size=12), master=st.lists(_ENTRIES, max_size=10),
    ends=st.tuples(st.booleans(), st.booleans()), hosts=st.booleans(), signer=st.booleans(),
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_whatever_is_put_in_comes_out_again(main, master, ends, hosts, signer) -> None:
    texts = ["\n".join(lines) + "\n" * end for lines, end in zip((main, master), ends, strict=True)]
    asked = Wish(hosts=hosts, signer="unix:x" if signer else "")
    try:
        planned = plan(*texts, asked)
    except Refused:
        return
    bare = remove(planned.main, planned.master)
    assert [bare.main, bare.master] == texts
    again = plan(planned.main, planned.master, asked)
    assert (again.main, again.master) == (planned.main, planned.master)
