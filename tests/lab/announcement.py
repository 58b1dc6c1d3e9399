"""lab.json: what a lab tells about itself, and the link to its directory beside it.

Knows how it is written so that a reader never sees half of it, and that a later lab takes the place over.
Must not know what is told.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.lab.files import hand_over


class Announcement:
    """`place` is the directory of lab.json (``.lab``), `directory` the lab that it speaks of."""

    def __init__(self, place: Path, directory: Path) -> None:
        self.place = place
        self.directory = directory
        self.link = place / "directory"
        self.file = place / "lab.json"

    def make(self, description: dict[str, Any]) -> None:
        """Replace whatever stands there. The link comes first, lab.json last."""
        if self.place.is_symlink() or self.place.is_file():
            self.place.unlink()
        self.place.mkdir(exist_ok=True)
        self.file.unlink(missing_ok=True)
        fresh = self.place / f"directory.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.directory)
        fresh.rename(self.link)
        self._write(description)
        hand_over(self.place, self.link)

    def update(self, description: dict[str, Any]) -> None:
        """Write lab.json again, if it still speaks of this lab."""
        if self.is_ours():
            self._write(description)

    def withdraw(self) -> None:
        """Take lab.json back, then the link, if they still speak of this lab."""
        if not self.is_ours():
            return
        self.file.unlink(missing_ok=True)
        self.link.unlink(missing_ok=True)
        try:
            self.place.rmdir()
        except OSError:  # something of somebody else's lies in it
            return

    def is_ours(self) -> bool:
        """Whether the announcement speaks of this lab."""
        try:
            return self.link.readlink() == self.directory
        except OSError:
            return False

    def _write(self, description: dict[str, Any]) -> None:
        fresh = self.place / f"lab.json.{os.getpid()}"
        fresh.write_text(json.dumps(description, indent=1) + "\n")
        hand_over(fresh)
        fresh.rename(self.file)
