"""Secrets: where they may come from, and that they are never shown.

Knows files and systemd credentials (systemd.exec(5), LoadCredential=). Must not know what a secret opens.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

LONGEST = 65536
#: Where the units' LoadCredential= reads from, open to root alone.
STORE = "/etc/submitward/secrets"
HOW = "a secret does not stand in the settings: write {file: /path} or {credential: name}"


class Secret:
    """A value that has no printable form. `reveal()` is the one way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself; keep it out of logs and messages."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret cannot be pickled")


def from_file(text: str) -> Secret:
    """The content of a file without its last newline. Raises ValueError, which never shows the content."""
    path = Path(text)
    if not path.is_absolute():
        raise ValueError(f"{text} is not an absolute path")
    try:
        return Secret(_read(path))
    except OSError as error:
        raise ValueError(f"{text} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{text} is not UTF-8 text") from None


def from_credential(name: str) -> Secret:
    """The systemd credential `name`. Raises ValueError.

    Outside a unit, as for the operator's command, it is read where the units get theirs from; only root may.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not name or "/" in name or name.startswith("."):
        raise ValueError("a credential's name holds no slash and does not begin with a dot")
    try:
        return from_file(os.path.join(directory or STORE, name))
    except ValueError as error:
        if directory:
            raise
        raise ValueError(
            f"credential {name}: there is no $CREDENTIALS_DIRECTORY (systemd sets it, LoadCredential=), and"
            f" {error}; run this as root on the relay"
        ) from None


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is not a regular file")
        if status.st_mode & stat.S_IRWXO:
            raise ValueError(f"{path} is open to every local user; chmod o-rwx it")
        content = file.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise ValueError(f"{path} is longer than {LONGEST} octets")
    text = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError(f"{path} is empty")
    return text
