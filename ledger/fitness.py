"""Fitness: whether limits can be kept in a Redis, by what it says of itself.

Knows what INFO and two of its settings mean. Must not know how it is asked, nor what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Unfit = tuple[str, str]  # a word for what is wrong (ledger.redis.MENDS), and what it is in words


def read_info(text: bytes) -> dict[str, str]:
    """The answer to INFO, by name."""
    lines = text.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def find_unfit(info: Mapping[str, str], *, insist: bool) -> Unfit | None:
    """Why it cannot be used; `insist` lets one pass that evicts."""
    if info.get("loading") == "1":
        return "LOADING", "it is loading its data"
    if info.get("redis_mode") == "cluster" or info.get("cluster_enabled") == "1":
        return "cluster", "it is a Redis Cluster"
    if info.get("role", "master") != "master":
        return "READONLY", "it is a replica"
    version = info.get("redis_version", "")
    if version.partition(".")[0].isdigit() and int(version.partition(".")[0]) < 7:
        return "old", f"it is Redis {version}"
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and not insist:  # volatile-* as well: everything that counts has an end
        return "evicts", f"it evicts keys that are in use (maxmemory-policy {policy})"
    return None


def find_open(bind: str, protected: str, is_loopback: Callable[[str], bool]) -> Unfit | None:
    """Whether one that asks for no password and listens on TCP lets in others, by its settings `bind` and
    `protected-mode`; ``""`` for what it does not tell."""
    hosts = [host.removeprefix("-") for host in bind.split()] or ["*"]
    if protected == "no" and not all(map(is_loopback, hosts)):
        return "open", f"anybody may use it from elsewhere (bind {bind}, no password)"
    return None
