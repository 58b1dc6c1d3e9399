"""An OpenDKIM that somebody else has set up is left alone, and the role's own is given back."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest

from tests.deploy.tasks import play, role, stand_in_for_systemctl
from tests.deploy.variables import ANSIBLE, ROLE

#: As the package brings it. Nothing in this machine's own /etc is written to.
DEBIANS = Path("/etc/opendkim.conf").read_bytes()
OURS = (ROLE / "files/opendkim.conf").read_bytes()
OLDER = b"# as an older role wrote it\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A private /etc of a mail host that asks no OpenDKIM."""
    for name in ("postfix", "opendkim", "units/opendkim.service.d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "postfix/main.cf").write_text("# asks local:/run/opendkim/opendkim.sock\nsmtpd_milters =\n")
    (tmp_path / "postfix/master.cf").write_text("smtp inet n - y - - smtpd\n")
    (tmp_path / "units/opendkim.service.d/submitward.conf").write_text("[Service]\nExecReload=\n")
    (tmp_path / "opendkim/KeyTable").write_text("# Written from submitward_opendkim_keys.\nx x:y:/z\n")
    (tmp_path / "opendkim/SigningTable").write_text("# none yet\n")
    return tmp_path


def look(host: Path) -> dict[str, Any]:
    """What the module tells of it."""
    spec = importlib.util.spec_from_file_location("signer", ANSIBLE / "plugins/modules/signer.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    told: dict[str, Any] = module.look(
        ours=OURS.decode(), keeps_keys=True, postfix=str(host / "postfix"), conf=str(host / "opendkim.conf"),
        tables=str(host / "opendkim"), units_of=str(host / "units"), kept=str(host / "kept"),
    )  # fmt: skip
    return told


def keep(host: Path, was: str, written: bytes) -> None:
    """What the role has noted in a run before."""
    (host / "kept").mkdir()
    (host / "kept/was").write_text(was)
    (host / "kept/written").write_text(hashlib.sha256(written).hexdigest() + "\n")
    (host / "kept/opendkim.conf").write_bytes(DEBIANS)


def test_debians_untouched_file_is_here() -> None:
    listed = subprocess.run(["dpkg", "--verify", "opendkim"], capture_output=True, text=True, check=False)
    assert "/etc/opendkim.conf" not in listed.stdout, "the tests here need the package's own file"


@pytest.mark.parametrize(("conf", "ours"), [(None, False), (DEBIANS, False), (OURS, True), (OLDER, True)])
def test_none_and_debians_and_ours_are_taken(host: Path, conf: bytes | None, ours: bool) -> None:
    keep(host, "", OLDER)
    if conf is not None:
        (host / "opendkim.conf").write_bytes(conf)
    told = look(host)
    assert (told["wrong"], told["ours"]) == ([], ours)


@pytest.mark.parametrize("conf", [DEBIANS + b"Socket inet:8891@localhost\n", OURS + b"Mode sv\n", b""])
def test_anybody_elses_is_refused(host: Path, conf: bytes) -> None:
    (host / "opendkim.conf").write_bytes(conf)
    assert [wrong.partition(": ")[0] for wrong in look(host)["wrong"]] == [str(host / "opendkim.conf")]


def test_what_hangs_on_it_is_refused_by_file_and_line(host: Path) -> None:
    (host / "opendkim.conf").write_bytes(DEBIANS)
    override = host / "units/opendkim.service.d/override.conf"
    override.write_text("[Service]\nExecStart=\nExecStart=/usr/sbin/opendkim -p inet:8891\n")
    (host / "postfix/main.cf").write_text("smtpd_milters =\n  local:/run/opendkim/opendkim.sock\n")
    for table in ("KeyTable", "SigningTable"):
        (host / "opendkim" / table).write_text("# mine\nx x:y:/z\n")
    wrong = look(host)["wrong"]
    assert [one.rpartition(";")[0].partition(": ")[0] for one in wrong] == [
        f"{host}/postfix/main.cf:2", f"{override}:2", f"{override}:3",
        f"{host}/opendkim/KeyTable", f"{host}/opendkim/SigningTable",
    ]  # fmt: skip


def table(name: str, *keys: str, told: bool = False) -> str:
    """A table as the role writes it; `told` is whether it says from what, as it did not at first."""
    pair = [dict(zip(("domain", "selector"), key.split("/"), strict=True)) for key in keys]
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True)
    environment.filters["comment"] = "#\n# {}\n#".format
    return environment.from_string((ROLE / f"templates/{name}.j2").read_text()).render(
        ansible_managed="Ansible managed", submitward_opendkim_keys=pair, submitward_inventory_keeps_keys=told
    )


