"""An LDAP server of a few octets that says what it is told to say, and remembers what it was asked.

For answers that a real server gives seldom: referrals, sub-codes, notices, half an answer.
"""

import contextlib
import socket
import threading

SEARCH, BIND, UNBIND, EXTENDED = 0x63, 0x60, 0x42, 0x77


def tlv(tag, content=b""):
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def text(value):
    return tlv(0x04, value.encode() if isinstance(value, str) else value)


def parts(data):
    """(tag, content) of each element."""
    at, found = 0, []
    while at < len(data):
        tag, size = data[at], data[at + 1]
        at += 2
        if size >= 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(data[at : at + count], "big"), at + count
        found.append((tag, data[at : at + size]))
        at += size
    return found


def message(id, *content):
    return tlv(0x30, tlv(0x02, bytes((id,)) if id < 128 else id.to_bytes(2, "big")) + b"".join(content))


def result(tag, code, diagnostic="", *, referral=""):
    more = tlv(0xA3, text(referral)) if referral else b""
    return tlv(tag, tlv(0x0A, bytes((code,))) + text("") + text(diagnostic) + more)


def bound(code, diagnostic="", **more):
    """A bind response."""
    return result(0x61, code, diagnostic, **more)


def policy(error, *, as_389ds=False):
    """The password policy control; 389ds writes a warning beside the error, and lengths in four octets."""
    value = tlv(0x30, tlv(0x81, bytes((error,))))
    if as_389ds:
        value = bytes.fromhex("30840000000ea084000000058003015180") + b"\x81\x01" + bytes((error,))
    return tlv(0xA0, tlv(0x30, text("1.3.6.1.4.1.42.2.27.8.5.1") + text(value)))


def entry(dn, **values):
    lists = b"".join(
        tlv(0x30, text(name) + tlv(0x31, b"".join(text(one) for one in value)))
        for name, value in values.items()
    )
    return tlv(0x64, text(dn) + tlv(0x30, lists))


def done(code=0, diagnostic="", **more):
    """The end of a search."""
    return result(0x65, code, diagnostic, **more)


def notice():
    """Notice of disconnection (RFC 4511, 4.4.1)."""
    operation = tlv(
        0x78, tlv(0x0A, b"\x34") + text("") + text("going down") + tlv(0x8A, b"1.3.6.1.4.1.1466.20036")
    )
    return message(0, operation)


class Scripted:
    """`answer(kind, request)` gives the operations to send: a list of octets, raw octets, or None to hang up.

    `binds` are (name, password) of every bind, `searches` the raw requests. Binds of the service account are
    answered with success by themselves.
    """

    def __init__(self, answer, *, service="cn=submitward,ou=services,dc=example,dc=org"):
        self.answer = answer
        self.service = service
        self.binds, self.searches, self.connections = [], [], 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ldap://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _accept(self):
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        buffer = b""
        try:
            while data := peer.recv(65536):
                buffer += data
                while len(buffer) > 2:
                    size, at = buffer[1], 2
                    if size >= 0x80:
                        count = size & 0x7F
                        size, at = int.from_bytes(buffer[2 : 2 + count], "big"), 2 + count
                    if len(buffer) < at + size:
                        break
                    content, buffer = buffer[at : at + size], buffer[at + size :]
                    if not self._handle(peer, parts(content)):
                        peer.shutdown(socket.SHUT_RDWR)
                        return
        except OSError:
            pass

    def _handle(self, peer, fields):
        id, (kind, body) = int.from_bytes(fields[0][1], "big"), fields[1]
        if kind == BIND:
            _, name, secret = parts(body)
            self.binds.append((name[1].decode(), secret[1]))
            if name[1].decode() == self.service:
                peer.sendall(message(id, bound(0)))
                return True
        elif kind == SEARCH:
            self.searches.append(body)
        elif kind == UNBIND:
            return False
        answer = self.answer(kind, body)
        if answer is None:
            return False
        if isinstance(answer, bytes):
            peer.sendall(answer)
            return True
        for one in answer:
            peer.sendall(message(id, *one) if isinstance(one, tuple) else message(id, one))
        return True

    def unauthenticated(self):
        """Every bind without a password or without a name."""
        return [bind for bind in self.binds if not bind[0] or not bind[1]]
