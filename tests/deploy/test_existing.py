"""Existing Postfix configurations, running: planned, applied, removed, and nobody's mail the worse."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest

from submitward.graft import applying, files, host
from submitward.graft.applying import carry_out
from submitward.graft.files import MAIN, MASTER
from submitward.graft.plan import plan, remove
from submitward.graft.wish import Wish
from tests.deploy.existing import TAKEN, wish
from tests.deploy.mail_host import MailHost, mail_host, replace_cold
from tests.deploy.stand_ins import auth_server, refusers


def wish_here(name: str, running: MailHost) -> Wish:
    """The wish, with the services under the ports that they have here."""
    asked = wish(name)
    if asked.own:
        ports = {"submission": running.base + 587, "submissions": running.base + 465}
        moved = {one: f"127.0.0.1:{ports[one]}" for one in asked.own}
        own, wrapped = tuple(moved.values()), tuple(moved[one] for one in asked.wrapped)
        return dataclasses.replace(asked, own=own, wrapped=wrapped)
    ports = (running.base + 587, running.base + 465)
    master = (running.postfix / MASTER).read_text()
    services = tuple(f"127.0.0.1:{port}/inet" for port in ports if f"\n127.0.0.1:{port} " in master)
    return dataclasses.replace(asked, services=services)


@pytest.mark.parametrize("name", TAKEN)
def test_it_is_applied_reloaded_and_removed_and_mail_from_outside_passes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all three sidecars away, and with three that would refuse it if port 25 asked them."""
    monkeypatch.setattr(applying, "replace_files", replace_cold)
    is_mx = files.is_mx
    with mail_host(name) as running:
        mx = f"127.0.0.1:{running.base + 25}"
        monkeypatch.setattr(files, "is_mx", lambda service: service == mx or is_mx(service))
        before = {file: (running.postfix / file).read_bytes() for file in (MAIN, MASTER)}
        arrivals = [running.outsider()]
        planner = functools.partial(plan, wish=wish_here(name, running))
        outcome = host.try_out(running.postfix, planner, running.sockets)
        assert outcome.changed == (MAIN, MASTER)
        with auth_server(running.sockets):  # it has to be there when it is set in
            carry_out(outcome, tmp_path)
        arrivals.append(running.outsider())
        with refusers(running.sockets) as asked:
            arrivals.append(running.outsider())
        carry_out(host.try_out(running.postfix, remove), tmp_path)
        arrivals.append(running.outsider())
        assert [(reply.code, arrived) for reply, arrived in arrivals] == [(250, b"as sent")] * 4
        assert asked == ({"policy", "policy as mx"} if wish(name).mx else set())
        assert {file: (running.postfix / file).read_bytes() for file in before} == before