@pytest.mark.parametrize("told", [False, True])
def test_tables_that_the_role_wrote_are_its_own_whichever_keys_it_had(host: Path, told: bool) -> None:
    (host / "opendkim.conf").write_bytes(OURS)
    for name in ("KeyTable", "SigningTable"):
        text = table(name, "example.org/s1", "b.example/old", told=told)
        assert "example.org" in text
        (host / "opendkim" / name).write_text(text)
    assert look(host)["wrong"] == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("KeyTable", "x x:s:/etc/opendkim/keys/x/s.private"),  # as `submitward dkim` writes it
        ("KeyTable", "x  x:s:/etc/opendkim/keys/y.s.private"),
        ("KeyTable", "x x:s:MIIkept-to-itself"),
        ("SigningTable", "*@x x"),
        ("SigningTable", " alice@x  x"),
    ],
)
def test_a_line_of_somebody_elses_is_refused_by_its_number_and_can_be_given_up(
    host: Path, name: str, line: str
) -> None:
    (host / "opendkim.conf").write_bytes(OURS)
    path = host / "opendkim" / name
    path.write_text(table(name, "example.org/s1") + line + "\n")
    (wrong,) = look(host)["wrong"]
    assert wrong.startswith(f"{path}: ")
    assert ": line 5." in wrong
    assert "kept-to-itself" not in wrong
    asked = re.search("put the line `(.+?)` on top", wrong)
    assert asked
    path.write_text(f"{asked[1]}\n{path.read_text()}")
    assert look(host)["wrong"] == []


def test_whoever_asks_it_after_removal_is_named(host: Path) -> None:
    assert look(host)["asked"] == []
    line = "non_smtpd_milters = unix:opendkim/opendkim.sock"
    (host / "postfix/main.cf").write_text(f"# {line}\n{line}\n")
    assert look(host)["asked"] == [f"{host}/postfix/main.cf:2: {line}"]


def test_the_role_refuses_and_notes_and_gives_back(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_systemctl(host)
    monkeypatch.setenv("PATH", str(host), prepend=":")
    told = {
        "submitward_opendkim": True,
        "submitward_postfix_directory": str(host / "postfix"),
        "submitward_signer_conf": str(host / "opendkim.conf"),
        "submitward_units_home": str(host / "units"),
        "submitward_signer_kept": str(host / "kept"),
    }
    (host / "opendkim.conf").write_bytes(OLDER)
    refused = play(host, [role("signer", **told)])
    assert refused.returncode == 2
    assert f"{host}/opendkim.conf: neither as Debian's package brings it nor" in refused.stdout
    assert not (host / "kept").exists()
    keep(host, "ActiveState=inactive\nUnitFileState=\n", OLDER)
    (host / "asked").unlink(missing_ok=True)
    # In a check Postfix has our lines yet, which a removal would have taken out before.
    main = (host / "postfix/main.cf").read_text()
    (host / "postfix/main.cf").write_text(main + "submitward_signer = unix:opendkim/opendkim.sock\n")
    checked = play(host, [role("unsign", **told)], "--check")
    assert checked.returncode == 0, checked.stdout
    assert "OpenDKIM stays as it is" not in checked.stdout
    assert (host / "kept").exists()
    assert "OpenDKIM stays as it is" in play(host, [role("unsign", **told)]).stdout
    (host / "postfix/main.cf").write_text(main)
    done = play(host, [role("signer", **told), role("unsign", **told)])
    assert done.returncode == 0, done.stdout
    assert (host / "opendkim.conf").read_bytes() == DEBIANS
    assert not (host / "kept").exists()
    assert not (host / "units/opendkim.service.d/submitward.conf").exists()
    calls = [
        call for call in (host / "asked").read_text().splitlines() if call.split()[0] in {"disable", "stop"}
    ]
    assert calls == ["disable opendkim.service", "stop opendkim.service"]
