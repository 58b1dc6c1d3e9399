"""The lab's keys: a small certificate authority, client certificates, and DKIM keys.

Knows openssl's command line. Everything it makes is worthless outside the lab.
"""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

_DAYS = "30"


def openssl(*arguments: str | Path, stdin: bytes | None = None) -> bytes:
    """Run openssl and return its output; what it complains about goes into the exception."""
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def make_authority(directory: Path) -> Path:
    """A new authority in `directory`; returns its certificate, ``ca.crt``."""
    certificate = directory / "ca.crt"
    openssl(
        *("req", "-x509", "-nodes", "-days", _DAYS, "-subj", "/CN=Submitward lab CA"),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-keyout", directory / "ca.key", "-out", certificate),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    return certificate


def make_certificate(directory: Path, name: str, *, alternatives: str = "") -> tuple[Path, Path]:
    """A certificate for `name`, signed by the authority in `directory`; returns its and its key's path."""
    certificate, key, request = (directory / f"{name}.{end}" for end in ("crt", "key", "csr"))
    openssl(
        *("req", "-new", "-nodes", "-subj", f"/CN={name}", "-newkey", "ec"),
        *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", key, "-out", request),
    )
    extensions = directory / f"{name}.ext"
    extensions.write_text(f"subjectAltName={alternatives or f'DNS:{name}'}\n")
    openssl(
        *("x509", "-req", "-days", _DAYS, "-in", request, "-out", certificate, "-extfile", extensions),
        *("-CA", directory / "ca.crt", "-CAkey", directory / "ca.key", "-CAcreateserial"),
    )
    return certificate, key


def fingerprint(certificate: Path) -> str:
    """The SHA-256 fingerprint as openssl and Postfix print it: ``AB:CD:…``."""
    line = openssl("x509", "-in", certificate, "-noout", "-fingerprint", "-sha256").decode()
    return line.strip().partition("=")[2]


def make_signing_key(path: Path) -> str:
    """A new RSA-2048 key at `path`; returns the TXT record that publishes it (RFC 6376, 3.6.1)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    openssl("genrsa", "-out", path, "2048")
    path.chmod(0o600)
    public = openssl("rsa", "-in", path, "-pubout", "-outform", "DER")
    return f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"
