"""A wheelhouse of a version that can read its settings and cannot serve.

Knows wheels. Must not know how it is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

from tests.machines.deployment import ROOT

#: What is added to which module, by who it is that cannot serve.
_ENDINGS = {
    "all": ("sidecar/daemon.py", "def run(*_, **__):\n    {end}\n"),
    "milter": ("milter/service.py", "def _end(*_, **__):\n    {end}\n\n\nMilterService.__init__ = _end\n"),
}


def make_broken(good: Path, place: Path, who: str = "all") -> Path:
    """A wheelhouse whose sidecars read the settings, and end when they are to serve; or one of them does."""
    module, ending = _ENDINGS[who]
    ending = ending.format(end="raise SystemExit('this version cannot start')")
    shutil.copytree(good, place)
    wheel = next(place.glob("submitward-*.whl"))
    fresh = wheel.with_suffix(".new")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename == module:
                content += f"\n\n{ending}".encode()
            if not item.filename.endswith("RECORD"):
                new.writestr(item, content)
            else:
                lines = content.decode().splitlines(keepends=True)
                new.writestr(item, "".join(line for line in lines if module not in line))
    fresh.replace(wheel)
    lock = subprocess.run(
        [str(ROOT / "script/lock-wheels"), str(place)], capture_output=True, text=True, check=True
    ).stdout
    (place / "requirements.lock").write_text(lock)
    return place
