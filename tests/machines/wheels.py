"""The wheels of what stands in this repository, made once for each Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.machines.deployment import ROOT
from tests.machines.scene import VERSION


def make_wheelhouse(place: Path, python: str) -> Path:
    """A wheelhouse for that Python; $SUBMITWARD_WHEELHOUSE names a directory of ready ones, by Python."""
    if given := os.environ.get("SUBMITWARD_WHEELHOUSE"):
        return Path(given) / python / VERSION
    subprocess.run([str(ROOT / "script/make-wheelhouse"), str(place / VERSION), python], check=True)
    return place / VERSION
