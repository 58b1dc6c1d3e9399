"""Logins in closed loops, as cheaply as Python can ask: at auth sockets, through SMTP, and straight at slapd.

Knows the three protocols' client side and a clock. Must not know who answers. A lane asks its next question when
the last one is answered; every answer is checked.
"""

from __future__ import annotations

import base64
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.ldap.slapd import BASE, SERVICE, SERVICE_PASSWORD, USERS, Slapd, dn_of, password, user

#: The client address that a login comes from, always the same one, and its initial response.
Question = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked: the logins, whether their passwords are right, and when to end (0: when all were asked)."""

    logins: tuple[str, ...]
    seconds: float = 0.0
    right: bool = True

    def questions(self) -> Iterator[Question]:
        """Each login with its address and its initial response; over and over while there is time."""
        made = [
            (f"127.{1 + n // 250}.0.{1 + n % 250}", response(login, right=self.right))
            for n, login in enumerate(self.logins)
        ]
        while True:
            yield from made
            if not self.seconds:
                return


def everybody() -> tuple[str, ...]:
    """All logins of the test directory."""
    return tuple(user(index) for index in range(USERS))


def response(login: str, *, right: bool = True) -> bytes:
    """The initial response of PLAIN."""
    word = password(login) if right else b"guess-" + login.encode()
    return base64.b64encode(b"\0" + login.encode() + b"\0" + word)


class Lane:
    """One client; `step` reads an answer and asks what comes next, and gives the seconds of a login that ended."""

    lane: socket.socket

    def __init__(self, questions: Iterator[Question], right: bool) -> None:
        self.questions = questions
        self.right = right
        self.began = 0.0
        self.is_over = False

    def step(self) -> float | None:
        raise NotImplementedError

    def next(self) -> Question | None:
        """The next question, None when there is none."""
        question = next(self.questions, None)
        self.is_over = question is None
        return question


class SocketLane(Lane):
    """A kept connection to an auth socket."""

    def __init__(self, path: str, number: int, questions: Iterator[Question], right: bool) -> None:
        super().__init__(questions, right)
        self.lane = socket.socket(socket.AF_UNIX)
        self.lane.connect(path)
        self.lane.sendall(b"VERSION\t1\t2\nCPID\t%d\n" % (100_000 + number))
        said = b""
        while b"\nDONE\n" not in said:
            said += self.lane.recv(4096)
        self.ask()

    def ask(self) -> None:
        if (question := self.next()) is not None:
            said = b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\trip=%s\tresp=%s\n"
            self.began = time.perf_counter()
            self.lane.sendall(said % (question[0].encode(), question[1]))

    def step(self) -> float | None:
        said = self.lane.recv(4096)
        took = time.perf_counter() - self.began
        if not said.startswith(b"OK\t" if self.right else b"FAIL\t") or b"temp" in said:
            raise RuntimeError(f"answered {said!r}")
        self.ask()
        return took


class SmtpLane(Lane):
    """Connect, EHLO, AUTH PLAIN, QUIT; and again."""

    def __init__(self, port: int, questions: Iterator[Question], right: bool) -> None:
        super().__init__(questions, right)
        self.port = port
        self.said = b""
        self.made = b""
        self.stage = 0
        self.connect()

    def connect(self) -> None:
        question = self.next()
        if question is None:
            return
        source, self.made = question
        self.stage, self.said = 0, b""
        self.began = time.perf_counter()
        self.lane = socket.socket()
        self.lane.bind((source, 0))
        self.lane.connect(("127.0.0.1", self.port))

    def step(self) -> float | None:
        data = self.lane.recv(4096)
        self.said += data
        last = self.said[self.said.rfind(b"\n", 0, -1) + 1 :]
        if data and (not last.endswith(b"\n") or last[3:4] != b" "):
            return None
        codes = (b"220", b"250", b"235" if self.right else b"535", b"221")
        if not last.startswith(codes[self.stage]):
            raise RuntimeError(f"answered {self.said!r}")
        if self.stage == 3:
            return time.perf_counter() - self.began
        asked = (b"EHLO client.example\r\n", b"AUTH PLAIN %s\r\n" % self.made, b"QUIT\r\n")[self.stage]
        self.stage, self.said = self.stage + 1, b""
        self.lane.sendall(asked)
        return None


def through_socket(path: str, connections: int, asking: Asking) -> list[float]:
    """Seconds of each login at an auth socket."""
    shared = asking.questions()
    return _run([SocketLane(path, n, shared, asking.right) for n in range(connections)], asking)


def through_smtp(port: int, connections: int, asking: Asking) -> list[float]:
    """Seconds of each session with Postfix, from connect to the answer to QUIT."""
    shared = asking.questions()
    return _run([SmtpLane(port, shared, asking.right) for _ in range(connections)], asking)


def _run(lanes: list[Lane], asking: Asking) -> list[float]:
    selector = selectors.DefaultSelector()
    left = 0
    for lane in lanes:
        if not lane.is_over:
            selector.register(lane.lane, selectors.EVENT_READ, lane)
            left += 1
    times: list[float] = []
    until = time.perf_counter() + (asking.seconds or 600)
    while left and time.perf_counter() < until:
        ready = selector.select(15)
        if not ready:
            raise RuntimeError("nobody answers")
        for key, _ in ready:
            lane = key.data
            took = lane.step()
            if took is None:
                continue
            times.append(took)
            if isinstance(lane, SmtpLane):
                selector.unregister(lane.lane)
                lane.lane.close()
                lane.connect()
                if not lane.is_over:
                    selector.register(lane.lane, selectors.EVENT_READ, lane)
            elif lane.is_over:
                selector.unregister(lane.lane)
            left -= lane.is_over
    for lane in lanes:
        lane.lane.close()
    selector.close()
    if not times:
        raise RuntimeError("nobody answered in time")
    return times


def raw(server: Slapd, connections: int, seconds: float, *, search: bool) -> list[float]:
    """python-ldap (libldap) in threads on kept connections: what slapd itself does."""
    import ldap

    times: list[float] = []
    until = time.perf_counter() + seconds

    def work(number: int) -> None:
        binder, searcher = ldap.initialize(server.url), ldap.initialize(server.url)
        searcher.simple_bind_s(SERVICE, SERVICE_PASSWORD)
        index = number * 37
        while (began := time.perf_counter()) < until:
            login = user(index % USERS)
            index += 1
            dn = dn_of(login)
            if search:
                dn = searcher.search_s(BASE, ldap.SCOPE_SUBTREE, f"(uid={login})", ["uid"])[0][0]
            binder.simple_bind_s(dn, password(login).decode())
            times.append(time.perf_counter() - began)
        binder.unbind_s()
        searcher.unbind_s()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times
