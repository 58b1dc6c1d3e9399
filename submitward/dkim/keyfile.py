"""Private keys on disk: made, read for their public half, removed.

The one module that names private keys. Knows PEM, modes and owners. Must not know what a key is for, and
never lets a private half out.
"""

from __future__ import annotations

import base64
import contextlib
import grp
import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key

BITS = 2048  # what everybody verifies (RFC 8301, 3.2), and fits in one DNS answer over UDP
EXPONENT = 65537
PEM_MAX = 64 << 10  # octets
_UNDONE = ".new"  # how the name of a file ends until it is complete


class KeyTrouble(ValueError):
    """A file that holds no key that we could sign with; str() says what it holds."""


@dataclass(frozen=True, slots=True)
class PublicHalf:
    """The public half of a key: `text` is the base64 of its SubjectPublicKeyInfo, as p= has it."""

    text: str
    bits: int


def make_key(path: Path, owner: str = "") -> PublicHalf:
    """A new RSA key at `path`, mode 0600, complete on disk before it has that name; returns its public half.

    `owner` is the user who signs; without root it stays with whoever asks. Raises FileExistsError rather than
    replace a key, and OSError. What a run that was killed has left of a key goes.
    """
    for stray in path.parent.glob(f".*{path.suffix}.*{_UNDONE}"):
        stray.unlink(missing_ok=True)
    private = generate_private_key(EXPONENT, BITS)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_UNDONE, dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fchmod(file.fileno(), 0o600)
            if owner and os.geteuid() == 0:
                account = pwd.getpwnam(owner)
                os.fchown(file.fileno(), account.pw_uid, account.pw_gid)
            os.fsync(file.fileno())
        os.link(name, path)  # fails when there is one
    finally:
        os.unlink(name)
    _sync(path.parent)
    return _public(private.public_key())


def make_directory(path: Path, user: str) -> None:
    """A directory for the keys of `user`, his from the moment it has its name; one that is there stays.

    Without root it belongs to whoever asks. Raises LookupError when there is no such user, and OSError.
    """
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", dir=path.parent))
    try:
        made.chmod(0o750)
        if os.geteuid() == 0:
            shutil.chown(made, user)
        made.rename(path)
    except OSError:
        if not path.is_dir():  # else another run was faster
            raise
    finally:
        with contextlib.suppress(OSError):
            made.rmdir()


def read_public(path: Path) -> PublicHalf:
    """The public half of the key in `path`. Raises KeyTrouble, or OSError when it cannot be read."""
    with open(path, "rb") as file:
        return parse_public(file.read(PEM_MAX))


def parse_public(pem: bytes) -> PublicHalf:
    """The public half of a private key in PEM, or in base64 as a KeyTable may hold it. Raises KeyTrouble."""
    try:
        if b"-----BEGIN" in pem:
            private = serialization.load_pem_private_key(pem, None)
        else:
            private = serialization.load_der_private_key(base64.b64decode(pem, validate=True), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyTrouble("holds no private key that can be read without a password") from None
    public = private.public_key()
    if not isinstance(public, RSAPublicKey):
        raise KeyTrouble("holds no RSA key, and rsa-sha256 is what everybody verifies")
    return _public(public)


def read_published(octets: bytes) -> PublicHalf:
    """The RSA key that p= publishes, in either of its two ASN.1 forms. Raises KeyTrouble."""
    try:
        public = serialization.load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyTrouble("holds no public key") from None
    if not isinstance(public, RSAPublicKey):
        raise KeyTrouble("holds no RSA key")
    return _public(public)


def danger(path: Path, user: str) -> str:
    """Why OpenDKIM would not use the key at `path` as `user` under RequireSafeKeys, ``""`` when it would.

    As measured on 2.11: nobody else may read it, and nobody else may write to a directory above it, whatever
    the sticky bit says. Raises OSError.
    """
    account, status = pwd.getpwnam(user), path.stat()
    if not _may(status, account, 4):
        return f"{user} cannot read it: chown {user} {path}, chmod 600 {path}"
    if status.st_uid not in (account.pw_uid, 0):
        return f"it does not belong to {user}: chown {user} {path}"
    if status.st_mode & 0o007 or (status.st_mode & 0o070 and _others(status.st_gid, account)):
        return f"others may read or write it: chmod 600 {path}"
    for directory in path.resolve().parents:
        above = directory.stat()
        if not _may(above, account, 1):
            return f"{user} cannot enter {directory}, which is above it"
        if above.st_mode & 0o002 or (above.st_mode & 0o020 and _others(above.st_gid, account)):
            return f"others may write to {directory}, which is above it"
    return ""


def _may(status: os.stat_result, account: pwd.struct_passwd, bit: int) -> bool:
    """Whether the account has this permission (4 read, 1 enter)."""
    if account.pw_uid in (0, status.st_uid):
        return account.pw_uid == 0 or bool(status.st_mode & bit << 6)
    if status.st_gid in os.getgrouplist(account.pw_name, account.pw_gid):
        return bool(status.st_mode & bit << 3)
    return bool(status.st_mode & bit)


def _others(group: int, account: pwd.struct_passwd) -> bool:
    """Whether a group has members beside the account and root."""
    try:
        members = set(grp.getgrgid(group).gr_mem)
    except KeyError:
        return True
    members |= {one.pw_name for one in pwd.getpwall() if one.pw_gid == group}
    return bool(members - {account.pw_name, "root"})


def remove_key(path: Path) -> None:
    """Take a key away for good; one that is not there is no error."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    with contextlib.suppress(FileNotFoundError):
        _sync(path.parent)


def _public(key: RSAPublicKey) -> PublicHalf:
    octets = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicHalf(base64.b64encode(octets).decode("ascii"), key.key_size)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
