"""Password hashes: argon2id in its encoded form (RFC 9106), made and judged.

Knows which hashes are acceptable and how to spend on an unknown login what a known one costs. Must not know
logins, files or threads: judging takes tens of milliseconds and belongs into a thread of the caller.
"""

from __future__ import annotations

import base64
import os
import re
from collections import Counter
from collections.abc import Iterable

import argon2
from argon2.exceptions import VerificationError, VerifyMismatchError

PASSWORD_MAX = 4096  # octets; far over any passphrase, far under what would cost time to hash
_ENCODED = re.compile(
    r"\$argon2id\$v=19\$(m=(\d{1,7}),t=(\d{1,2}),p=(\d{1,3}))\$([A-Za-z0-9+/]{11,128})\$([A-Za-z0-9+/]{16,128})",
    re.ASCII,
)
_HASHER = argon2.PasswordHasher()
_PARAMETERS = f"m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}"


class Unjudged(Exception):
    """The hash could not be computed (no memory): nothing is known about the password."""


def parse_hash(text: str) -> str:
    """`text` itself when it is an argon2id hash that can be judged. Raises ValueError; never shows it."""
    match = _ENCODED.fullmatch(text)
    if match is None:
        raise ValueError("is no $argon2id$v=19$ hash; make one with `submitward passwd`")
    memory, rounds, lanes = int(match[2]), int(match[3]), int(match[4])
    if not (lanes >= 1 and 8 * lanes <= memory <= 1 << 20 and 1 <= rounds <= 50):
        raise ValueError("is a hash whose cost (m, t, p) nobody can pay or nobody has to")
    if any(len(part) % 4 == 1 for part in match.group(5, 6)):
        raise ValueError("is a hash that was cut off")
    return text


def hash_password(password: bytes) -> str:
    """The encoded hash of a password, at argon2-cffi's present cost."""
    return _HASHER.hash(password)


def dummy_hash(hashes: Iterable[str]) -> str:
    """A hash that no password has, at the cost that most of `hashes` have."""
    costs = Counter(text.split("$", 4)[3] for text in hashes).most_common(1)
    salt, digest = (base64.b64encode(os.urandom(n)).decode().rstrip("=") for n in (16, 32))
    return f"$argon2id$v=19${costs[0][0] if costs else _PARAMETERS}${salt}${digest}"


def is_acceptable(password: bytes) -> bool:
    """Whether a password may be hashed at all: 1 to 4096 octets, none of them NUL."""
    return 0 < len(password) <= PASSWORD_MAX and b"\0" not in password


def matches(encoded: str, password: bytes) -> bool:
    """Whether `password` has the hash `encoded`. Raises Unjudged. Blocks for as long as the hash costs."""
    try:
        return _HASHER.verify(encoded, password)
    except VerifyMismatchError:
        return False
    except VerificationError as wrong:
        raise Unjudged(str(wrong)) from wrong
