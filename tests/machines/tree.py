"""Trees of Debian and pools of packages, made once and kept in the cache.

Knows debootstrap and apt. Must not know what runs in a machine. What is cached is named by the release and
the packages that were asked for, and appears whole or not at all. Runs that share it wait for each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

BARE = ("systemd", "dbus", "python3", "iproute2")
#: What a mail host has before us, what the role installs, and what a machine has that provisions itself.
POOL = (
    *("postfix", "ca-certificates", "libsasl2-modules", "ssl-cert", "procps"),
    *("python3-venv", "python3-apt", "opendkim", "redis-server", "slapd"),
    *("ldap-utils", "ansible-core", "sudo"),
)
MIRROR = os.environ.get("SUBMITWARD_MIRROR", "http://deb.debian.org/debian")


def cache() -> Path:
    """Where trees and pools are kept."""
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "submitward"
    place.mkdir(parents=True, exist_ok=True)
    return place


def bare_tree(release: str) -> Path:
    """The smallest Debian that boots."""
    tree = cache() / f"{release}-{_digest(BARE)}"
    with _alone_with(tree):
        if not tree.exists():
            fresh = tree.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            _run(
                "debootstrap", "--variant=minbase", f"--include={','.join(BARE)}", release, str(fresh), MIRROR
            )
            fresh.rename(tree)
    return tree


def pool(release: str) -> Path:
    """A directory of packages with their dependencies, which apt takes as a source."""
    place = cache() / f"{release}-pool-{_digest((*BARE, *POOL))}"
    with _alone_with(place):
        if not place.exists():
            _fill(release, place)
    return place


def _fill(release: str, place: Path) -> None:
    fresh, scratch = place.with_suffix(".new"), place.with_suffix(".scratch")
    for one in (fresh, scratch):
        shutil.rmtree(one, ignore_errors=True)
    copy_tree(bare_tree(release), scratch)
    shutil.copy("/etc/resolv.conf", scratch / "etc/resolv.conf")
    patient = ("-o", "Acquire::Retries=5")
    _run("chroot", str(scratch), "apt-get", "--quiet=2", *patient, "update")
    options = (*patient, "--quiet=2", "--yes", "--download-only", "--no-install-recommends")
    _run("chroot", str(scratch), "apt-get", *options, "install", *POOL)
    fresh.mkdir()
    for package in (scratch / "var/cache/apt/archives").glob("*.deb"):
        shutil.copy(package, fresh)
    (fresh / "Packages").write_text("".join(_stanza(package) for package in sorted(fresh.glob("*.deb"))))
    shutil.rmtree(scratch)
    fresh.rename(place)


@contextlib.contextmanager
def _alone_with(place: Path) -> Iterator[None]:
    """Whoever else wants it waits, and then finds it made; the lock ends with the process that holds it."""
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def copy_tree(source: Path, target: Path) -> None:
    """A tree with owners, modes and links."""
    _run("cp", "--archive", "--reflink=auto", str(source), str(target))


def _stanza(package: Path) -> str:
    """What apt's index says of a package (deb-control(5))."""
    control = subprocess.run(
        ["dpkg-deb", "-f", str(package)], capture_output=True, text=True, check=True
    ).stdout
    content = package.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return f"{control}Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {digest}\n\n"


def _digest(packages: tuple[str, ...]) -> str:
    return hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} exits {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
