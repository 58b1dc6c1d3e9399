"""What the fuzzers start from and what they have found, replayed; and that their harnesses see a defect."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from policyd import wire as policy_wire
from saslauthd import answers
from saslauthd.session import Session as AuthSession
from tests.fuzz import seeds
from tests.fuzz.__main__ import reframed
from tests.fuzz.auth import Auth
from tests.fuzz.ground import Target
from tests.fuzz.milter import Milter, Observe
from tests.fuzz.peers import BrokenPromise
from tests.fuzz.policy import Policy

TARGETS = {target.name: target for target in (Auth, Milter, Observe, Policy)}
KEPT_MOST = 200  # inputs of all protocols
SMALL = 4096  # octets of one


@pytest.fixture
def play(request: pytest.FixtureRequest) -> Iterator[Target]:
    gc.collect()  # or an error that another test has left is taken for one of this
    made = TARGETS[request.param]()
    yield made
    made.close()


protocols = pytest.mark.parametrize("play", TARGETS, indirect=True)


@protocols
def test_the_kept_inputs_keep_every_promise(play: Target) -> None:
    for path in seeds.kept(play.name):
        try:
            play.run(path.read_bytes())
        except Exception as wrong:
            raise AssertionError(f"python -m tests.fuzz {play.name} {path}") from wrong


@protocols
def test_the_transcripts_keep_every_promise_however_they_arrive(play: Target) -> None:
    for said in seeds.transcripts(play.name):
        for way in seeds.WAYS:
            play.run(bytes([way]) + said)


def test_few_and_small_inputs_are_kept() -> None:
    kept = [path for name in TARGETS for path in seeds.kept(name)]
    assert 0 < len(kept) <= KEPT_MOST
    assert max(path.stat().st_size for path in kept) <= SMALL


def test_a_mutation_of_packets_leaves_their_lengths_right() -> None:
    said = b"\0" + b"\0\0\0\x05Mab\0c" + b"\0\0\0\x01N"
    for seed in range(200):
        data = reframed(said, 6000, seed, lambda data, size: data[::-1])
        rest = data[1:]
        if data == said[::-1]:
            continue
        while rest:
            end = 4 + int.from_bytes(rest[:4], "big")
            assert len(rest) >= end
            rest = rest[end:]


def replay(play: Target) -> None:
    for said in seeds.transcripts(play.name):
        for way in seeds.WAYS:
            play.run(bytes([way]) + said)


@pytest.mark.parametrize("play", ["auth"], indirect=True)
def test_an_ok_of_our_own_make_is_seen(play: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: Any, refused: Any) -> Any:
        line = b"OK\t%d\tuser=alice\n" % request.id
        return answers.Answer(request, "ok", line, login="alice")

    monkeypatch.setattr("saslauthd.session.refuse", refuse)
    with pytest.raises(BrokenPromise, match="an OK"):
        replay(play)


@pytest.mark.parametrize("play", ["auth"], indirect=True)
def test_an_exception_of_ours_is_seen(play: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AuthSession, "_cancel", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        replay(play)


@pytest.mark.parametrize("play", ["milter"], indirect=True)
def test_an_accept_is_seen(play: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milter.judgement.CONTINUE", b"\0\0\0\x01a")
    with pytest.raises(BrokenPromise, match="b'a'"):
        replay(play)


@pytest.mark.parametrize("play", ["milter"], indirect=True)
def test_an_author_who_is_not_asked_for_is_seen(play: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milter.questions.owns_author", lambda *_: "everything")
    with pytest.raises(BrokenPromise, match="passed"):
        replay(play)


@pytest.mark.parametrize("play", ["observe"], indirect=True)
def test_a_broken_signature_that_stays_is_seen(play: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milter.judgement.broken_claims", lambda *_: ())
    with pytest.raises(BrokenPromise, match="a broken signature stays"):
        replay(play)


@pytest.mark.parametrize("play", ["policy"], indirect=True)
def test_a_permit_is_seen(play: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    real = policy_wire.encode
    monkeypatch.setattr("policyd.server.encode", lambda action: real(action).replace(b"DUNNO", b"OK"))
    with pytest.raises(BrokenPromise):
        replay(play)


@pytest.mark.parametrize("play", ["policy"], indirect=True)
def test_a_sender_who_is_not_asked_for_is_seen(play: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policyd.restrictions.owns", lambda *_: "everything")
    with pytest.raises(BrokenPromise, match="passed"):
        replay(play)


@protocols
def test_a_connection_that_stays_is_seen(play: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Any] = []
    monkeypatch.setattr(type(play.neighbour.protocol), "connectionLost", lambda *_: lost.append(1))
    with pytest.raises(BrokenPromise, match=r"connections are left|timers are left"):
        replay(play)


@protocols
def test_a_neighbour_who_is_disturbed_is_seen(play: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(play.neighbour.protocol)
    real = kind.connectionLost

    def lose_all(self: Any, *reason: Any) -> None:
        real(self, *reason)
        play.neighbour.abortConnection()
        play.neighbour.turn()

    monkeypatch.setattr(kind, "connectionLost", lose_all)
    with pytest.raises(BrokenPromise, match=r"neighbour|connections are left"):
        replay(play)
