"""Look-ups and binds read one `ca_file`, each with its own library, and take the same from it."""

import subprocess
from pathlib import Path

import pytest
import pytest_twisted

from directory.bind_connection import trust
from directory.identity import Verified
from tests.ldap.house import directory, settings_for, verify
from tests.ldap.slapd import password


def trusted(pem):
    """The same certificate as OpenSSL writes it with its uses."""
    command = ["openssl", "x509", "-trustout", "-addtrust", "serverAuth"]
    return subprocess.run(command, input=pem, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize(
    "written",
    [
        lambda pem: "# CA der Universität Zürich\n".encode() + pem,
        lambda pem: b"\xff\xfe a comment in no encoding\n" + pem + b"and more \xe4\n",
        lambda pem: pem.replace(b"\n", b"\r\n"),
        lambda pem: pem.replace(b" CERTIFICATE", b" X509 CERTIFICATE"),
        trusted,
    ],
    ids=["utf-8", "latin-1", "crlf", "x509", "trusted"],
)
@pytest_twisted.ensureDeferred
async def test_a_bundle_that_serves_look_ups_serves_binds(slapd, authority, tmp_path, written):
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(written(Path(authority.ca).read_bytes()))
    settings = settings_for(slapd.tls_url, authority=authority, ca_file=bundle)
    with directory(settings) as made:
        assert await verify(made, "alice", password("alice")) == Verified("alice")


def test_a_file_without_a_certificate_is_no_trust(tmp_path):
    (tmp_path / "empty.pem").write_text("nothing\n")
    with pytest.raises(ValueError, match="no certificate"):
        trust(str(tmp_path / "empty.pem"))
