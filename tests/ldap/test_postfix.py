"""Through a real Postfix: the story with its people in a slapd, and what changes when entries change."""

import time

import pytest

from tests.lab.__main__ import STEPS
from tests.lab.cast import Cast
from tests.lab.certificates import fingerprint
from tests.lab.client import FRIEND, compose, token
from tests.lab.story import reset
from tests.ldap.relay import TTL
from tests.ldap.slapd import BASE, dn_of, host, ldif, person

LOADED = 15.0  # seconds that a loaded machine may take on top


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_every_line_of_the_story_is_the_same_with_ldap(relay, step):
    relay.leave()
    reset(relay.lab, "alice")
    lines = list(step(relay.lab))
    assert lines
    assert not [str(line) for line in lines if not line.good]


def becomes(relay, client, sender, wanted):
    """Ask again until RCPT is answered so, within the time that an answer is remembered; returns its text."""
    until = time.monotonic() + TTL + LOADED
    while (answer := relay.rcpt_in(client, sender))[0] != wanted:
        assert time.monotonic() < until, answer
        time.sleep(0.5)  # a refusal takes a second by itself, and twenty end the session
    return answer[1]


def test_a_new_alias_a_group_and_a_delegate_count_within_the_ttl(relay):
    relay.reach("ldaps")
    login, friend = relay.fresh(), relay.fresh()
    group = ldif(
        f"cn=crew,ou=people,{BASE}",
        objectClass=["groupOfNames", "mailUser"],
        cn="crew",
        mail="crew@example.org",
        member=[dn_of(login)],
    )
    with relay.submitter(login) as client:
        for address, change in (
            (
                "nick@example.org",
                lambda: relay.modify(login, "add: mailAlternateAddress", "mailAlternateAddress: nick"),
            ),
            ("crew@example.org", lambda: relay.slapd.change("ldapadd", group)),
            (
                f"{friend}@example.org",
                lambda: relay.modify(friend, "add: mailDelegate", f"mailDelegate: {dn_of(login)}"),
            ),
        ):
            assert relay.rcpt_in(client, address)[0] == 553
            change()
            becomes(relay, client, address, 250)
        relay.slapd.change("ldapdelete", f"cn=crew,ou=people,{BASE}\n")
        relay.modify(friend, "delete: mailDelegate")
        becomes(relay, client, "crew@example.org", 553)
        becomes(relay, client, f"{friend}@example.org", 553)


def test_a_flush_has_every_sidecar_ask_for_a_login_again(relay):
    relay.leave()  # where answers are remembered for a minute
    cast = Cast(relay.lab)
    flush(relay, "bob")  # so that the minute begins now
    with cast.login("bob") as session:
        assert session.send("bob@example.org", [FRIEND], compose("bob@example.org", token())).code == 250
        relay.modify("bob", "add: mailAlternateAddress", "mailAlternateAddress: bobby")
        refused = session.send("bobby@example.org", [FRIEND], compose("bobby@example.org", token()))
        assert refused.code == 553
        flush(relay, "bob")
        # policyd judges the envelope, the milter From
        assert session.send("bobby@example.org", [FRIEND], compose("bobby@example.org", token())).code == 250


def flush(relay, login):
    """Flush it, and wait until each sidecar has done so."""
    before = len(relay.lab.log("supervisor"))
    relay.lab.submitward("auth", "flush", login)
    until = time.monotonic() + LOADED
    while relay.lab.log("supervisor")[before:].count(f"event=flush login={login}") < 3:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_who_has_not_accepted_the_terms_is_let_in_and_told_where_to_do_so(relay):
    relay.reach("ldaps")
    relay.slapd.change("ldapadd", person("newbie", "newbie@example.org"))
    with relay.submitter("newbie") as client:
        code, text, _ = relay.rcpt_in(client, "newbie@example.org")
        assert (code, text[:5]) == (554, "5.7.1")
        assert "https://example.org/terms" in text
        relay.modify("newbie", "add: termsAccepted", "termsAccepted: 2024-12-31")  # an older version
        time.sleep(TTL + 0.5)
        assert relay.rcpt_in(client, "newbie@example.org")[0] == 554
        relay.modify("newbie", "replace: termsAccepted", "termsAccepted: 2026-02-01")
        becomes(relay, client, "newbie@example.org", 250)


def test_an_account_that_is_switched_off_can_neither_log_in_nor_send_in_an_open_session(relay):
    relay.reach("ldaps")
    login = relay.fresh()
    with relay.submitter(login) as client:
        assert relay.rcpt_in(client, f"{login}@example.org")[0] == 250
        relay.modify(login, "add: pwdAccountLockedTime", "pwdAccountLockedTime: 000001010000Z")
        becomes(relay, client, f"{login}@example.org", 554)
        assert relay.auth(login)[0] == 535
        relay.modify(login, "delete: pwdAccountLockedTime")
        becomes(relay, client, f"{login}@example.org", 250)
        assert relay.auth(login)[0] == 235


@pytest.mark.parametrize("kind", ["network", "certificate"])
def test_a_host_kept_in_ldap_relays_until_its_entry_is_gone(relay, kind):
    relay.reach("ldaps")
    tls = relay.lab.places.tls
    known_by = {
        "network": {"ipHostNumber": "127.0.0.3"},
        "certificate": {"serialNumber": fingerprint(tls / "stranger.crt")},
    }
    client = {"network": {"source": "127.0.0.3"}, "certificate": {"certificate": tls / "stranger"}}[kind]

    def answers(sender, wanted):
        """Once Postfix has read its tables and policyd its hosts."""
        until = time.monotonic() + TTL + LOADED
        while True:
            with relay.session(**client) as session:
                code, text, _ = relay.rcpt_in(session, sender)
            if code == wanted:
                return
            assert time.monotonic() < until, (code, text)
            time.sleep(0.2)

    def export():
        relay.lab.submitward("export", "postfix", "--output", str(relay.lab.places.postfix / "submitward"))
        relay.lab.running.postfix("reload")

    answers("new@example.org", 554)
    relay.slapd.change("ldapadd", host("new", **known_by[kind], mailLocalAddress="new@example.org"))
    answers("new@example.org", 554)  # Postfix decides who may relay, and has not been told
    export()
    answers("new@example.org", 250)
    answers("bob@example.org", 553)
    relay.slapd.change("ldapdelete", f"cn=new,ou=hosts,{BASE}\n")
    export()
    answers("new@example.org", 554)
