"""Certificates of a test CA: right, expired, and for another name."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write(path, certificate, key):
    path.with_suffix(".crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )


class Authority:
    """A CA in a directory; `ca` is its certificate."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.ca = directory / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder("submitward test CA", self._key.public_key(), 30)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        )
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
                **usage,
            ),
            critical=True,
        )
        self._certificate = builder.sign(self._key, hashes.SHA256())
        _write(self.ca, self._certificate, self._key)
        self.issue("good")
        self.issue("expired", days=-1)
        self.issue("other", dns="elsewhere.example.org", ip=None)

    def _builder(self, name, public_key, days):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("submitward test CA"))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * DAY)
            .not_valid_after(now + days * DAY)
        )

    def issue(self, label, *, days=30, dns="localhost", ip="127.0.0.1"):
        """A server's certificate and key as LABEL.crt and LABEL.key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(dns)] + ([x509.IPAddress(ipaddress.ip_address(ip))] if ip else [])
        builder = self._builder(dns, key.public_key(), days).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        _write(self.directory / label, builder.sign(self._key, hashes.SHA256()), key)
