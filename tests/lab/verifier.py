"""OpenDKIM as a verifier of delivered mail, with the lab's DNS in a file.

Knows `opendkim -t` and TestDNSData (opendkim.conf(5)). Must not know what the lab expects of the mail.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.lab.lab import Lab


class Verifier:
    """Verifies messages; `folder` is for its files."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.folder = folder
        names = json.loads(lab.places.dns.read_text())
        (folder / "dns").write_text("".join(f"{name} {text}\n" for name, text in names.items()))
        (folder / "conf").write_text(f"Mode v\nSyslog no\nMaximumHeaders 0\nTestDNSData file:{folder}/dns\n")

    def says(self, message: bytes) -> str:
        """What OpenDKIM says of a message: ``… succeeded``, ``… failed: why`` or ``message not signed``."""
        file = self.folder / "message"
        file.write_bytes(message)
        command = ["opendkim", "-x", str(self.folder / "conf"), "-t", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.partition(": ")[2].partition(": ")[2].strip()

    def verifies(self, message: bytes) -> bool:
        """Whether it finds a signature that holds."""
        return self.says(message).endswith("succeeded")
