"""A real Postfix, with the real policyd and the milter: what is delivered, refused, and what it costs."""

import re

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.milter.mail_host import MailHost, mail_host, send, threaded


async def used(host: MailHost) -> int:
    return await host.stage.used()


@pytest_twisted.ensureDeferred
async def test_an_own_author_is_delivered_a_foreign_one_refused_and_the_connection_goes_on() -> None:
    async with mail_host(reactor) as host:
        client = await threaded(host.connect)
        code, text = await threaded(send, client, "Alice <alice@example.org>")
        assert code == 250, text
        queue_id = re.search(r"queued as (\w+)", text)[1]
        code, text = await threaded(send, client, "Bob <bob@example.org>")
        assert (code, text[:39]) == (550, "5.7.1 login alice does not own the From")
        code, text = await threaded(send, client, "a@example.org, b@example.org")
        assert (code, text[:5]) == (550, "5.6.0")
        code, text = await threaded(send, client, "")
        assert (code, text[:5]) == (550, "5.6.0")
        code, text = await threaded(send, client, "alice@example.net", "From: alice@example.org")
        assert (code, text[:5]) == (550, "5.6.0")
        code, text = await threaded(send, client, "alice_lastname@example.net")
        assert code == 250, text
        await threaded(client.quit)
        assert f"queue_id={queue_id} principal=login:alice" in host.stage.out.getvalue()
        while host.maillog.count("status=sent") < 2:
            await host.stage.pause(0.1)
        assert "bob@example.org" not in re.sub("milter-reject.*", "", host.maillog)


@pytest_twisted.ensureDeferred
async def test_what_is_refused_costs_nothing() -> None:
    async with mail_host(reactor) as host:
        client = await threaded(host.connect)
        for author in ("bob@example.org", "bob@example.org", "alice@example.org", "bob@example.org"):
            await threaded(send, client, author)
        await threaded(client.quit)
        assert await used(host) == 1
        assert host.stage.out.getvalue().count("refund=done") == 3


@pytest_twisted.ensureDeferred
async def test_a_percent_sign_in_a_text_arrives_as_one() -> None:
    async with mail_host(reactor) as host:
        client = await threaded(host.connect)
        _, text = await threaded(send, client, "100%x%%@example.org")
        assert "<100%x%%@example.org>" in text
        await threaded(client.quit)


@pytest_twisted.ensureDeferred
async def test_a_first_line_that_starts_with_a_blank_leaves_no_author() -> None:
    async with mail_host(reactor) as host:
        client = await threaded(host.connect)

        def leading_blank() -> tuple[int, bytes]:
            client.mail("alice@example.org")
            client.rcpt("someone@elsewhere.example")
            return client.data(b" From: alice@example.org\r\nSubject: x\r\n\r\nHello.\r\n")

        code, text = await threaded(leading_blank)
        assert (code, text[:34]) == (550, b"5.6.0 the message has no From fiel")
        await threaded(client.quit)


@pytest_twisted.ensureDeferred
async def test_an_internationalized_author_is_judged_by_its_normal_form() -> None:
    async with mail_host(reactor) as host:
        client = await threaded(host.connect, "rené")
        code, text = await threaded(
            send,
            client,
            "René <rene\u0301@bücher.example>",
            sender="rené@bücher.example",
            options=("SMTPUTF8",),
        )
        assert code == 250, text
        await threaded(client.quit)


@pytest_twisted.ensureDeferred
async def test_messages_pass_again_after_the_milter_was_away_between_them() -> None:
    async with mail_host(reactor) as host:
        client = await threaded(host.connect)
        assert (await threaded(send, client, "alice@example.org"))[0] == 250
        for one in tuple(host.stage.service._factories[0][1].connections):
            one.transport.abortConnection()
        code, text = await threaded(client.mail, "alice@example.org")
        assert code == 451, text  # noticed at MAIL: nothing is charged
        await threaded(client.close)
        client = await threaded(host.connect)
        assert (await threaded(send, client, "alice@example.org"))[0] == 250
        await threaded(client.quit)
        assert await used(host) == 2


@pytest_twisted.ensureDeferred
async def test_a_client_that_pauses_after_many_recipients_is_served_and_charged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("milter.server.STALLED", 0.5)
    async with mail_host(reactor) as host:
        client = await threaded(host.connect)

        def envelope() -> None:
            client.mail("alice@example.org")
            for number in range(60):
                code, text = client.rcpt(f"recipient-{number}@elsewhere.example")
                assert code == 250, text

        await threaded(envelope)
        # Postfix sends the macros of recipients, wanted or not, whenever 4096 octets have come together.
        (connection,) = host.stage.service._factories[0][1].connections
        assert not connection._reader.is_between_packets
        await host.stage.pause(1.5)
        code, text = await threaded(client.data, "From: alice@example.org\r\n\r\nHello.\r\n")
        assert code == 250, text
        assert await used(host) == 1
        assert (await threaded(send, client, "alice@example.org"))[0] == 250
        assert await used(host) == 2
        assert (await threaded(send, client, "bob@example.org"))[0] == 550
        assert await used(host) == 2
        await threaded(client.quit)
        assert "event=protocol_error" not in host.stage.out.getvalue()
