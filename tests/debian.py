"""Programs of Debian packages that cannot be installed beside Postfix, or need not be: unpacked only.

Knows where they are kept (~/.cache/submitward), which the first use fills. Must not know what is run.
"""

import os
import shutil
import subprocess
from pathlib import Path

HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "submitward" / "debian"


def unpacked(*packages: str) -> Path:
    """The root of a directory in which these packages are unpacked."""
    place = HOME / "-".join(packages[:1])
    if not place.is_dir():
        fresh = HOME / f"{place.name}.{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        done = subprocess.run(
            ["apt-get", "download", *packages], cwd=fresh, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(packages)} cannot be downloaded: {done.stderr[-1000:]}")
        for package in sorted(fresh.glob("*.deb")):
            subprocess.run(["dpkg", "-x", package.name, "."], cwd=fresh, check=True)
            package.unlink()
        fresh.rename(place)
    return place


def libraries(root: Path) -> str:
    """LD_LIBRARY_PATH for what is unpacked there."""
    places = {path.parent for path in (root / "usr" / "lib").rglob("*.so.*")}
    return ":".join(sorted(map(str, places)))
