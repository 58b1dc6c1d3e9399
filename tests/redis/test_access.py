"""How Redis is reached: an ACL user with what the recipe gives and no more, and TLS that is verified."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from ledger.fitness import find_unfit
from ledger.settings import RedisSettings
from sidecar.settings import Secret
from tests.policyd.house import ROOT
from tests.redis.hosts import Host, request, send
from tests.redis.server import Server, free_port
from tests.redis.test_blocks import PATIENCE, command, wait


def test_the_smallest_acl_of_the_readme_is_enough(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"`ACL SETUSER ([^`]*)`", (ROOT / "ledger" / "README.md").read_text())
    port = free_port()
    server = Server(port=port).start()
    (tmp_path / "password").write_text("xyz")
    (tmp_path / "password").chmod(0o600)
    more = f', user: submitward, password: {{file: "{tmp_path}/password"}}'
    host = Host(server, "submitward:", "mx1.example.org", url=f"redis://127.0.0.1:{port}/0", more=more)
    try:
        assert server.ask("ACL", "SETUSER", *recipe.replace(">PASSWORD", ">xyz").split()) == "+OK"
        client = host.start().client()
        assert send(client, "alice", 1, 5)
        assert client.ask(**request("alice", 2)) == "DUNNO"
        assert send(client, "alice", 3)
        command(host, "block", "alice")
        wait(client, True)
        command(host, "unblock", "alice")
        wait(client, False)
        command(host, "quota", "reset", "alice", "--reason", "x")
        assert not send(client, "alice", 4, 101)
        assert send(client, "alice", 5, 60)
        answer = client.ask(**request("alice", 6, 50))
        incident = answer.rpartition(" ")[2]
        until = time.monotonic() + PATIENCE
        while f"incident={incident}" not in host.log.partition("limit_trip")[2]:
            assert time.monotonic() < until, host.log
            time.sleep(0.05)
        assert command(host, "events", incident)["event"]["used"] == 60
        assert len(command(host, "audit")) == 3
        assert server.ask("ACL", "LOG") == "*0"
        assert "label=" not in host.log
    finally:
        host.remove()
        server.remove()


@pytest.mark.parametrize(
    ("ca", "names", "trusted"),
    [
        ("server", "DNS:localhost,IP:127.0.0.1", True),
        ("other", "DNS:localhost,IP:127.0.0.1", False),
        ("server", "DNS:redis.example.org", False),
    ],
)
def test_tls_is_spoken_to_a_server_of_our_ca_and_of_that_name_and_to_no_other(
    tmp_path: Path, ca: str, names: str, trusted: bool
) -> None:
    def certificate(name: str) -> None:
        subject = ["-subj", "/CN=redis", "-addext", f"subjectAltName={names}"]
        out = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *out]
        subprocess.run(command, check=True, capture_output=True)

    certificate("server")
    certificate("other")
    port, tls = free_port(), free_port()
    files = {name: str(tmp_path / f"server.{name}") for name in ("pem", "key")}
    options = ("--tls-port", str(tls), "--tls-cert-file", files["pem"], "--tls-key-file", files["key"])
    server = Server(*options, "--tls-auth-clients", "no", port=port).start()
    more = f', ca_file: "{tmp_path / ca}.pem"'
    host = Host(server, "t:", "mx1.example.org", url=f"rediss://localhost:{tls}/0", more=more)
    try:
        host.start(ready="state=ok" if trusted else "state=unavailable")
        answer = host.client().ask(**request("alice", 1))
        assert answer == "DUNNO" if trusted else answer.startswith("DEFER_IF_PERMIT 4.3.0")
        assert trusted or "label=connection" in host.log
        assert "Traceback" not in host.log
    finally:
        host.remove()
        server.remove()


@pytest.mark.parametrize("given", [True, False])
def test_sentinels_are_asked_with_a_password_of_their_own(tmp_path: Path, given: bool) -> None:
    primary = Server(port=free_port()).start()
    text = f"requirepass xyz\nsentinel monitor mymaster 127.0.0.1 {primary.port} 1\n"
    sentinel = Server(port=free_port(), config=text).start()
    (tmp_path / "password").write_text("xyz")
    (tmp_path / "password").chmod(0o600)
    password = f', password: {{file: "{tmp_path}/password"}}' if given else ""
    more = f', sentinel: {{servers: ["127.0.0.1:{sentinel.port}"]{password}}}'
    host = Host(primary, "t:", "mx1.example.org", url="redis://127.0.0.1:1/0", more=more)
    try:
        host.start(ready="state=ok" if given else "no Sentinel names a primary")
    finally:
        host.remove()
        sentinel.remove()
        primary.remove()


@pytest.mark.parametrize(
    ("version", "word"), [("6.0.16", "old"), ("7.0.15", None), ("10.1.0", None), ("", None), ("odd", None)]
)
def test_a_redis_that_cannot_run_the_script_is_named_by_its_version(version: str, word: str | None) -> None:
    unfit = find_unfit({"redis_version": version}, insist=True)
    assert (unfit and unfit[0]) == word


@pytest.mark.parametrize(
    "url",
    ["redis://redis.example.org:6379/0", "rediss://192.0.2.1/0", "redis://[2001:db8::1]:6379"],
)
def test_a_redis_that_others_can_reach_needs_a_password_unless_the_settings_insist(url: str) -> None:
    with pytest.raises(ValueError, match="can be reached by others: set password"):
        RedisSettings(url)
    assert RedisSettings(url, insist=True).url == RedisSettings(url, password=Secret("x")).url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://localhost", "redis://, rediss:// and unix:// are known"),
        ("redis://user:secret@localhost", "do not stand in the url"),
        ("valkey://user:secret@localhost", "^user and password do not stand in the url"),
        ("unix://relative", "write unix:///path/to/socket"),
        ("redis://localhost:99999", "[Pp]ort"),
        ("redis://localhost/x", "invalid literal"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RedisSettings(url)
