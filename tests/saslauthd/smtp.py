"""AUTH as a mail client speaks it, response by response."""

import base64
import smtplib

#: A mechanism, and whether its first response goes along with AUTH.
MANNERS = [("PLAIN", True), ("PLAIN", False), ("LOGIN", True), ("LOGIN", False)]


def exchange(port, mechanism, initial, login, password):
    """The last reply of one AUTH on a connection of its own."""
    responses = [f"\0{login}\0{password}"] if mechanism == "PLAIN" else [login, password]
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as smtp:
        smtp.ehlo("client.example.org")
        first = f" {_encoded(responses.pop(0))}" if initial else ""
        code, text = smtp.docmd("AUTH", f"{mechanism}{first}")
        while code == 334:
            code, text = smtp.docmd(_encoded(responses.pop(0)))
        return code, text.decode()


def _encoded(text):
    return base64.b64encode(text.encode()).decode()
