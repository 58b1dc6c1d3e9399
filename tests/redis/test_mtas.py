"""Two mail hosts on one Redis: together they never let through more than the limit, by not even one."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from itertools import count

import pytest

from tests.redis.hosts import LOGINS, Host, log_in, mail, postfix, send
from tests.redis.server import running


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host, int]]:
    server = running()
    prefix = server.prefix()
    first, second = (Host(server, prefix, f"mx{n}.example.org") for n in (1, 2))
    try:
        first.start()
        second.start()
        with postfix(first) as port:
            yield first, second, port
    finally:
        first.remove()
        second.remove()


def spend(port: int, second: Host, login: str, seed: int) -> int:
    """Both hosts at full speed until both refuse a single recipient; how many were let through."""
    admitted: list[int] = []
    numbers = count()
    chance = random.Random(seed)
    largest = chance.choice([1, 2, 3, 7])

    def through_postfix(lane: int) -> None:
        most = random.Random(lane * 1000 + seed)
        client = log_in(port, login)
        while True:
            recipients = most.randint(1, largest)
            if mail(client, login, recipients):
                admitted.append(recipients)
            elif recipients == 1:
                break
        client.close()

    def replayed(lane: int) -> None:
        most = random.Random(lane * 77 + seed)
        client = second.client()
        while True:
            recipients = most.randint(1, largest)
            if send(client, login, f"{login}.{next(numbers)}", recipients):
                admitted.append(recipients)
            elif recipients == 1:
                break

    lanes = [threading.Thread(target=through_postfix, args=(n,)) for n in range(4)]
    lanes += [threading.Thread(target=replayed, args=(n,)) for n in range(6)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join(60)
        assert not lane.is_alive()
    return sum(admitted)


@pytest.mark.parametrize("seed", range(LOGINS))
def test_two_hosts_at_full_speed_admit_exactly_100(hosts: tuple[Host, Host, int], seed: int) -> None:
    first, second, port = hosts
    assert spend(port, second, f"user{seed}", seed) == 100
    for host in hosts[:2]:
        assert "Traceback" not in host.log
        assert "DEFER_IF_PERMIT" not in host.log
    assert f"principal=login:user{seed}" in first.log
