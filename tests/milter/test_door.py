"""The door: a process of its own, from its settings to SIGTERM."""

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from milter.wire import Packet, encode
from tests.milter.stage import FIXTURES, OFFER, SETTINGS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    shutil.copy(FIXTURES / "directory.yaml", made / "directory.yaml")
    yield made
    shutil.rmtree(made)


def door(config: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "milter", "--settings", str(config)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_wrong_settings_are_said_all_at_once_and_end_with_2(home: Path) -> None:
    (home / "config.yaml").write_text("version: 1\nauthor: {mode: maybe}\nsign: {by: nobody}\n")
    process = door(home / "config.yaml")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "author.mode" in errors
    assert "sign.by" in errors


def test_it_serves_until_sigterm_and_ends_with_0(home: Path) -> None:
    text = SETTINGS.format(home=home, author="{}", sign="{}", charge="data")
    (home / "config.yaml").write_text(text, encoding="utf-8")
    process = door(home / "config.yaml")
    end = time.monotonic() + 30
    while not (home / "milter").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(home / "milter"))
        client.sendall(OFFER)
        assert client.recv(4096)[4:5] == b"O"
        client.sendall(encode(Packet(b"M", b"<alice@example.org>\0")))
        assert client.recv(4096) == encode(Packet(b"c"))
        client.sendall(encode(Packet(b"A")))
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert client.recv(4096) == b""
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    assert "event=settings" in errors
    assert "event=stop" in errors
