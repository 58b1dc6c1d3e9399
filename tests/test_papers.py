"""The papers are true: what README promises is what the code has."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from sidecar.settings import load
from submitward.__main__ import COMMANDS, parser
from submitward.settings import Settings
from tests.papers import README, with_reference

ROOT = README.parent
PACKAGES = ("policyd", "saslauthd", "milter", "directory", "ledger", "sidecar", "submitward", "postfix")
COMMAND = re.compile(r"^ +(submitward \w.*?)(?: +#.*)?$", re.MULTILINE)


def test_the_settings_reference_is_that_of_the_code():
    text = README.read_text()
    assert text == with_reference(text), "run: .venv/bin/python -m tests.papers"


def test_the_settings_shown_in_the_readme_are_valid(tmp_path):
    (shown,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    path = tmp_path / "config.yaml"
    path.write_text(shown)
    assert load(path, Settings).plans["default"]


@pytest.mark.parametrize("command", COMMAND.findall(README.read_text()))
def test_every_command_shown_in_the_readme_parses(command):
    words = shlex.split(command)[1:]
    parser(words[0]).parse_args(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        parser(name).parse_args([name, "--help"])
    assert ended.value.code == 0
    assert "exit status" in capsys.readouterr().out


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_a_readme_of_about_a_page(package):
    text = (ROOT / package / "README.md").read_text()
    assert 400 < len(text) < 12_000


@pytest.mark.parametrize(
    "paper", [*sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("*/README.md")), "README.md"]
)
def test_every_link_in_a_readme_leads_somewhere(paper):
    path = ROOT / paper
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (path.parent / target).exists(), target


def test_the_packages_of_the_wheel_are_those_of_the_house():
    text = (Path(ROOT) / "pyproject.toml").read_text()
    assert all(f'"{package}"' in text for package in PACKAGES if package != "postfix")


def test_every_word_of_a_finding_about_the_dns_is_explained():
    paper = (ROOT / "docs" / "dns.md").read_text()
    said = set()
    for path in [*(ROOT / "submitward" / "dkim").glob("*.py"), *(ROOT / "submitward" / "dns").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, "func", None), "id", "")
            if name in ("error", "warning", "report", "unavailable", "Fault", "Finding"):
                word = node.args[0] if name == "Fault" else node.args[-1]
                text = getattr(word, "value", None)
                if isinstance(text, str) and re.fullmatch("[a-z_]+", text):
                    said.add(text)
    assert len(said) > 30
    assert {word for word in said if f"`{word}`" not in paper} == set()
