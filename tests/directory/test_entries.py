"""The directory file: what it says, and every mistake that it can hold, each at its place."""

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from directory.address import Rules
from directory.drafts import Reading
from directory.entries import read
from directory.identity import Certificate, Login, Network
from directory.ownership import owns, owns_author
from directory.plans import PlanSettings
from sidecar.settings import SettingsError

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b+dWRWJTmaaJObGRdescudvJCs"
FINGERPRINT = "sha256:" + "ab" * 32
READING = Reading({"example.org": ("example.net",)})

EXAMPLE = f"""
logins:
  alice:
    password: "{HASH}"
    mailboxes: [alice@example.org]
    aliases: [alice_lastname]
    shared: [info@example.org]
    domains: {{example.com: any}}
    plan: bulk
    null_sender: true
    terms_accepted: false
  Bob:
    mailboxes: [bob@example.org]
    shared: [info@example.org]
    disabled: true
certificates:
  printer:
    fingerprint: "{FINGERPRINT.upper()}"
    addresses: [printer@example.org]
networks:
  application-host:
    network: 127.0.0.2
    addresses: [app@example.org]
    domains: {{example.org: listed}}
"""


def roll(text, reading=READING):
    return read(textwrap.dedent(text), "directory.yaml", reading)


def problems(text, reading=READING):
    with pytest.raises(SettingsError) as wrong:
        roll(text, reading)
    return [str(problem) for problem in wrong.value.problems]


def test_all_three_kinds_are_read():
    everyone = roll(EXAMPLE)
    alice, bob = everyone.look_up(Login("alice")), everyone.look_up(Login("bob"))
    printer = everyone.look_up(Certificate(("sha256:" + "00" * 32, FINGERPRINT)))
    host = everyone.look_up(Network("127.0.0.2"))
    assert [p.subject for p in everyone.principals] == [
        "login:alice",
        "login:bob",
        f"certificate:{FINGERPRINT}",
        "network:127.0.0.2/32",
    ]
    assert (alice.plan, alice.null_sender, alice.disabled, alice.terms_accepted) == (
        "bulk",
        True,
        False,
        False,
    )
    assert (bob.plan, bob.null_sender, bob.disabled, bob.terms_accepted) == ("default", False, True, True)
    assert alice.domain == "example.org"
    assert "alice_lastname@example.net" in alice.addresses
    assert everyone.hashes == {"alice": HASH}
    assert printer.addresses["printer@example.net"].startswith("address printer of certificate printer")
    assert owns(host, "app@example.net", Rules()) == (
        "address app of network application-host at example.net, alias of example.org"
    )


def test_listed_domain_owns_what_anybody_lists_there_and_nothing_else():
    host = roll(EXAMPLE).look_up(Network("127.0.0.2"))
    assert owns(host, "bob@example.org", Rules()) == (
        "domain example.org (listed), which holds mailbox bob of login Bob at example.org"
    )
    assert owns(host, "alice_lastname@example.net", Rules())
    assert owns(host, "info@example.org", Rules())
    assert owns(host, "nobody@example.org", Rules()) is None
    assert owns(host, "info@example.net", Rules()) is None


def test_terms_are_accepted_unless_the_settings_require_it():
    text = "logins: {alice: {}, bob: {terms_accepted: true}}"
    strict = roll(text, Reading(terms_required=True, terms_url="https://example.org/terms"))
    assert roll(text).look_up(Login("alice")).terms_accepted
    assert not strict.look_up(Login("alice")).terms_accepted
    assert strict.look_up(Login("alice")).terms_url == "https://example.org/terms"
    assert strict.look_up(Login("bob")).terms_accepted


def test_certificate_with_two_fingerprints_is_one_principal_named_after_the_first():
    old, new = "ab" * 32, "cd" * 32
    both = roll(f"certificates: {{printer: {{fingerprints: ['{old}', '{new}']}}}}")
    assert len(both.principals) == 1
    for fingerprint in (old, new):
        found = both.look_up(Certificate((f"sha256:{fingerprint}",)))
        assert found.subject == f"certificate:sha256:{old}"
        assert found.fingerprints == (f"sha256:{old}", f"sha256:{new}")


