"""A name server that lies, or says what is no answer: it cannot be known, and is never a "no"."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import AF_INET, SOCK_DGRAM, socket
from threading import Thread

import dns.flags
import dns.message
import dns.rrset
import pytest

from submitward.dns.ask import CannotKnow, Resolver

NAME = "s1._domainkey.example.org"


def with_alias(said: dns.message.Message, target: str) -> None:
    name = said.question[0].name
    said.answer.append(dns.rrset.from_text(name, 300, "IN", "CNAME", target.format(name=name.to_text())))


def with_text(said: dns.message.Message, name: str) -> bytes:
    said.answer.append(dns.rrset.from_text(name, 300, "IN", "TXT", '"v=DKIM1; p="'))
    return said.to_wire()


def to_another(said: dns.message.Message) -> bytes:
    data = with_text(said, f"{NAME}.")
    return bytes([data[0] ^ 1]) + data[1:]


def cut(said: dns.message.Message) -> None:
    said.flags |= dns.flags.TC


#: What is sent in place of an answer, made from a good one: its octets, or None for it as it was changed.
LIES: dict[str, Callable[[dns.message.Message], bytes | None]] = {
    "garbage": lambda said: b"\xff" * 40,
    "nothing": lambda said: b"",
    "half a header": lambda said: said.to_wire()[:7],
    "an answer to somebody else": to_another,
    "cut, and nobody listens on TCP": cut,
    "an alias of itself": lambda said: with_alias(said, "{name}"),
    "aliases without end": lambda said: with_alias(said, "x.{name}"),
    "REFUSED": lambda said: said.set_rcode(5),
    "NOTIMP": lambda said: said.set_rcode(4),
    "FORMERR": lambda said: said.set_rcode(1),
}


@contextmanager
def liar(lie: Callable[[dns.message.Message], bytes | None]) -> Iterator[str]:
    """A server over UDP alone; yields where it is. An empty question to it ends it."""
    with socket(AF_INET, SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))

        def answer() -> None:
            while True:
                data, client = peer.recvfrom(4096)
                if not data:
                    return
                said = dns.message.make_response(dns.message.from_wire(data))
                octets = lie(said)
                peer.sendto(said.to_wire() if octets is None else octets, client)

        thread = Thread(target=answer)
        thread.start()
        try:
            yield f"127.0.0.1:{peer.getsockname()[1]}"
        finally:
            with socket(AF_INET, SOCK_DGRAM) as end:
                end.sendto(b"", peer.getsockname())
            thread.join()


@pytest.mark.parametrize("how", LIES)
def test_what_is_no_answer_is_cannot_know_and_not_no(how: str) -> None:
    with liar(LIES[how]) as server, pytest.raises(CannotKnow) as unknown:
        Resolver([server], 0.5).ask(NAME, "TXT")
    assert str(unknown.value).startswith(f"{NAME} TXT: ")
    assert ": ," not in str(unknown.value)


def test_an_answer_about_another_name_gives_no_record() -> None:
    with liar(lambda said: with_text(said, "evil.example.")) as server:
        assert Resolver([server], 5).ask(NAME, "TXT").texts == ()
