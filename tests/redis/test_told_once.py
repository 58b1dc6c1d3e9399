"""Events are told once and a block sets itself once, whatever is killed or lost on the way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from ledger.events import ITSELF
from tests.policyd.house import Client
from tests.redis.hosts import Host, request, send
from tests.redis.proxy import Proxy
from tests.redis.server import running
from tests.redis.test_blocks import command
from tests.redis.test_once import Dying

PLAN = "4 recipients per hour, 5 recipients per 2 hours, 6 recipients per 3 hours"
PATIENCE = 20.0


@pytest.fixture
def stage() -> Iterator[tuple[Host, Proxy]]:
    server = running()
    proxy = Proxy(server)
    host = Host(server, server.prefix(), "mx1.example.org", plan=PLAN, url=proxy.url)
    yield host, proxy
    host.remove()
    proxy.close()


def trip_until_blocked(host: Host, client: Client) -> None:
    """Run into all three limits again and again, as a thief does, whatever becomes of policyd."""
    until, number = time.monotonic() + PATIENCE, 0
    while True:
        for recipients in (2, 3, 4):
            number += 1
            answer = None
            with contextlib.suppress(BrokenPipeError):
                answer = client.ask(**request("alice", f"n{number}", recipients))
            if answer is None:  # it was killed; Postfix connects again
                host.policyd.child.wait(PATIENCE)
                host.start()
                client = host.client()
            elif "is blocked from sending" in answer:
                return
            else:
                assert answer.startswith(("450 4.7.1", "DEFER_IF_PERMIT 4.3.0")), answer
        assert time.monotonic() < until, host.log
        time.sleep(0.05)


def check(host: Host) -> None:
    (block,) = command(host, "blocks", "--all")
    assert (block["subject"], block["author"], block["version"]) == ("login:alice", ITSELF, 1)
    until, events = time.monotonic() + PATIENCE, command(host, "events")
    while "block" not in [one["kind"] for one in events]:
        assert time.monotonic() < until
        events = command(host, "events")
    ids = [one["id"] for one in events]
    assert len(ids) == len(set(ids))
    assert len([one for one in events if one["kind"] == "block"]) == 1
    trips = [one["limit"] for one in events if one["kind"] == "trip"]
    assert len(set(trips)) == 3
    assert len(trips) <= 6, "one for each window, and one more where its number turned meanwhile"
    assert len(command(host, "audit")) == 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["note_event", "block_once"])
def test_killed_around_a_verb_the_block_is_set_once(stage: tuple[Host, Proxy], verb: str, when: str) -> None:
    host, _ = stage
    host.policyd = dying = Dying(host, verb, when)
    client = host.client()
    assert send(client, "alice", "first", 3)
    trip_until_blocked(host, client)
    assert dying.child.poll() == -9
    if (verb, when) != ("block_once", "after"):
        check(host)
        return
    # Only its event is missing, of one that was killed between the two; the block explains itself.
    (block,) = command(host, "blocks", "--all")
    assert command(host, "events", block["id"])["block"]["reason"].startswith("3 windows tripped")


@pytest.mark.parametrize("verb", ["event_note", "keep_once"])
def test_an_answer_that_is_lost_changes_nothing(stage: tuple[Host, Proxy], verb: str) -> None:
    host, proxy = stage
    client = host.start().client()
    assert send(client, "alice", "first", 3)
    proxy.arm(verb, "close")
    trip_until_blocked(host, client)
    assert proxy.swallowed == 1
    check(host)
    assert "Traceback" not in host.log
