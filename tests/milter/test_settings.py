"""The milter's settings: defaults, what it reads of others, and what is wrong."""

from pathlib import Path

import pytest

from milter.settings import AuthorSettings, Settings, SignSettings, load_settings
from sidecar.settings import SettingsError


def load(folder: Path, text: str) -> Settings:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path)


def test_the_least_that_can_be_said_enforces(tmp_path: Path) -> None:
    settings = load(tmp_path, "version: 1\n")
    assert settings.author == AuthorSettings("enforce", "owned", "refuse", "allow", "refuse", (), "temporary")
    assert settings.sign == SignSettings("opendkim", None, None)
    assert settings.rules.by_record
    assert settings.rules.mode == "enforce"


def test_of_policy_only_what_is_needed_is_read(tmp_path: Path) -> None:
    text = (
        "version: 1\npolicy: {charge: rcpt, contact: help, restrictions: {limits: observe}}\n"
        "auth: {x: 1}\nplans: {a: [b]}\n"
    )
    settings = load(tmp_path, text)
    assert not settings.rules.by_record
    assert settings.rules.contact == "help"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("author: {mode: no}", "author.mode"),
        ("author: {sender: mine}", "author.sender"),
        ("author: {modes: observe}", "author"),
        ("sign: {key_table: /a}", "key_table and signing_table belong together"),
        ("sign: {by: dkimpy}", "sign.by"),
        ("sign: {key_table: /a, signing_table: /b, confirm: true}", "confirm needs socket, key_table"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, f"version: 1\n{text}\n")
