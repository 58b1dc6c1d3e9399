"""A wheelhouse of a version that can read its settings and cannot serve.

Knows wheels. Must not know how it is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

from tests.machines.deployment import ROOT


def make_broken(good: Path, place: Path) -> Path:
    """A wheelhouse whose sidecars read the settings, and end when they are to serve."""
    shutil.copytree(good, place)
    wheel = next(place.glob("submitward-*.whl"))
    fresh = wheel.with_suffix(".new")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename == "sidecar/daemon.py":
                content += b"\n\ndef run(*_, **__):\n    raise SystemExit('this version cannot start')\n"
            if not item.filename.endswith("RECORD"):
                new.writestr(item, content)
            else:
                lines = content.decode().splitlines(keepends=True)
                new.writestr(item, "".join(line for line in lines if "sidecar/daemon.py" not in line))
    fresh.replace(wheel)
    lock = subprocess.run(
        [str(ROOT / "script/lock-wheels"), str(place)], capture_output=True, text=True, check=True
    ).stdout
    (place / "requirements.lock").write_text(lock)
    return place
