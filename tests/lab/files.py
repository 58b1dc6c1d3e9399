"""What a lab writes before anything runs: keys, settings, the directory of principals, Postfix's files.

Knows the story's people and the formats of the files. Must not start anything but openssl and `submitward
export`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from argon2 import PasswordHasher

from tests.lab.certificates import fingerprint, make_authority, make_certificate, make_signing_key
from tests.lab.place import place

APPLICATION_HOST = "127.0.0.2"
SELECTOR = "s2026a"
CONTACT = "postmaster@example.org"
#: alice's plan runs out within the story, bob's doesn't.
PLANS = {
    "default": ["1000 messages per day", "5000 recipients per day", "100 recipients per message"],
    "small": ["20 recipients per hour", "1000 messages per day"],
}


@dataclass(frozen=True)
class Places:
    """Where everything of one lab lies; UNIX socket paths end at 107 bytes, so the names are short."""

    directory: Path

    def __getattr__(self, name: str) -> Path:
        """``places.queue`` and so on: a directory of the lab."""
        if name == "tls":  # main.cf looks for the server's certificate beside itself
            return self.postfix / "tls"
        if name not in ("postfix", "queue", "data", "submitward", "run", "keys", "sink", "log"):
            raise AttributeError(name)
        return self.directory / name

    @property
    def settings(self) -> Path:
        return self.submitward / "config.yaml"

    @property
    def ledger(self) -> Path:
        return self.submitward / "ledger.sqlite"

    @property
    def dns(self) -> Path:
        return self.directory / "dns.json"

    def socket(self, name: str) -> Path:
        """``policy``, ``auth``, ``milter`` or ``opendkim``, below the queue directory as main.cf names
        them."""
        below = "opendkim/opendkim.sock" if name == "opendkim" else f"submitward/{name}"
        return self.queue / below


def make_directories(places: Places) -> None:
    """The tree; what Postfix and OpenDKIM must enter is theirs."""
    places.directory.chmod(0o755)
    for name in ("postfix", "queue", "data", "submitward", "run", "keys", "sink", "log"):
        (places.directory / name).mkdir(mode=0o755)
    (places.postfix / "submitward").mkdir()
    places.tls.mkdir()
    (places.queue / "submitward").mkdir()
    (places.queue / "opendkim").mkdir()
    shutil.chown(places.data, "postfix", "postfix")
    shutil.chown(places.queue / "submitward", group="postfix")
    (places.queue / "submitward").chmod(0o2750)
    shutil.chown(places.queue / "opendkim", "opendkim", "postfix")
    (places.queue / "opendkim").chmod(0o2750)


def make_keys(places: Places) -> None:
    """TLS for the server, a listed and an unlisted client, DKIM for both domains, and the DNS that publishes
    it."""
    make_authority(places.tls)
    make_certificate(places.tls, "server", alternatives="DNS:localhost,DNS:relay.example.org,IP:127.0.0.1")
    make_certificate(places.tls, "printer")
    make_certificate(places.tls, "stranger")
    names: dict[str, str] = {}
    for domain in ("example.org", "example.net"):
        key = places.keys / domain / f"{SELECTOR}.private"
        record = make_signing_key(key)
        shutil.chown(key.parent, "opendkim", "opendkim")
        shutil.chown(key, "opendkim", "opendkim")
        name = f"{SELECTOR}._domainkey.{domain}"
        names |= {name: record, f"{name}.": record}
    places.dns.write_text(json.dumps(names, indent=1))


def make_logins() -> dict[str, str]:
    return {name: f"{name}-{secrets.token_hex(6)}" for name in ("alice", "bob")}


def write_directory(places: Places, logins: dict[str, str]) -> None:
    """directory.yaml: alice and bob, the printer, the application host."""
    hasher = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1)
    entries = {
        "logins": {
            "alice": {
                "password": hasher.hash(logins["alice"]),
                "mailboxes": ["alice@example.org"],
                "aliases": ["alice_lastname"],
                "plan": "small",
            },
            "bob": {"password": hasher.hash(logins["bob"]), "mailboxes": ["bob@example.org"]},
        },
        "certificates": {
            "printer": {
                "fingerprint": fingerprint(places.tls / "printer.crt"),
                "addresses": ["printer@example.org"],
            },
        },
        "networks": {
            "application host": {"network": f"{APPLICATION_HOST}/32", "addresses": ["app@example.org"]},
        },
    }
    (places.submitward / "directory.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))


def write_settings(places: Places, directory: dict[str, Any] | None = None) -> None:
    """config.yaml for the three sidecars, on the embedded defaults, or with another `directory`."""

    def listener(name: str) -> list[dict[str, str]]:
        return [{"address": f"unix:{places.socket(name)}", "mode": "0660", "group": "postfix"}]

    settings = {
        "version": 1,
        "mta": "lab",
        "environment": "lab",
        "listen": {name: listener(name) for name in ("policy", "auth", "milter")},
        "directory": directory
        or {
            "kind": "file",
            "file": {"path": str(places.submitward / "directory.yaml")},
            "domains": {"example.org": {"aliases": ["example.net"]}},
        },
        "ledger": {"kind": "sqlite", "sqlite": {"path": str(places.ledger)}},
        "plans": PLANS,
        "policy": {"charge": "data", "contact": CONTACT},
        "auth": {"mechanisms": ["plain", "login"]},
        "author": {"mode": "enforce"},
        "sign": {
            "by": "opendkim",
            "key_table": str(places.postfix / "KeyTable"),
            "signing_table": str(places.postfix / "SigningTable"),
        },
        "log": {"format": "text"},
    }
    places.settings.write_text(yaml.safe_dump(settings, sort_keys=False))


def write_postfix(places: Places, services: dict[str, str], sink: str) -> None:
    """The shipped files, moved to the lab's ports and directories; all mail goes to `sink`
    (``127.0.0.1:40123``)."""
    host, _, port = sink.rpartition(":")
    main = {
        "queue_directory": places.queue,
        "data_directory": places.data,
        "maillog_file": places.log / "postfix",
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "relayhost": f"[{host}]:{port}",
        "alias_maps": "",
        "alias_database": "",
        # A lab has no DNS and asks nobody's.
        "smtpd_peername_lookup": "no",
        "smtp_dns_support_level": "disabled",
        "smtp_host_lookup": "native",
        "notify_classes": "",
        "in_flow_delay": "0",
    }
    opendkim = {
        "Syslog": "no",
        # The lab lies below /var/tmp, and OpenDKIM holds that against a key whatever the sticky bit says.
        "RequireSafeKeys": "no",
        "Socket": f"local:{places.socket('opendkim')}",
        "PidFile": places.directory / "opendkim.pid",
        "KeyTable": places.postfix / "KeyTable",
        "SigningTable": f"refile:{places.postfix / 'SigningTable'}",
    }
    place(
        places.postfix,
        services=services,
        main={name: str(value) for name, value in main.items()},
        opendkim={name: str(value) for name, value in opendkim.items()},
        keys=places.keys,
    )


def hand_over(*paths: Path) -> None:
    """Under sudo, give paths to the person who called it."""
    if "SUDO_UID" in os.environ:
        for path in paths:
            os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]), follow_symlinks=False)
