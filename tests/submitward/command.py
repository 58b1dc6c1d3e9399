"""The operator's command as a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def submitward(settings: Path | str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run `submitward` with `settings`, from a directory where only the installed packages can be found."""
    return subprocess.run(
        [sys.executable, "-m", "submitward", "--settings", str(settings), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