@pytest.mark.parametrize(
    ("client", "name"),
    [
        ("192.0.2.1", "192.0.2.0/24"),
        ("192.0.2.129", "192.0.2.128/25"),
        ("192.0.3.1", None),
        ("::ffff:192.0.2.1", "192.0.2.0/24"),
        ("2001:db8::1", "2001:db8::/32"),
        ("2001:db8:1::1", "2001:db8:1::/48"),
        ("2001:DB8:1:0::1%eth0", "2001:db8:1::/48"),
        ("fe80::1%eth0", None),
        ("unknown", None),
        ("", None),
        ("192.0.2.1 ", None),
        ("192.0.2.01", None),
        ("3221225985", None),
        ("%", None),
        ("x" * 100_000, None),
        ("192.0.2.\u0661", None),
    ],
)
def test_longest_listed_prefix_answers_for_a_client(client, name):
    everyone = roll("""
        networks:
          a: {network: 192.0.2.0/24}
          b: {network: 192.0.2.128/25}
          c: {network: "2001:db8::/32"}
          d: {network: "2001:db8:1::/48"}
        """)
    found = everyone.look_up(Network(client))
    assert (found.name if found else None) == name


def test_file_without_principals_is_a_directory():
    assert roll("logins: {}").principals == ()
    assert roll("{}").look_up(Login("alice")) is None


def test_numbers_and_words_of_yaml_are_names_here():
    everyone = roll("""
        logins:
          007: {mailboxes: [1@example.org], aliases: [2, on, 0x1F]}
          no: {}
        """)
    assert set(everyone.logins) == {"007", "no"}
    assert "on@example.org" in everyone.look_up(Login("007")).addresses


