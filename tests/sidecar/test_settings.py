"""YAML onto dataclasses: what is taken, what is refused, and that every mistake is named with its place."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sidecar.settings import Secret, SettingsError, digest, duration, host_name, load, reference

CANARY = "hunter2-canary"


@dataclass(frozen=True)
class Server:
    SCALAR: ClassVar[str] = "host"
    host: str
    port: int = 389
    weight: float = 1.0

    def __post_init__(self):
        if not 0 < self.port < 65536:
            raise ValueError("port must be 1 to 65535")


@dataclass(frozen=True)
class Peek:
    OPEN: ClassVar[bool] = True
    mode: Literal["enforce", "observe", "off"] = "enforce"


@dataclass(frozen=True)
class Root:
    version: Literal[1] = 1
    name: str = "x"
    flag: bool = False
    count: int = 0
    ratio: float = 0.0
    mode: Literal["enforce", "observe", "off"] = "enforce"
    modes: dict[str, Literal["enforce", "off"]] = field(default_factory=dict)
    path: Path = Path("/x")
    key: Secret | None = None
    words: tuple[str, ...] = ()
    servers: tuple[Server, ...] = ()
    named: dict[str, Server] = field(default_factory=dict)
    lists: dict[str, tuple[float, ...]] = field(default_factory=dict, metadata={"parse": duration})
    timeout: float = field(default=60.0, metadata={"parse": duration, "help": "how long"})
    octal: int = field(default=0, metadata={"parse": lambda text: int(text, 8)})
    maybe: int | None = 5
    keys: dict[str, int] = field(default_factory=dict, metadata={"parse_key": str.lower})
    peek: Peek = field(default_factory=Peek)


def read(tmp_path: Path, text: str | bytes, root: type = Root, **parts: str):
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for name, content in parts.items():
        (tmp_path / "conf.d").mkdir(exist_ok=True)
        (tmp_path / "conf.d" / f"{name}.yaml").write_text(content)
    return load(path, root)


def problems(tmp_path: Path, text: str | bytes, root: type = Root, **parts: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text, root, **parts)
    assert "Traceback" not in str(caught.value)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("name: mx1", "name", "mx1"),
        ('name: "10"', "name", "10"),
        ("name: 'yes'", "name", "yes"),
        ('name: ""', "name", ""),
        ("name: jörg", "name", "jörg"),
        ("name: |\n  two\n  lines\n", "name", "two\nlines\n"),
        ("flag: true", "flag", True),
        ("flag: no", "flag", False),
        ("count: -3", "count", -3),
        ("ratio: 2", "ratio", 2.0),
        ("ratio: 0.5", "ratio", 0.5),
        ("mode: off", "mode", "off"),
        ("modes: {sender: off, limits: enforce}", "modes", {"sender": "off", "limits": "enforce"}),
        ("path: /a/b", "path", Path("/a/b")),
        ("words: [a, b]", "words", ("a", "b")),
        ("words: []", "words", ()),
        ("servers: [ldap1, {host: ldap2, port: 636}]", "servers", (Server("ldap1"), Server("ldap2", 636))),
        ("named: {a: h, b: {host: i}}", "named", {"a": Server("h"), "b": Server("i")}),
        ("lists: {default: [], day: [1 day, 1 h]}", "lists", {"default": (), "day": (86400.0, 3600.0)}),
        ("timeout: 5 min", "timeout", 300.0),
        ("octal: 0660", "octal", 0o660),
        ("maybe: null", "maybe", None),
        ("maybe: ", "maybe", None),
        ("maybe: 7", "maybe", 7),
        ("keys: {B: 1, a: 2}", "keys", {"b": 1, "a": 2}),
        ("peek: {mode: observe, whatever: [1]}", "peek", Peek("observe")),
    ],
)
def test_a_value_is_taken_as_its_annotation_says(tmp_path, text, name, value):
    result = getattr(read(tmp_path, text), name)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: yes",
            "c.yaml:1:7: name: must be text, and 'yes' is a truth value in YAML; write it in quotes",
        ),
        ("name: 10", "c.yaml:1:7: name: must be text, and '10' is a number in YAML; write it in quotes"),
        ("name: 1:30", "c.yaml:1:7: name: must be text, and '1:30' is a number in YAML; write it in quotes"),
        ("name: 2026-01-01", "c.yaml:1:7: name: must be text, and '2026-01-01' is a date in YAML"),
        ("name: ~", "c.yaml:1:7: name: is empty; give a value, or remove the key"),
        ("name:", "c.yaml:1:6: name: is empty; give a value, or remove the key"),
        ("name: [::1]:10", "c.yaml:1:8: is not YAML: "),
        (
            "name: [a]",
            "c.yaml:1:7: name: must be text, not a list; a value that begins with [ or { needs quotes",
        ),
        ('name: "a\\0b"', "c.yaml:1:7: name: holds a control character"),
        ('name: "\\ud800"', "c.yaml:1:7: name: holds a control character"),
        ('name: "\\UFFFFFFFF"', "c.yaml: is not YAML"),
        ('flag: "true"', "c.yaml:1:7: flag: must be true or false, not 'true'"),
        ("flag: 1", "c.yaml:1:7: flag: must be true or false, not '1'"),
        ("count: true", "c.yaml:1:8: count: must be a whole number such as 10, not 'true'"),
        ('count: "3"', "c.yaml:1:8: count: must be a whole number such as 10, not '3'"),
        ("count: 1.5", "c.yaml:1:8: count: must be a whole number such as 10, not '1.5'"),
        ("count: 010", "c.yaml:1:8: count: must be a whole number such as 10, not '010'"),
        ("count: 1_000", "c.yaml:1:8: count: must be a whole number such as 10, not '1_000'"),
        ("ratio: .nan", "c.yaml:1:8: ratio: must be a number such as 0.5, not '.nan'"),
        (
            "mode: enfroce",
            "c.yaml:1:7: mode: 'enfroce' is none of: enforce, observe, off; did you mean 'enforce'?",
        ),
        ('version: "1"', "c.yaml:1:10: version: must be 1 without quotes"),
        ("path: a/b", "c.yaml:1:7: path: must be an absolute path, not 'a/b'"),
        (
            "words: a",
            "c.yaml:1:8: words: must be a list, not a single value: write [a, b], or one '- a' a line",
        ),
        ("words: {a: b}", "c.yaml:1:8: words: must be a list, not a mapping"),
        ("words: [a, 1]", "c.yaml:1:12: words[1]: must be text, and '1' is a number in YAML"),
        ("servers: [{}]", "c.yaml:1:11: servers[0].host: is required: text"),
        ("servers: [{host: a, port: 0}]", "c.yaml:1:11: servers[0]: port must be 1 to 65535"),
        ("servers: [{host: a, prot: 1}]", "c.yaml:1:21: servers[0].prot: unknown key; did you mean 'port'?"),
        ("servers: [1]", "c.yaml:1:11: servers[0]: must be text, and '1' is a number in YAML"),
        ("named: [a]", "c.yaml:1:8: named: must hold keys with values, not a list"),
        ("peek: observe", "c.yaml:1:7: peek: must hold keys with values, not a single value"),
        ("lists: {day: [1 day, 1]}", "c.yaml:1:22: lists.day[1]: '1' is no duration; write it with its unit"),
        ("timeout: 60", "c.yaml:1:10: timeout: '60' is no duration; write it with its unit"),
        ("timeout: [1 s]", "c.yaml:1:10: timeout: must be a number, not a list"),
        ("keys: {a: 1, A: 2}", "c.yaml:1:14: keys.A: says the same as 'a', which is already set"),
        ("nmae: x", "c.yaml:1:1: nmae: unknown key; did you mean 'name'?; allowed: count, flag, "),
        ("? [a]\n: b", "c.yaml:1:3: a key is a plain word"),
        ("~: b", "c.yaml:1:1: a key is a plain word"),
        ("<<: {name: b}", "c.yaml:1:1: a key is a plain word"),
        ("name: a\nflag: true\nname: b", "c.yaml:3:1: name: is already set at c.yaml:1:1"),
        ("named: {a: {host: x, host: y}}", "c.yaml:1:22: named.a.host: is already set at c.yaml:1:13"),
        ("", "c.yaml: is empty"),
        ("# nothing\n", "c.yaml: is empty"),
        ("---\n...\n", "c.yaml:2:1: must hold keys with values, not a single value"),
        ("- a", "c.yaml:1:1: must hold keys with values, not a list"),
        ("just words", "c.yaml:1:1: must hold keys with values, not a single value"),
        ("name: a\n\tflag: true", "c.yaml:2:1: is not YAML: a tab stands here; YAML is indented with blanks"),
        ("name: [a", "c.yaml:1:9: is not YAML: "),
        ("name: a: b", "c.yaml:1:8: is not YAML: mapping values are not allowed here"),
        ("name: &a x", "c.yaml:1:7: anchors and aliases (& and *) are not used here"),
        ("name: *a", "c.yaml:1:7: anchors and aliases (& and *) are not used here"),
        ("name: !!python/name:os.system x", "c.yaml:1:7: tags (!) are not used here"),
        ("name: !!str 1", "c.yaml:1:7: tags (!) are not used here"),
        ("name: a\n---\nname: b", "c.yaml:2:1: a second document (---) begins here; one file holds one"),
        ("a: " + "[" * 5000, "c.yaml:1:23: is nested deeper than 20 levels"),
        ("%YAML " + "9" * 5000 + ".1\n---\nname: a", "c.yaml: is not YAML"),
        (b"name: a\nflag: \xff", "c.yaml:2:7: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"name: \x00", "c.yaml: character #x0000 is not allowed in YAML"),
        (b"\xff\xfen\x00", "c.yaml:1:1: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"name: " + b"x" * 1_000_001, "c.yaml: is larger than 1000000 octets"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(tmp_path, text, message):
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_every_mistake_is_reported_at_once(tmp_path):
    text = "nmae: x\ncount: a\nservers: [{port: x, bad: 1}, 2]\nkey: plain\n"
    assert [line.split(":")[1] for line in problems(tmp_path, text)] == ["1", "2", "3", "3", "3", "3", "4"]


def test_a_message_is_one_line_whatever_the_file_holds(tmp_path):
    text = '"a\\nc.yaml:9:9: forged": 1\n"\\e[31m": 2\nmode: "x\\u2028y"\n'
    assert len(problems(tmp_path, text)) == 5  # two unknown keys, two control characters, one wrong mode
    assert all(line.isprintable() for line in problems(tmp_path, text))


def test_a_thousand_mistakes_do_not_fill_the_terminal(tmp_path):
    found = problems(tmp_path, "".join(f"k{i}: 1\n" for i in range(1000)))
    assert len(found) == 101
    assert found[-1] == "… and 900 more"


def test_a_byte_order_mark_is_no_part_of_the_settings(tmp_path):
    assert read(tmp_path, b"\xef\xbb\xbfname: a").name == "a"


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "loop"])
def test_a_file_that_cannot_be_read_is_a_mistake_and_no_traceback(tmp_path, kind):
    path = tmp_path / "c.yaml"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    with pytest.raises(SettingsError, match=r"c\.yaml: (cannot be read: |is not a regular file)"):
        load(path, Root)


def test_a_file_that_may_not_be_read_is_a_mistake_and_no_traceback(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("name: a")
    path.chmod(0)
    pid = os.fork()
    if pid == 0:  # another user, whoever runs the tests
        status = 1
        try:
            os.chmod(tmp_path, 0o755)
            if os.getuid() == 0:
                os.setuid(65534)
            load(path, Root)
        except SettingsError as error:
            status = 0 if "cannot be read" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_path_with_a_nul_is_a_mistake_and_no_traceback():
    with pytest.raises(SettingsError, match="is no file name"):
        load("/tmp/\0", Root)


def test_required_keys_are_not_missing_when_the_file_was_unreadable(tmp_path):
    assert problems(tmp_path, "host: [a", Server)[0].startswith("c.yaml:1:9: is not YAML")
    assert len(problems(tmp_path, "host: [a", Server)) == 1


class TestConfD:
    def test_mappings_merge_in_the_order_of_names(self, tmp_path):
        settings = read(tmp_path, "named: {b: h1}", a="named: {c: h2}\nname: n", b="named: {a: h3}")
        assert list(settings.named) == ["b", "c", "a"]
        assert settings.name == "n"

    def test_the_same_key_twice_names_both_places(self, tmp_path):
        found = problems(tmp_path, "name: a\nnamed: {x: h}", a="\nname: b", b="named: {x: h}")
        assert found == [
            "conf.d/a.yaml:2:1: name: is already set at c.yaml:1:1",
            "conf.d/b.yaml:1:9: named.x: is already set at c.yaml:2:9",
        ]

    def test_lists_never_merge(self, tmp_path):
        assert problems(tmp_path, "words: [a]", a="words: [b]") == [
            "conf.d/a.yaml:1:1: words: is already set at c.yaml:1:1 (lists do not merge)"
        ]

    def test_a_section_and_a_value_under_one_key_are_refused(self, tmp_path):
        assert problems(tmp_path, "peek: {}", a="peek: x") == [
            "conf.d/a.yaml:1:1: peek: is already set at c.yaml:1:1"
        ]

    def test_an_empty_part_is_no_mistake(self, tmp_path):
        assert read(tmp_path, "name: a", a="# all commented out\n").name == "a"

    def test_a_mistake_is_named_in_the_file_it_stands_in(self, tmp_path):
        assert problems(tmp_path, "name: a", a="count: x")[0].startswith("conf.d/a.yaml:1:8: count: must be")

    def test_other_files_are_not_read_and_yml_is_no_silent_loss(self, tmp_path):
        (tmp_path / "conf.d").mkdir()
        for name in ("README", "a.yaml~", ".hidden.yaml", "a.yaml.dpkg-old"):
            (tmp_path / "conf.d" / name).write_text("[broken")
        assert read(tmp_path, "name: a").name == "a"
        (tmp_path / "conf.d" / "b.yml").write_text("name: b")
        assert problems(tmp_path, "name: a") == ["conf.d/b.yml: is not read; rename it to end in .yaml"]

    def test_a_broken_part_is_reported_beside_the_other_mistakes(self, tmp_path):
        found = problems(tmp_path, "count: x", a="name: [")
        assert [line.split(":")[0] for line in found] == ["c.yaml", "conf.d/a.yaml"]


class TestSecrets:
    def secret(self, tmp_path, content=CANARY + "\n", mode=0o640):
        path = tmp_path / "secret"
        path.write_text(content)
        path.chmod(mode)
        return path

    def test_one_trailing_newline_is_no_part_of_a_secret(self, tmp_path):
        path = self.secret(tmp_path, CANARY + "\n\n")
        assert read(tmp_path, f"key: {{file: {path}}}").key.reveal() == CANARY + "\n"

    def test_a_credential_comes_from_systemds_directory(self, tmp_path, monkeypatch):
        self.secret(tmp_path)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        assert read(tmp_path, "key: {credential: secret}").key.reveal() == CANARY

    def test_without_systemd_there_is_no_credential(self, tmp_path, monkeypatch):
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        assert "there is no $CREDENTIALS_DIRECTORY" in problems(tmp_path, "key: {credential: secret}")[0]

    def test_the_operators_command_reads_it_where_the_units_get_theirs(self, tmp_path, monkeypatch):
        self.secret(tmp_path)
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        monkeypatch.setattr("sidecar.secret.STORE", str(tmp_path))
        assert read(tmp_path, "key: {credential: secret}").key.reveal() == CANARY

    @pytest.mark.parametrize("name", ["../secret", "/etc/passwd", ".", "''"])
    def test_a_credential_does_not_leave_its_directory(self, tmp_path, monkeypatch, name):
        self.secret(tmp_path)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "conf.d"))
        assert "holds no slash" in problems(tmp_path, f"key: {{credential: {name}}}")[0]

    def test_a_secret_everybody_can_read_is_refused(self, tmp_path):
        path = self.secret(tmp_path, mode=stat.S_IRUSR | stat.S_IROTH)
        assert problems(tmp_path, f"key: {{file: {path}}}") == [
            "c.yaml:1:13: key: secret is open to every local user; chmod o-rwx it"
        ]

    @pytest.mark.parametrize(
        ("content", "wrong"),
        [("", "is empty"), ("\n", "is empty"), ("x" * 70000, "is longer than 65536 octets")],
    )
    def test_a_secret_has_a_sensible_length(self, tmp_path, content, wrong):
        path = self.secret(tmp_path, content)
        assert problems(tmp_path, f"key: {{file: {path}}}")[0].endswith(wrong)

    @pytest.mark.parametrize(
        "text",
        [
            CANARY,
            f"{{value: {CANARY}}}",
            f"[{CANARY}]",
            f"{{file: [{CANARY}]}}",
            f"{{file: /x, value: {CANARY}}}",
        ],
    )
    def test_a_secret_written_into_the_settings_is_refused_and_not_shown(self, tmp_path, text):
        found = problems(tmp_path, f"key: {text}")
        assert CANARY not in "\n".join(found)
        assert "write {file: /path} or {credential: name}" in found[0]

    def test_a_secret_has_no_printable_form(self, tmp_path):
        settings = read(tmp_path, f"key: {{file: {self.secret(tmp_path)}}}")
        assert CANARY not in repr(settings) + str(settings.key) + f"{settings.key}" + digest(settings)
        with pytest.raises(TypeError):
            settings.key.__reduce__()

    def test_a_fifo_is_no_secret_and_does_not_hang(self, tmp_path):
        os.mkfifo(tmp_path / "f", 0o600)
        assert problems(tmp_path, f"key: {{file: {tmp_path}/f}}")[0].endswith("is not a regular file")


def test_a_digest_changes_with_the_settings_and_not_with_their_spelling(tmp_path):
    one, same, other = read(tmp_path, "name: a"), read(tmp_path, "'name':   'a'"), read(tmp_path, "name: b")
    assert digest(one) == digest(same) != digest(other)
    assert len(digest(one)) == 12


def test_foreign_keys_are_accepted_unread(tmp_path):
    (tmp_path / "c.yaml").write_text("name: a\nauthor: {anything: [1]}\n")
    assert load(tmp_path / "c.yaml", Root, foreign=frozenset({"author"})).name == "a"
    with pytest.raises(SettingsError, match="unknown key; allowed: author, count"):
        load(tmp_path / "c.yaml", Server, foreign=frozenset({"author", "count"}))


def test_the_host_name_is_the_kernels():
    assert host_name() == os.uname().nodename.rstrip(".").lower()


def test_the_reference_lists_every_key_with_type_default_and_meaning():
    table = reference(Root).splitlines()
    assert "| `timeout` | text | `1 min` | how long |" in table
    assert "| `servers[].host` | text | required |  |" in table
    assert "| `mode` | enforce, observe, off | `enforce` |  |" in table
    assert "| `key` | secret |  |  |" in table
    assert any(row.startswith("| `modes` | name: enforce, off |") for row in table)
    assert all(row.count("|") == 5 for row in table)


@hypothesis_settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet="abn: -[]{}\"'\n\t#&*!|>%@,?<01:.~\\", max_size=80).map(str.encode),
        st.lists(
            st.sampled_from(
                [
                    "name: ",
                    "servers: ",
                    "- ",
                    "\n",
                    "  ",
                    "[",
                    "]",
                    "{",
                    "}",
                    "host: ",
                    "1",
                    "yes",
                    "~",
                    '"',
                    "key: ",
                ]
            ),
            max_size=30,
        ).map(lambda parts: "".join(parts).encode()),
    )
)
def test_any_bytes_are_settings_or_a_settings_error(tmp_path, content):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    try:
        assert isinstance(load(path, Root), Root)
    except SettingsError as error:
        assert error.problems
        assert all(str(problem).isprintable() for problem in error.problems)
