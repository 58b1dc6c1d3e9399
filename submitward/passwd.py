"""`submitward passwd`: give a login a password, or print the hash of one.

Knows how a password is asked for and that only the password in the file changes. Must not know how a hash is
made, nor where in the file it stands.
"""

from __future__ import annotations

import argparse
import fcntl
import getpass
import json
import os
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from directory.amend import Missing, Unamendable, with_password
from directory.entries import read
from directory.identity import BadLogin, normal_login
from directory.passwords import hash_password, is_acceptable
from directory.settings import DirectorySettings, load_directory_settings
from sidecar.settings import SettingsError
from submitward.replacing import replace_files

HELP = "set the password of a login"
DONE, NO, USAGE, UNAVAILABLE = 0, 1, 2, 75


class Refused(Exception):
    """The password is not set; the text says why, `status` is the exit status."""

    def __init__(self, text: str, status: int = NO) -> None:
        super().__init__(text)
        self.status = status


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("login", metavar="LOGIN")
    parser.add_argument("--stdin", action="store_true", help="read one line from standard input")
    parser.add_argument("--print", action="store_true", dest="only_print", help="only print its hash")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """0 set or printed, 1 refused, 2 usage or settings, 75 the file cannot be read or written now."""
    try:
        told = _set(options)
    except (Refused, BadLogin) as refused:
        print(f"submitward passwd: {refused}", file=sys.stderr)
        return getattr(refused, "status", USAGE)
    except SettingsError as wrong:
        print(wrong, file=sys.stderr)
        return USAGE
    except OSError as wrong:
        print(f"submitward passwd: {wrong}; nothing is changed", file=sys.stderr)
        return UNAVAILABLE
    print(json.dumps(told) if options.json else told.get("hash") or _in_words(told))
    return DONE


def _in_words(told: dict[str, str]) -> str:
    return f"the password of {told['login']} is set in {told['file']}; it holds within two seconds"


def _set(options: argparse.Namespace) -> dict[str, str]:
    login = normal_login(options.login)
    if options.only_print:
        return {"login": login, "hash": hash_password(_ask(login, options.stdin))}
    settings = load_directory_settings(options.settings)
    path = settings.file.path.resolve()
    with _held(path):
        _amended(settings, path, login, "")  # before anybody types a password for nothing
    encoded = hash_password(_ask(login, options.stdin))
    with _held(path):
        before = path.read_bytes()
        amended = _amended(settings, path, login, encoded)
        if path.read_bytes() != before:  # an editor does not ask for our lock
            raise Refused(f"{path} was changed meanwhile; nothing is written, try again", UNAVAILABLE)
        replace_files({path: amended})
    return {"login": login, "file": str(path)}


def _amended(settings: DirectorySettings, path: Path, login: str, encoded: str) -> bytes:
    """The file's content with the password; without `encoded` only whether that can be."""
    content = path.read_bytes()
    mark = BOM_UTF8 if content.startswith(BOM_UTF8) else b""
    try:
        before = content[len(mark) :].decode()
        text = with_password(before, login, encoded)
    except Missing:
        raise Refused(f"{path} has no login {login}; add under logins:\n\n{_example(login)}") from None
    except (Unamendable, UnicodeDecodeError) as wrong:
        raise Refused(f"the entry of {login} in {path} cannot be amended: {wrong}") from None
    except yaml.YAMLError:
        read(before, str(path), settings.reading)  # says where, and shows nothing of the file
        raise
    if encoded and read(text, str(path), settings.reading).hashes.get(login) != encoded:
        raise Refused(f"the entry of {login} in {path} cannot be amended; use --print and an editor")
    return mark + text.encode()


def _example(login: str) -> str:
    name = login if login.isascii() and login.isalnum() else json.dumps(login, ensure_ascii=False)
    return f"  {name}:\n    mailboxes: [{login if '@' in login else login + '@example.org'}]\n"


def _ask(login: str, stdin: bool) -> bytes:
    if stdin:
        password = sys.stdin.buffer.readline(1 << 16).rstrip(b"\n").removesuffix(b"\r")
    elif not sys.stdin.isatty():
        raise Refused("there is no terminal to ask for the password; use --stdin", USAGE)
    else:
        first = getpass.getpass(f"New password of {login}: ")
        if getpass.getpass("The same again: ") != first:
            raise Refused("the two are not the same")
        password = os.fsencode(first)
    if not is_acceptable(password):
        raise Refused("a password has 1 to 4096 octets, none of them NUL")
    return password


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep other runs of this command away from the file: the last of two would undo what the first did."""
    while True:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:  # else replaced while we waited
                yield
                return