# Each: a name, the file, what is said about it.
MISTAKES = [
    ("empty", "", ["directory.yaml: is empty; without principals it holds `logins: {}`"]),
    ("comment", "# nothing\n", ["directory.yaml: is empty; without principals it holds `logins: {}`"]),
    ("list", "[]", ["directory.yaml:1:1: must hold keys with values"]),
    ("scalar", "x", ["directory.yaml:1:1: must hold keys with values"]),
    ("section", "logins: 5", ["directory.yaml:1:9: logins: must hold keys with values"]),
    ("section list", "logins: [a, b]", ["directory.yaml:1:9: logins: must hold keys with values"]),
    ("mapping as section", "? {a: b}\n: {c: d}\n", ["directory.yaml:1:3: a key is a plain word"]),
    ("entry", "logins: {alice: }", ["directory.yaml:1:17: logins.alice: must hold keys with values"]),
    (
        "unknown section",
        "login: {alice: {}}",
        [
            "directory.yaml:1:1: login: unknown key; did you mean 'logins'?; "
            "allowed: logins, certificates, networks"
        ],
    ),
    (
        "unknown key",
        "logins:\n  alice:\n    mailbox: [a@b]\n",
        [
            "directory.yaml:3:5: logins.alice.mailbox: unknown key; did you mean 'mailboxes'?; allowed: "
            "password, mailboxes, aliases, shared, networks, domains, author, plan, groups, null_sender, "
            "disabled, terms_accepted"
        ],
    ),
    (
        "section twice",
        "logins:\n  a: {}\nlogins:\n  b: {}\n",
        ["directory.yaml:3:1: logins: is already set in line 1"],
    ),
    (
        "login twice",
        "logins:\n  a: {}\n  a: {}\n",
        [
            "directory.yaml:3:3: logins.a: is already set in line 2",
            "directory.yaml:3:3: logins.a: is the same login as a in line 2",
        ],
    ),
    (
        "logins that fold alike",
        "logins:\n  alice: {}\n  ALICE: {}\n",
        ["directory.yaml:3:3: logins.ALICE: is the same login as alice in line 2"],
    ),
    (
        "key twice",
        "logins:\n  a:\n    plan: x\n    plan: y\n",
        ["directory.yaml:4:5: logins.a.plan: is already set in line 3"],
    ),
    (
        "bad login",
        "logins: {'a b': {}}",
        ["directory.yaml:1:10: logins.a b: 'a b': a login holds no control character, blank or #"],
    ),
    ("empty login", "logins: {'': {}}", ["directory.yaml:1:10: logins: must be a text that is not empty"]),
    ("login with NUL", 'logins: {"a\\0": {}}', ["directory.yaml:1:10: logins: holds a control character"]),
    ("list as login", "logins: {[a]: {}}", ["directory.yaml:1:10: logins: must be a text that is not empty"]),
    (
        "mailbox without domain",
        "logins:\n  a:\n    mailboxes: [a]\n",
        ["directory.yaml:3:17: logins.a.mailboxes: 'a': the address has no domain"],
    ),
    (
        "several mistakes at once",
        "logins:\n  a:\n    mailboxes: [a, '@b', 'x@y@z']\n    disabled: maybe\n    plan: ''\n",
        [
            "directory.yaml:3:17: logins.a.mailboxes: 'a': the address has no domain",
            "directory.yaml:3:20: logins.a.mailboxes: '@b': the address has nothing before its @",
            "directory.yaml:3:26: logins.a.mailboxes: 'x@y@z': the address has more than one @",
            "directory.yaml:4:15: logins.a.disabled: must be true or false",
            "directory.yaml:5:11: logins.a.plan: must be a text that is not empty",
        ],
    ),
    (
        "mailboxes as a text",
        "logins: {a: {mailboxes: a@b}}",
        ["directory.yaml:1:25: logins.a.mailboxes: must be a list: write [a, b], or one '- a' a line"],
    ),
    (
        "bare alias without mailbox",
        "logins: {a: {aliases: [b]}}",
        ["directory.yaml:1:24: logins.a.aliases: 'b': the address has no domain"],
    ),
    (
        "bare alias with an empty list of mailboxes",
        "logins: {a: {mailboxes: [], aliases: [b]}}",
        [
            "directory.yaml:1:10: logins.a: an alias without a domain needs a mailbox, whose domain it takes",
        ],
    ),
    (
        "wildcard",
        "logins: {a: {mailboxes: ['*@example.org']}}",
        [
            "directory.yaml:1:26: logins.a.mailboxes: '*@example.org': "
            "a whole domain stands under domains, as `example.org: any`"
        ],
    ),
    (
        "domain literal",
        "logins: {a: {mailboxes: ['a@[127.0.0.1]']}}",
        [
            "directory.yaml:1:26: logins.a.mailboxes: 'a@[127.0.0.1]': "
            "the null sender and address literals belong to nobody"
        ],
    ),
    (
        "domain",
        "logins: {a: {domains: {'*.b': any, b: all, B: any, c: any, C: listed}}}",
        [
            "directory.yaml:1:24: logins.a.domains: '*.b': the domain is not a domain name",
            "directory.yaml:1:39: logins.a.domains.b: must be any or listed",
            "directory.yaml:1:60: logins.a.domains.C: says the same domain as c",
        ],
    ),
    (
        "one mailbox of two logins",
        "logins:\n  a: {mailboxes: [x@example.org]}\n  b: {mailboxes: [X@Example.ORG.]}\n",
        [
            "directory.yaml:3:3: logins.b: x@example.org is already an address of login a, in line 2; "
            "what several logins use stands under shared",
        ],
    ),
    (
        "mailbox that is an alias at an alias domain",
        "logins:\n  a: {mailboxes: [a@example.org], aliases: [x]}\n  b: {mailboxes: [x@example.net]}\n",
        [
            "directory.yaml:3:3: logins.b: x@example.net is already an address of login a, in line 2; "
            "what several logins use stands under shared",
        ],
    ),
    (
        "no fingerprint",
        "certificates: {p: {}}",
        ["directory.yaml:1:16: certificates.p: fingerprint is required"],
    ),
    (
        "fingerprint",
        "certificates: {p: {fingerprint: 'ab:cd'}}",
        [
            "directory.yaml:1:33: certificates.p: 'ab:cd': 'ab:cd' is no fingerprint: "
            "hexadecimal of 16, 20, 32, 48 or 64 bytes is"
        ],
    ),
    (
        "fingerprint twice",
        f"certificates:\n  p: {{fingerprint: '{'ab' * 32}'}}\n  q: {{fingerprint: '{'AB:' * 31}AB'}}\n",
        ["directory.yaml:3:20: certificates.q: has the fingerprint of p in line 2"],
    ),
    ("no network", "networks: {p: {}}", ["directory.yaml:1:12: networks.p: network is required"]),
    (
        "host bits",
        "networks: {p: {network: 192.0.2.1/24}}",
        [
            "directory.yaml:1:25: networks.p.network: '192.0.2.1/24': has host bits set; "
            "the network is 192.0.2.0/24"
        ],
    ),
    (
        "everybody",
        "networks:\n  p: {network: 0.0.0.0/0}\n  q: {network: '::/0'}\n  r: {network: '128.0.0.0/1'}\n",
        [
            f"directory.yaml:{line}:16: networks.{name}.network: '{network}': holds so many hosts that "
            "anybody could relay; list the hosts that are yours"
            for line, name, network in ((2, "p", "0.0.0.0/0"), (3, "q", "::/0"), (4, "r", "128.0.0.0/1"))
        ],
    ),
    (
        "mapped network",
        "networks: {p: {network: '::ffff:192.0.2.0/120'}}",
        [
            "directory.yaml:1:25: networks.p.network: '::ffff:192.0.2.0/120': is an IPv4 network in IPv6 "
            "clothes; write it as IPv4, which matches both"
        ],
    ),
    (
        "network twice",
        "networks:\n  p: {network: 192.0.2.0/24}\n  q: {network: 192.0.2.0/255.255.255.0}\n",
        ["directory.yaml:3:16: networks.q.network: is the network of p in line 2"],
    ),
    (
        "second document",
        "logins: {}\n---\nlogins: {}\n",
        ["directory.yaml:3:1: a second document (---) begins here"],
    ),
    (
        "anchor",
        "logins:\n  a: &x {plan: y}\n  b: *x\n",
        ["directory.yaml:2:6: anchors and aliases (& and *) are not used here; write the value out"],
    ),
    (
        "tag",
        "logins: !!python/name:os.system {}",
        ["directory.yaml:1:9: tags (!) are not used here; write the plain value"],
    ),
    ("nesting", "[" * 500, ["directory.yaml:1:10: is nested deeper than 10 levels"]),
    (
        "tab",
        "logins:\n\ta: {}\n",
        ["directory.yaml:2:1: is not YAML: found character that cannot start any token"],
    ),
]


