"""What saslauthd reads of the settings, and what it says about wrong ones."""

import pytest

from saslauthd.settings import AuthSettings, load_settings
from sidecar.settings import SettingsError


def loaded(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text("version: 1\n" + text)
    return load_settings(path)


def test_nothing_said_means_plain_and_login_with_tls(tmp_path):
    settings = loaded(tmp_path, "")
    assert settings.auth == AuthSettings(mechanisms=("plain", "login"), require_tls=True)
    assert settings.rules.mechanisms == ("PLAIN", "LOGIN")
    assert settings.rules.require_tls


def test_the_sections_of_others_are_left_unread(tmp_path):
    others = "policy: {x: 1}\nplans: [nonsense]\nauthor: 3\nsign: {}\n"
    settings = loaded(tmp_path, others + "auth: {mechanisms: [login], require_tls: no}\n")
    assert settings.rules.mechanisms == ("LOGIN",)
    assert not settings.rules.require_tls


def test_a_realm_is_a_domain_in_normal_form(tmp_path):
    text = "auth: {realm: {strip: [Example.NET, example.com], add: Example.ORG}}\n"
    realm = loaded(tmp_path, text).rules.realm
    assert (realm.strip, realm.add) == ({"example.net", "example.com"}, "example.org")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("auth: {mechanisms: []}", "mechanisms is empty"),
        ("auth: {mechanisms: [plain, plain]}", "twice"),
        ("auth: {mechanisms: [cram-md5]}", "plain"),
        ("auth: {mechanisms: [PLAIN]}", "plain"),
        ("auth: {mechanism: [plain]}", "mechanisms"),
        ("auth: {require_tls: perhaps}", "require_tls"),
        ("auth: {guards: {}}", "guard"),
        ("auth: {guard: {binds: 1}}", "at least 2"),
        ("auth: {guard: {delay: 1 h}}", "5 s at most"),
        ("auth: {guard: {pair: 0}}", "from 1"),
        ("auth: {cache: {successes: 5 min}}", "120 s at most"),
        ("auth: {networks: {staff: [nowhere]}}", "nowhere"),
        ("auth: {app_password_only: {logins: [a b]}}", "blank"),
        ("auht: {}", "auth"),
    ],
)
def test_wrong_settings_are_told_with_their_place(tmp_path, text, told):
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, text + "\n")
    assert told in str(caught.value)
    assert f"{tmp_path}/config.yaml:2:" in str(caught.value)
