"""Whether the sidecars are ready: one real question to each that can be asked without mail.

Knows two lines of the Dovecot auth protocol and one policy request. Must not know who asks.
"""

from __future__ import annotations

import base64
import socket
from pathlib import Path

_SECONDS = 5.0


def logs_in(path: Path, login: str, password: str) -> bool:
    """Whether saslauthd says OK to this login: it has read its directory and its blocks."""
    secret = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
    asked = f"VERSION\t1\t0\nCPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\tsecured\tresp={secret}\n"
    return b"\nOK\t1\t" in _ask(path, asked, b"\nOK\t1\t", b"\nFAIL\t1")


def may_send(path: Path, login: str, sender: str) -> bool:
    """Whether policyd says DUNNO to this login and sender at RCPT, which charges nothing."""
    asked = {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "protocol_name": "ESMTP",
        "sasl_username": login,
        "sasl_method": "PLAIN",
        "sender": sender,
        "recipient": "friend@elsewhere.example",
        "client_address": "127.0.0.1",
        "encryption_protocol": "TLSv1.3",
        "instance": "probe",
        "policy_context": "submission",
    }
    lines = "".join(f"{name}={value}\n" for name, value in asked.items())
    return _ask(path, f"{lines}\n", b"\n\n").startswith(b"action=DUNNO")


def _ask(path: Path, text: str, *ends: bytes) -> bytes:
    """What comes back until one of `ends` or the end of the connection; nothing when it cannot be asked."""
    heard = b""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(_SECONDS)
        try:
            peer.connect(str(path))
            peer.sendall(text.encode())
            while not any(end in heard for end in ends) and (more := peer.recv(4096)):
                heard += more
        except OSError:
            return b""
    return heard