@pytest.mark.parametrize(("name", "text", "said"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_mistake_is_named_at_its_place(name, text, said):
    assert problems(text) == said


def test_endless_nesting_is_one_mistake():
    """Newer libyaml gives up by itself, at 1000 levels."""
    (said,) = problems("[" * 200_000)
    assert "nest" in said


@pytest.mark.parametrize(
    "password",
    [
        "''",
        "swordfish",
        "'{PLAIN}swordfish'",
        "$6$rounds=5000$saltsalt$swordfish",
        HASH.replace("argon2id", "argon2i"),
        HASH.replace("v=19", "v=16"),
        HASH.replace("m=8", "m=7"),
        HASH.replace("m=8", "m=9999999"),
        HASH.replace("t=1", "t=0"),
        HASH.replace("p=1", "p=0"),
        HASH[:-30],
        HASH[:-2],
        HASH + "\u0661",
    ],
)
def test_password_that_is_no_argon2id_hash_is_refused_and_not_shown(password):
    (said,) = problems(f"logins:\n  alice:\n    password: {password}\n")
    assert said.startswith("directory.yaml:3:15: logins.alice.password: ")
    assert "swordfish" not in said
    assert "RdescudvJ" not in said


@given(st.text(alphabet="logins: {}[]a@b.c\n  -&*!|>'\"#%,?", max_size=80))
@settings(max_examples=300)
def test_any_text_is_a_roll_or_mistakes(text):
    try:
        read(text, "directory.yaml", READING)
    except SettingsError as wrong:
        assert wrong.problems


AUTHORS = """
logins:
  wide:
    mailboxes: [wide@example.org]
    author: {also: [news@example.com], domains: [lists.example.org]}
  narrow:
    mailboxes: [narrow@example.org]
    domains: {example.com: any}
    author: {only: [narrow@example.org]}
  silent:
    mailboxes: [silent@example.org]
    author: {only: []}
networks:
  host:
    network: 127.0.0.2
    author: {only: [app@example.org], domains: [app.example.org]}
"""


@pytest.mark.parametrize(
    ("who", "address", "envelope", "author"),
    [
        (Login("wide"), "wide@example.org", True, True),
        (Login("wide"), "wide@example.net", True, True),
        (Login("wide"), "news@example.com", False, True),
        (Login("wide"), "anything@lists.example.org", False, True),
        (Login("wide"), "anything@sub.lists.example.org", False, False),
        (Login("wide"), "bob@example.org", False, False),
        (Login("narrow"), "narrow@example.org", True, True),
        (Login("narrow"), "narrow@example.net", True, False),
        (Login("narrow"), "x@example.com", True, False),
        (Login("silent"), "silent@example.org", True, False),
        (Network("127.0.0.2"), "app@example.org", False, True),
        (Network("127.0.0.2"), "x@app.example.org", False, True),
        (Network("127.0.0.2"), "", False, False),
    ],
)
def test_an_entry_may_say_more_or_less_for_the_author_than_for_the_envelope(who, address, envelope, author):
    principal = roll(AUTHORS).look_up(who)
    assert bool(owns(principal, address, Rules())) is envelope
    assert bool(owns_author(principal, address, Rules())) is author


def test_what_is_wrong_with_an_author_stands_at_its_place():
    text = """
        logins:
          a:
            author: {only: [nobody, "*@example.org"], alsó: [x@example.org], domains: ["a b"]}
    """
    found = problems(text)
    assert [problem.split(":")[1] for problem in found] == ["4"] * 4
    assert "unknown key" in "".join(found)
    assert "logins.a.author.only" in "".join(found)


def test_a_login_may_come_from_some_networks_only():
    everyone = roll("logins: {alice: {networks: [192.0.2.7, '2001:db8::/32']}, bob: {}}")
    assert everyone.look_up(Login("alice")).networks == ("192.0.2.7/32", "2001:db8::/32")
    assert everyone.look_up(Login("bob")).networks == ()


def test_networks_that_are_none_are_mistakes_and_never_mean_everywhere():
    found = problems("logins: {alice: {networks: [192.0.2.1/24, home]}}")
    assert [line.partition(": ")[0] for line in found] == ["directory.yaml:1:29", "directory.yaml:1:43"]
    assert "the network is 192.0.2.0/24" in found[0]
    (empty,) = problems("logins: {alice: {networks: []}}")
    assert "logins.alice.networks" in empty


PLANS = PlanSettings({"newsletter": "bulk", "cn=staff,ou=groups": "staff"}, {"example.org": "tenant"})

#: what stands in an entry, its plan, the words that say why
CHOSEN = [
    ("plan: own, groups: [newsletter], mailboxes: [a@example.org]", "own", "its entry"),
    ("plan: default, groups: [newsletter]", "default", "its entry"),
    ("groups: [other, NewsLetter], mailboxes: [a@example.org]", "bulk", "directory.plans.groups: newsletter"),
    ("groups: ['CN = staff, OU=groups', newsletter]", "bulk", "directory.plans.groups: newsletter"),
    ("groups: ['CN = Staff, OU=groups']", "staff", "directory.plans.groups: cn=staff,ou=groups"),
    ("mailboxes: [a@example.org]", "tenant", "directory.plans.domains: example.org"),
    ("mailboxes: [a@example.net]", "tenant", "directory.plans.domains: example.org"),
    ("aliases: [a@example.net]", "tenant", "directory.plans.domains: example.org"),
    ("shared: [a@example.org]", "default", "the default"),
    ("mailboxes: [a@example.com]", "default", "the default"),
]


@pytest.mark.parametrize(("entry", "plan", "why"), CHOSEN)
def test_a_plan_comes_from_the_entry_then_a_group_then_the_domain_then_the_default(entry, plan, why):
    reading = Reading({"example.org": ("example.net",)}, plans=PLANS)
    found = roll(f"logins:\n  a: {{{entry}}}\n", reading).look_up(Login("a"))
    assert (found.plan, found.plan_from) == (plan, why)


def test_a_hosts_plan_is_chosen_like_a_logins():
    reading = Reading({"example.org": ("example.net",)}, plans=PLANS)
    text = "networks:\n  h: {network: 192.0.2.7, addresses: [app@example.net]}\n"
    found = roll(text, reading).look_up(Network("192.0.2.7"))
    assert (found.plan, found.domain) == ("tenant", "example.org")


def test_a_mailbox_at_an_alias_is_at_home_at_the_domain_itself():
    assert roll("logins:\n  a: {mailboxes: [a@example.net]}\n").look_up(Login("a")).domain == "example.org"


def test_groups_are_a_list_of_names():
    assert problems("logins:\n  a: {groups: staff}\n") == [
        "directory.yaml:2:15: logins.a.groups: must be a list: write [a, b], or one '- a' a line"
    ]
