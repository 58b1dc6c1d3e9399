"""The settings of the author check through a real Postfix, and stores that go away during a session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail

from directory.identity import Unavailable
from tests.milter.mail_host import MailHost, mail_host, threaded
from tests.milter.stage import Broken
from tests.milter.test_authors import OWN, field, say


@contextmanager
def rules(host: MailHost, **changes: Any) -> Iterator[None]:
    judge = host.stage.service.judge
    kept = judge.rules
    judge.rules = replace(kept, **changes)
    try:
        yield
    finally:
        judge.rules = kept


RESENT = OWN + field(b"bob@example.org", b"Resent-From")
OTHERS_SENDER = OWN + field(b"bob@example.org", b"Sender")
NAMED = field(b'"admin@example.com" <alice@example.org>')
NAMED_ITSELF = field(b'"alice@example.org" <alice@example.org>')
ENCODED = field(b"=?utf-8?q?admin=40example=2Ecom?= <alice@example.org>")
LONG = OWN + field(b"x" * 1000, b"X-Long")


@pytest_twisted.ensureDeferred
async def test_what_the_settings_let_pass_passes_and_what_they_refuse_is_refused() -> None:
    async with mail_host(reactor) as host:
        client = await threaded(host.connect)

        async def codes(*said: bytes) -> list[int]:
            return [(await threaded(say, client, data))[0] for data in said]

        assert await codes(RESENT, OTHERS_SENDER, NAMED, ENCODED, LONG) == [550, 550, 250, 250, 550]
        with rules(host, resent=True):
            assert await codes(RESENT, OTHERS_SENDER) == [250, 550]
        with rules(host, owned_sender=False):
            assert await codes(RESENT, OTHERS_SENDER, OWN + field(b"a, b", b"Sender")) == [550, 250, 250]
        with rules(host, strict_names=True):
            assert await codes(NAMED, ENCODED, NAMED_ITSELF, OWN) == [550, 550, 250, 250]
        with rules(host, long_lines=True):
            assert await codes(LONG, OWN) == [250, 250]
        assert await codes(RESENT, OTHERS_SENDER, NAMED, ENCODED, LONG) == [550, 550, 250, 250, 550]
        await threaded(client.quit)


@pytest_twisted.ensureDeferred
async def test_an_entry_may_say_more_or_less_for_from_than_for_the_envelope() -> None:
    async with mail_host(reactor) as host:
        file = host.stage.home / "directory.yaml"
        text = file.read_text("utf-8")
        file.write_text(
            text.replace(
                "    aliases: [alice_lastname]\n",
                "    aliases: [alice_lastname]\n    author: {only: [alice@example.org, news@example.com]}\n",
            ),
            "utf-8",
        )
        while "news@example.com" not in (await host.stage.principal("alice")).authors:
            await host.stage.pause(0.1)
        client = await threaded(host.connect)
        news, last = field(b"news@example.com"), field(b"alice_lastname@example.org")
        assert (await threaded(say, client, news))[0] == 250
        assert (await threaded(say, client, last))[0] == 550
        assert (await threaded(say, client, news + field(b"news@example.com", b"Sender")))[0] == 250
        assert (await threaded(say, client, news + field(b"alice_lastname@example.org", b"Sender")))[0] == 250
        code, text = await threaded(client.mail, "news@example.com")
        assert code == 250
        code, text = await threaded(client.rcpt, "someone@elsewhere.example")
        assert (code, text[:5]) == (553, b"5.7.1")
        await threaded(client.quit)


class Away:
    """A directory that is away, or never answers."""

    def __init__(self, real: Any, hangs: bool) -> None:
        self._real = real
        self._hangs = hangs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def look_up(self, question: object) -> Deferred[Any]:
        return Deferred() if self._hangs else fail(Unavailable("away"))


@pytest_twisted.ensureDeferred
async def test_a_store_that_is_away_costs_the_message_alone_and_nothing_of_it_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("milter.judge.DEADLINE", 3.0)
    async with mail_host(reactor) as host:
        client = await threaded(host.connect)
        judge = host.stage.service.judge
        directory, ledger = judge.directory, judge.ledger
        for hangs in (False, True):
            how = "hang" if hangs else "fail"
            for away in ("directory", "ledger"):
                if away == "directory":
                    judge.directory = Away(directory, hangs)
                else:
                    judge.ledger = Broken(ledger, how, "record", "take_up")  # type: ignore[assignment]
                for author in (b"alice@example.org", b"bob@example.org"):
                    code, text = await threaded(say, client, field(author))
                    assert (code, text[:5]) == (451, "4.3.0"), (away, how, text)
                judge.directory, judge.ledger = directory, ledger
                assert (await threaded(say, client, OWN))[0] == 250
        await threaded(client.quit)
        while host.maillog.count("status=sent") < 4:
            await host.stage.pause(0.1)
        assert (
            host.maillog.count("milter-reject: END-OF-HEADERS") + host.maillog.count("milter-reject: E") >= 8
        )
        assert host.maillog.count(": client=") == 12
        assert host.maillog.count("status=sent") == 4
        assert await host.stage.used() == 4
