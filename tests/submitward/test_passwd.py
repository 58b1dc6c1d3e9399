"""`submitward passwd` as a process and on a terminal; only the password in the file changes."""

import contextlib
import fcntl
import json
import os
import pty
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from directory.amend import Missing, Unamendable, with_password
from directory.passwords import matches
from tests.submitward.command import ROOT, submitward

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b+dWRWJTmaaJObGRdescudvJCs"
FILE = f"""# who may send – ü, 漢字, \U0001f4e7
logins:

  alice:   # the first
    mailboxes: [alice@example.org]   # her own
    password: "{HASH}"  # of May
  Bob: {{mailboxes: [bob@example.org]}}   # no password yet
  carol:
    # she has an alias
    mailboxes: ["carol@example.org"]
  "dora": {{}}
  eve: {{ password: '{HASH}' , plan: default }}
  frank: {{password: , plan: default}}
  gina:
    password:
    plan: default
certificates: {{}}
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "directory.yaml").write_text(FILE)
    settings = tmp_path / "config.yaml"
    settings.write_text(f"version: 1\ndirectory: {{file: {{path: {tmp_path}/directory.yaml}}}}\n")
    return settings


def passwd(site, *arguments, stdin="swordfish\n"):
    return submitward(site, "passwd", *arguments, stdin=stdin)


def usable(text):
    """The example without the two entries that a sidecar would refuse."""
    return text[: text.index("  frank")] + text[text.index("certificates") :]


@pytest.mark.parametrize("login", ["alice", "BOB", "carol", "dora", "eve"])
def test_password_is_set_and_every_other_character_stays(site, login):
    path = site.with_name("directory.yaml")
    path.write_text(usable(FILE))
    done = passwd(site, login, "--stdin")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"the password of {login.lower()} is set in {path}; it holds within two seconds\n"
    entries = {key.lower(): value for key, value in yaml.safe_load(path.read_text())["logins"].items()}
    encoded = entries[login.lower()]["password"]
    assert matches(encoded, b"swordfish")
    assert path.read_text() == with_password(usable(FILE), login.lower(), encoded)


@pytest.mark.parametrize(
    ("login", "old", "new"),
    [
        ("alice", f'password: "{HASH}"  # of May', 'password: "NEW"  # of May'),
        ("bob", "Bob: {mailboxes", 'Bob: {password: "NEW", mailboxes'),
        (
            "carol",
            '    mailboxes: ["carol@example.org"]',
            '    password: "NEW"\n    mailboxes: ["carol@example.org"]',
        ),
        ("dora", '"dora": {}', '"dora": {password: "NEW"}'),
        ("eve", f"password: '{HASH}' ,", 'password: "NEW" ,'),
        ("frank", "frank: {password: ,", 'frank: {password: "NEW",'),
        ("gina", "gina:\n    password:\n", 'gina:\n    password: "NEW"\n'),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_each_way_to_write_an_entry_is_amended(login, old, new, newline):
    text, old, new = (part.replace("\n", newline) for part in (FILE, old, new))
    assert text.count(old) == 1
    assert with_password(text, login, "NEW") == text.replace(old, new)


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "logins: {}", "logins: []", "other: {alice: {}}", "logins: {a b: {}}"]
)
def test_file_without_the_login_says_so(text):
    with pytest.raises(Missing):
        with_password(text, "alice", "NEW")


@pytest.mark.parametrize(
    "text",
    [
        "logins: {alice: 5}",
        "logins: {alice: {password: [x]}}",
        "logins:\n  alice:\n    password: |\n      x\n",
        "logins:\n  alice:\n    ? plan\n    : x\n",
    ],
)
def test_entry_that_is_written_strangely_is_left_alone(text):
    with pytest.raises(Unamendable):
        with_password(text, "alice", "NEW")


@given(st.text(alphabet="logins: {}alice\n  -?[]&*!|>'\"#,", max_size=80))
def test_any_text_is_amended_or_refused(text):
    with contextlib.suppress(Missing, Unamendable, yaml.YAMLError):
        with_password("logins: {alice: {}}\n" + text, "alice", "NEW")


def test_placeholder_is_replaced_by_a_password(site):
    path = site.with_name("directory.yaml")
    path.write_text("logins:\n  alice:\n    password: changeme\n")
    assert passwd(site, "alice", "--stdin", "--json").returncode == 0
    assert "changeme" not in path.read_text()


def test_byte_order_mark_stays(site):
    path = site.with_name("directory.yaml")
    path.write_bytes(b"\xef\xbb\xbflogins: {alice: {}}\r\n")
    assert passwd(site, "alice", "--stdin").returncode == 0
    assert path.read_bytes().startswith(b'\xef\xbb\xbflogins: {alice: {password: "$argon2id$')
    assert path.read_bytes().endswith(b'"}}\r\n')


def test_login_that_is_not_listed_exits_1_and_says_what_to_add(site):
    before = site.with_name("directory.yaml").read_bytes()
    done = passwd(site, "mallory", "--stdin")
    assert done.returncode == 1
    assert "has no login mallory; add under logins:\n\n  mallory:\n    mailboxes: [mallory@" in done.stderr
    assert site.with_name("directory.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("stdin", "status"),
    [("", 1), ("\n", 1), ("\r\n", 1), ("a\0b\n", 1), ("x" * 4097 + "\n", 1), ("x" * 200_000, 1)],
)
def test_password_that_cannot_be_one_is_refused(site, stdin, status):
    assert passwd(site, "alice", "--stdin", stdin=stdin).returncode == status
    assert site.with_name("directory.yaml").read_text() == FILE


def test_first_line_is_the_password_with_its_blanks(site):
    done = passwd(site, "alice", "--stdin", "--print", "--json", stdin=" sword fish \r\nsecond\n")
    told = json.loads(done.stdout)
    assert told["login"] == "alice"
    assert matches(told["hash"], b" sword fish ")


def test_hash_is_printed_without_settings_and_without_a_directory(tmp_path):
    done = passwd(tmp_path / "none.yaml", "alice", "--stdin", "--print")
    assert done.returncode == 0
    assert matches(done.stdout.strip(), b"swordfish")


def test_login_that_is_none_and_settings_that_are_wrong_exit_2(site):
    assert passwd(site, "a b", "--stdin").returncode == 2
    assert passwd(site.with_name("none.yaml"), "alice", "--stdin").returncode == 2


def test_without_a_terminal_and_without_stdin_nothing_is_asked(site):
    path = site.with_name("directory.yaml")
    path.write_text(usable(FILE))
    done = passwd(site, "alice")
    assert done.returncode == 2
    assert "use --stdin" in done.stderr


def test_missing_directory_is_unavailable(site):
    site.with_name("directory.yaml").unlink()
    done = passwd(site, "alice", "--stdin")
    assert done.returncode == 75
    assert "nothing is changed" in done.stderr


@pytest.mark.parametrize(
    "text", ["logins: {alice: {}, alice: {}}", "logins: {alice: {pan: x}}", "logins: {alice: {}"]
)
def test_file_that_would_still_be_broken_is_left_alone_and_its_mistakes_are_named(site, text):
    path = site.with_name("directory.yaml")
    path.write_text(text)
    done = passwd(site, "alice", "--stdin")
    assert done.returncode == 2
    assert done.stderr.startswith((f"{path}:1:", f"{path}:2:"))
    assert path.read_text() == text


def test_owner_mode_and_link_are_kept(site):
    path = site.with_name("directory.yaml")
    real = site.with_name("real.yaml")
    path.unlink()
    real.write_text("logins: {alice: {}}")
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 12345, 54321)
    before = real.stat()
    path.symlink_to(real)
    assert passwd(site, "alice", "--stdin").returncode == 0
    after = real.stat()
    assert path.is_symlink()
    assert after.st_ino != before.st_ino
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_runs_at_the_same_time_all_hold(site):
    path = site.with_name("directory.yaml")
    path.write_text("logins:\n" + "".join(f"  user{n}: {{}}\n" for n in range(4)))
    command = [sys.executable, "-m", "submitward", "--settings", str(site), "passwd", "--stdin"]
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        runs = [
            subprocess.Popen(
                [*command, f"user{n}"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=ROOT
            )
            for n in range(4)
        ]
    for run in runs:
        run.communicate(b"swordfish\n", timeout=60)
    assert [run.returncode for run in runs] == [0] * 4
    for entry in yaml.safe_load(path.read_text())["logins"].values():
        assert matches(entry["password"], b"swordfish")


def at_a_terminal(site, *answers):
    """The exit status and what the terminal showed."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(
            sys.executable, [sys.executable, "-m", "submitward", "--settings", str(site), "passwd", "alice"]
        )
    shown = b""
    prompts = [b"New password of alice: ", b"The same again: "]
    for prompt, text in zip(prompts, answers, strict=True):
        while prompt not in shown:
            shown += os.read(terminal, 1024)
        os.write(terminal, text.encode() + b"\n")
    try:
        while piece := os.read(terminal, 1024):
            shown += piece
    except OSError:  # the child closed its side
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode()


def test_terminal_asks_twice_and_shows_nothing(site):
    path = site.with_name("directory.yaml")
    path.write_text("logins: {alice: {}}")
    status, shown = at_a_terminal(site, "pässword", "pässword")
    assert status == 0
    assert "pässword" not in shown
    assert matches(yaml.safe_load(path.read_text())["logins"]["alice"]["password"], "pässword".encode())


def test_terminal_answers_that_differ_are_refused(site):
    path = site.with_name("directory.yaml")
    path.write_text("logins: {alice: {}}")
    status, shown = at_a_terminal(site, "one", "two")
    assert status == 1
    assert "the two are not the same" in shown
    assert path.read_text() == "logins: {alice: {}}"
