"""`submitward export postfix` as a process, its tables asked with Postfix's own postmap."""

import json
import subprocess
from pathlib import Path

import pytest

from submitward import replacing
from submitward.replacing import replace_files
from tests.submitward.command import submitward

OLD, NEW, OTHER = "ab" * 32, "cd" * 32, "ef" * 32
DIRECTORY = f"""
logins:
  alice: {{mailboxes: [alice@example.org]}}
certificates:
  printer: {{fingerprints: ["{NEW}", "{OLD}"], addresses: [printer@example.org]}}
  gone: {{fingerprint: "{OTHER}", disabled: true}}
  odd: {{fingerprint: "{"12" * 32}", addresses: ["o dd@example.org"]}}
networks:
  wide: {{network: 10.0.0.0/8}}
  office: {{network: 10.1.0.0/16}}
  host: {{network: 127.0.0.2}}
  six: {{network: "2001:db8::/32"}}
  gone: {{network: 192.0.2.0/24, disabled: true}}
"""


class Site:
    """A settings file, a directory, and where the tables go."""

    def __init__(self, path: Path) -> None:
        self.settings = path / "config.yaml"
        self.directory = path / "directory.yaml"
        self.output = path / "postfix"
        self.output.mkdir()
        (self.output / "main.cf").write_text("compatibility_level = 3.6\n")
        self.settings.write_text(f"version: 1\nmta: mx1\ndirectory: {{file: {{path: {self.directory}}}}}\n")
        self.directory.write_text(DIRECTORY)

    def export(self, *arguments):
        return submitward(self.settings, "export", "postfix", "--output", str(self.output), *arguments)

    def table(self, name):
        return (self.output / name).read_text().splitlines()

    def postmap(self, key, table):
        asked = ["/usr/sbin/postmap", "-c", str(self.output), "-q", key, table]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def written(path):
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def spelled(fingerprint):
    return ":".join([fingerprint[:2].upper()] * 32)


def test_both_tables_are_written_sorted_and_without_who_is_disabled(site):
    done = site.export()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{site.output}/relay_clientcerts: 3 entries, changed",
        f"{site.output}/networks: 4 entries, changed",
        "run `postfix reload`: Postfix reads these tables when a process of it starts",
    ]
    head, *lines = site.table("relay_clientcerts")
    assert head.startswith("# relay_clientcerts: written by `submitward export postfix`.")
    assert lines == [
        f"{spelled('12')} listed",
        f"{spelled(OLD)} printer@example.org",
        f"{spelled(NEW)} printer@example.org",
    ]
    assert site.table("networks")[1:] == [
        "127.0.0.2/32 OK",
        "10.1.0.0/16 OK",
        "10.0.0.0/8 OK",
        "2001:db8::/32 OK",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (spelled(OLD), "printer@example.org"),
        (spelled(NEW).lower(), "printer@example.org"),
        (spelled(OTHER), ""),
    ],
)
def test_postfix_finds_listed_fingerprints_and_no_other(site, key, value):
    site.export()
    assert site.postmap(key, f"texthash:{site.output}/relay_clientcerts") == value


@pytest.mark.parametrize(
    ("client", "value"),
    [
        ("127.0.0.2", "OK"),
        ("127.0.0.1", ""),
        ("10.1.2.3", "OK"),
        ("10.200.0.1", "OK"),
        ("192.0.2.1", ""),
        ("2001:db8:1::1", "OK"),
        ("2001:db9::1", ""),
        ("::1", ""),
    ],
)
def test_postfix_finds_listed_networks_and_no_other(site, client, value):
    site.export()
    assert site.postmap(client, f"cidr:{site.output}/networks") == value


def test_tables_without_entries_let_nobody_relay(site):
    site.directory.write_text("logins: {}")
    assert site.export().returncode == 0
    assert len(site.table("networks")) == len(site.table("relay_clientcerts")) == 1
    assert site.postmap("127.0.0.2", f"cidr:{site.output}/networks") == ""
    assert site.postmap(spelled(OLD), f"texthash:{site.output}/relay_clientcerts") == ""


def test_unchanged_tables_are_not_touched(site):
    site.export()
    before = {path: written(path) for path in site.output.iterdir()}
    done = json.loads(site.export("--json").stdout)
    assert done == {
        "files": [
            {"file": f"{site.output}/relay_clientcerts", "entries": 3, "changed": False},
            {"file": f"{site.output}/networks", "entries": 4, "changed": False},
        ],
        "reload": False,
    }
    assert {path: written(path) for path in site.output.iterdir()} == before


def test_only_the_table_that_changed_is_written_and_keeps_its_mode(site):
    site.export()
    (site.output / "networks").chmod(0o640)
    inode = (site.output / "relay_clientcerts").stat().st_ino
    site.directory.write_text(DIRECTORY + "  more: {network: 192.0.2.0/28}\n")
    told = json.loads(site.export("--json").stdout)
    assert [file["changed"] for file in told["files"]] == [False, True]
    assert told["reload"]
    assert (site.output / "relay_clientcerts").stat().st_ino == inode
    assert (site.output / "networks").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("text", ["", "logins: {alice: {plan: ''}}", None])
def test_unavailable_directory_leaves_the_old_tables(site, text):
    site.export()
    before = site.table("networks"), site.table("relay_clientcerts")
    if text is None:
        site.directory.unlink()
    else:
        site.directory.write_text(text)
    done = site.export()
    assert done.returncode == 75
    assert done.stderr.startswith(f"{site.directory}:")
    assert done.stderr.endswith("the directory is unavailable; the old tables stay\n")
    assert (site.table("networks"), site.table("relay_clientcerts")) == before


def test_settings_and_usage_that_are_wrong_exit_2(site):
    (site.output / "main.cf").unlink()
    site.output.rmdir()
    assert site.export().returncode == 2
    site.settings.write_text("directory: {file: {path: relative}}\n")
    done = site.export()
    assert done.returncode == 2
    assert "must be an absolute path" in done.stderr


def test_either_both_files_are_replaced_or_none(tmp_path, monkeypatch):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    first.write_bytes(b"old")
    third.write_bytes(b"old")
    replace = Path.replace

    def fail_at_the_third(self, target):
        if target == third and self.suffix == ".new":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(replacing.Path, "replace", fail_at_the_third)
    with pytest.raises(OSError, match="No space"):
        replace_files({first: b"new", second: b"new", third: b"new"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"first": b"old", "third": b"old"}


def test_file_that_cannot_be_prepared_leaves_nothing_behind(tmp_path):
    good = tmp_path / "good"
    with pytest.raises(OSError, match="missing"):
        replace_files({good: b"new", tmp_path / "missing" / "bad": b"new"})
    assert list(tmp_path.iterdir()) == []


def test_replaced_file_keeps_owner_and_mode_and_a_link_stays_a_link(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    real.chmod(0o600)
    link.symlink_to(real)
    assert replace_files({link: b"new"}) == (link,)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
