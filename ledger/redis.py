"""A connection to Redis on which the ledger's script runs: the only module that names Redis.

Knows dialling (socket, TCP, TLS, Sentinel), what a server must be like, and what each of its errors means.
Must not know a verb, nor when to try again: one call, one answer or one Trouble.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from ledger.fitness import find_open, find_unfit, read_info
from ledger.resp import Failed
from ledger.settings import RedisSettings, SentinelSettings, is_loopback, parse_server
from ledger.wire import Silence, Wire

PATIENCE = 1.0  # seconds for one call, and for dialling
SCRIPT = files("ledger").joinpath("charge.lua").read_bytes()
SHA = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest().encode()

#: What Redis calls its own troubles (the first word of an error), and what the operator can do.
MENDS = {
    "LOADING": "it is reading its data and will be ready soon",
    "BUSY": "a script runs in it for long: see SLOWLOG; SCRIPT KILL ends one that only reads",
    "READONLY": "it is a replica: let ledger.redis name the primary, or its Sentinels",
    "MASTERDOWN": "it is a replica without its primary: see to the primary",
    "MISCONF": "it cannot save to its disk: is the disk full?",
    "OOM": "it is at its maxmemory: give it more, with maxmemory-policy noeviction",
    "NOAUTH": "set ledger.redis.password",
    "WRONGPASS": "ledger.redis.user or password is wrong",
    "NOPERM": "its ACL lacks a command or the key prefix: the recipe is in ledger/README.md",
    "WRONGTYPE": "another program writes under our prefix: set ledger.redis.prefix",
    "CROSSSLOT": "it is a Redis Cluster, where a charge over several subjects could not be one step",
    "cluster": "a charge over several subjects could not be one step there: use a primary behind Sentinel",
    "evicts": "set maxmemory-policy noeviction, or ledger.redis.insist: true and lose limits under pressure",
    "old": "Redis 7.0 or later is needed, or a Valkey",
    "open": "give it a password, or bind it to 127.0.0.1; or set ledger.redis.insist: true",
    "timeout": "is it stopped, overloaded or cut off?",
    "connection": "is it running, and is ledger.redis.url right?",
}
#: Errors after which another server may be the right one.
_ELSEWHERE = {"READONLY", "MASTERDOWN", "NOAUTH", "WRONGPASS", "cluster", "evicts", "open", "old"}


class Trouble(Exception):
    """Redis does not do what it was asked. `label` is a word of MENDS, or the first word of its error.

    `lost` says that the connection was lost: nobody knows whether the script ran.
    """

    def __init__(self, label: str, text: str, *, lost: bool = False) -> None:
        super().__init__(text)
        self.label = label
        self.lost = lost

    @property
    def mend(self) -> str:
        """What the operator can do about it."""
        return MENDS.get(self.label, "see its log")


Answered = Callable[[Any], None]  # hears the script's answers or a Trouble


class Link:
    """At most one connection. One call at a time: who asks waits for the answer before asking again."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._connection: Any = None
        self._wire: Wire | None = None
        self._meta = f"{settings.prefix}meta".encode()
        self._asked: tuple[list[bytes], Answered] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that may be used."""
        return self._wire is not None and self._wire.is_open

    async def open(self) -> None:
        """Dial, and look whether it is a Redis that limits can be kept in. Raises Trouble."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._dial()
        except (TimeoutError, RedisTimeout):
            raise Trouble("timeout", f"no answer within {PATIENCE:.0f} s") from None
        except (RedisError, OSError, EOFError) as error:
            raise Trouble(_label(error), str(error), lost=not isinstance(error, ResponseError)) from None

    def send(self, arguments: list[bytes], answered: Answered) -> None:
        """Run the script; `answered` hears its answers, or a Trouble, after which the connection is gone if
        there is any doubt that the next answer on it would be the next call's. The link is open."""
        if self._wire is None or not self._wire.is_open:
            raise RuntimeError("the link is not open")
        self._asked = arguments, answered
        self._wire.ask((b"EVALSHA", SHA, b"1", self._meta, *arguments), self._heard)

    async def run(self, arguments: list[bytes]) -> list[Any]:
        """Run the script and wait for its answers. Raises Trouble."""
        told: asyncio.Future[list[Any] | Trouble] = asyncio.get_running_loop().create_future()
        self.send(arguments, lambda answer: None if told.done() else told.set_result(answer))
        answer = await told
        if isinstance(answer, Trouble):
            raise answer
        return answer

    def close(self) -> None:
        """Let go of the connection; what was asked may still be done, and nobody hears of it."""
        connection, self._connection = self._connection, None
        wire, self._wire = self._wire, None
        self._asked = None
        if wire is not None:
            wire.close()
        if connection is not None:
            _hang_up(connection)

    def _heard(self, answer: Any) -> None:
        asked = self._asked
        if asked is None or self._wire is None:
            return
        arguments, answered = asked
        if isinstance(answer, Failed):
            if answer.text.startswith("NOSCRIPT"):
                self._wire.ask((b"EVAL", SCRIPT, b"1", self._meta, *arguments), self._heard)
                return
            trouble = Trouble(_word(answer.text) or "connection", answer.text)
            if trouble.label in _ELSEWHERE:
                self.close()
            answer = trouble
        elif isinstance(answer, Silence):
            self.close()
            answer = Trouble("connection" if answer.lost else "timeout", str(answer), lost=answer.lost)
        answered(answer)

    async def _dial(self) -> None:
        self.close()
        connection = self._connecting(*await self._where(), self._settings.db, self._settings)
        try:
            await connection.connect()
            await self._check(connection)
        except BaseException:
            _hang_up(connection)
            raise
        self._connection = connection
        self._wire = Wire(connection._writer.transport, PATIENCE)

    def _connecting(self, host: str, port: int, db: int, by: RedisSettings | SentinelSettings) -> Any:
        s, secret = self._settings, by.password.reveal() if by.password else None
        known: dict[str, Any] = {"db": db, "username": by.user or None, "password": secret}
        known |= {"socket_timeout": None, "socket_connect_timeout": None, "protocol": 2}
        if s.socket:
            return UnixDomainSocketConnection(path=s.socket, **known)
        if s.tls:
            known["ssl_ca_certs"], known["ssl_check_hostname"] = s.ca_file or None, True
            return SSLConnection(host=host, port=port, **known)
        return Connection(host=host, port=port, **known)

    async def _where(self) -> tuple[str, int]:
        """The primary: the one that is named, or the one that a Sentinel names."""
        s = self._settings
        if not s.sentinel.servers or s.socket:
            return s.host, s.port
        asked = [asyncio.ensure_future(self._ask_sentinel(server)) for server in s.sentinel.servers]
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    found = await answer
                except (RedisError, OSError, EOFError):
                    continue
                if found:
                    return found
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise Trouble("connection", f"no Sentinel names a primary of {s.sentinel.service}")

    async def _ask_sentinel(self, server: str) -> tuple[str, int] | None:
        asked = self._settings.sentinel
        connection = self._connecting(*parse_server(server), 0, asked)
        try:
            await connection.connect()
            found = await _ask(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", asked.service) or None
            return found and (found[0].decode(), int(found[1]))
        finally:
            _hang_up(connection)

    async def _check(self, connection: Any) -> None:
        info, s = read_info(await _ask(connection, "INFO")), self._settings
        unfit = find_unfit(info, insist=s.insist)
        if not (unfit or s.insist or s.password) and info.get("tcp_port") != "0":
            bind, protected = [await _config(connection, name) for name in ("bind", "protected-mode")]
            unfit = find_open(bind, protected, is_loopback)
        if unfit:
            raise Trouble(*unfit)


async def _ask(connection: Any, *words: bytes | str) -> Any:
    await connection.send_packed_command(connection.pack_command(*words), check_health=False)
    return await connection.read_response(disable_decoding=True)


async def _config(connection: Any, name: str) -> str:
    """A setting of the server; ``""`` where it may not be asked for."""
    try:
        return b"".join((await _ask(connection, "CONFIG", "GET", name))[1:]).decode()
    except ResponseError:
        return ""


def _hang_up(connection: Any) -> None:
    """Close without waiting: what was asked may still be answered, to nobody."""
    writer, connection._writer, connection._reader = connection._writer, None, None
    connection._parser.on_disconnect()
    if writer is not None:
        writer.transport.abort()


#: redis-py takes the first word off some errors and makes a class of it.
_CLASSES = {
    "BusyLoadingError": "LOADING",
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "MasterDownError": "MASTERDOWN",
    "NoPermissionError": "NOPERM",
    "AuthenticationError": "NOAUTH",
    "AuthenticationWrongNumberOfArgsError": "NOAUTH",
}


def _label(error: Exception) -> str:
    """The word of MENDS for what Redis said, else the first word of it."""
    text = str(error)
    if "invalid username-password" in text or "WRONGPASS" in text:
        return "WRONGPASS"
    return _CLASSES.get(type(error).__name__) or _word(text) or "connection"


def _word(text: str) -> str:
    """The first word of an error of Redis, ``""`` when it is no such word."""
    word = text.partition(" ")[0].rstrip(":")
    return word if word.isalpha() and word.isupper() else ""
