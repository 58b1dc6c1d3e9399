"""`submitward events`: what became of limits and blocks, by the incident that a sender quotes or as it comes.

Knows how events are listed, found and followed. Must not know how they come about or are kept.
"""

from __future__ import annotations

import argparse
import json
import select
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

from ledger.charges import Unavailable
from ledger.events import MOST, Event
from ledger.lookout import Lookout, Page, SharedLookout, open_lookout
from ledger.tombstones import Tombstone
from policyd.settings import Settings
from submitward import blocks
from submitward.bookkeeping import DONE, NO, UNAVAILABLE, Answer, answer, guarded, moment, printable
from submitward.targets import FORMS, argument, at_least_one, parse_target

HELP = "what became of limits and blocks: list it, find an incident, or follow it"
SHOWN = 50
PAGE = 500  # events that are read at one time
POLL = 0.5  # seconds between two looks of who follows


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "id", nargs="?", metavar="ID", help="the incident that a refusal names, or a block's id"
    )
    parser.add_argument("--follow", action="store_true", help="go on and print what comes, until interrupted")
    parser.add_argument("--of", type=argument(parse_target), metavar="TARGET", help=f"of it alone: {FORMS}")
    parser.add_argument(
        "--most", type=argument(at_least_one), default=SHOWN, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON; with --follow one object on each line"
    )


def run(options: argparse.Namespace) -> int:
    """0 shown, 1 there is no such event, 2 usage or settings, 75 unavailable."""
    if options.id is not None:
        return answer(options, lambda settings: find(settings, options.id))
    if options.follow:
        return guarded(options, lambda settings: follow(settings, options))
    return answer(options, lambda settings: show(settings, options))


def find(settings: Settings, id: str) -> Answer:
    """The event of an incident, with the block of the same id."""
    with open_lookout(settings.ledger) as lookout:
        event = lookout.event(id.upper()) or lookout.event(id.lower())
        block = next(
            (one for one in lookout.history() if one.block.id == id.lower() and not one.block.is_grant), None
        )
    if event is None and block is None:
        text = f"no event and no block {printable(id)}"
        where = f"only limits and blocks have events: look for incident={printable(id)} in the hosts' logs"
        return Answer(NO, None, (text,), (where,))
    now = time.time()
    lines = () if event is None else (in_words(event), *in_full(event))
    lines += () if block is None else (f"block {blocks.in_words(block, now)}",)
    return Answer(DONE, in_json(event, block, now), lines)


def show(settings: Settings, options: argparse.Namespace) -> Answer:
    """The newest events, the oldest of them first."""
    with open_lookout(settings.ledger) as lookout:
        status, notes = DONE, tuple[str, ...]()
        try:
            events = newest(lookout, lookout.events_after(0, 0).last, options.most, options.of)
        except Unavailable as away:
            if not isinstance(lookout, SharedLookout):
                raise
            events, status = lookout.events_here()[-options.most :], UNAVAILABLE
            notes = (f"{away}. These are what this host has noted meanwhile.",)
    lines = tuple(map(in_words, events)) or ("no events",)
    return Answer(status, [asdict(event) for event in events], lines, notes)


def newest(lookout: Lookout, last: int, most: int, subject: str | None) -> tuple[Event, ...]:
    """The `most` newest events (of a subject or sent by it) up to the serial `last`, the oldest first."""
    found: list[Event] = []
    oldest = max(0, last - MOST)
    while last > oldest and len(found) < most:
        first = max(oldest, last - PAGE)
        page = lookout.events_after(first, last - first)
        found = [one for one in page.events if one.serial <= last and concerns(one, subject)] + found
        last = first
    return tuple(found[-most:])


def concerns(event: Event, subject: str | None) -> bool:
    """Whether an event is about `subject` (None: anybody)."""
    return subject is None or subject in (event.subject, event.principal)


def follow(settings: Settings, options: argparse.Namespace) -> int:
    """Print the last events and then what comes, until interrupted or nobody reads it."""

    def tell(event: Event) -> None:
        if concerns(event, options.of):
            print(json.dumps(asdict(event)) if options.json else in_words(event), flush=True)

    try:
        with open_lookout(settings.ledger) as lookout:
            page = lookout.events_after(0, 0)
            for event in newest(lookout, page.last, min(options.most, 10), options.of):
                tell(event)
            _go_on(lookout, page, tell)
    except KeyboardInterrupt:
        pass
    return DONE


def _go_on(lookout: Lookout, page: Page, tell: Callable[[Event], None]) -> None:
    era, last, said = page.era, page.last, ""
    while _is_read():
        time.sleep(POLL)
        try:
            page = lookout.events_after(last, PAGE)
        except Unavailable as away:
            if not said:
                print(f"submitward events: {away}. It is tried again.", file=sys.stderr)
            said = str(away)
            continue
        said = ""
        if page.era != era:  # the store was emptied or is another one, and counts anew
            era, last = page.era, 0
            continue
        for event in page.events:
            tell(event)
            last = event.serial


def _is_read() -> bool:
    """False once the reader of a pipe is gone, which no write would tell for a long time."""
    if sys.stdout is None:
        return False
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)
    return not any(what & (select.POLLERR | select.POLLHUP) for _, what in watched.poll(0))


def in_words(event: Event) -> str:
    """One event on one line."""
    parts = [moment(event.at), event.id, event.kind, event.subject]
    if event.limit:
        parts.append(f"{event.used} used of {event.limit}")
    parts += [event.text] if event.text else []
    return printable("  ".join(parts))


def in_full(event: Event) -> tuple[str, ...]:
    """Where an event happened first, on lines of their own."""
    named = (
        ("sent by", event.principal),
        ("first at", event.mta),
        ("queue id", event.queue_id),
        ("instance", event.instance),
    )
    return tuple(f"  {name}: {printable(text)}" for name, text in named if text)


def in_json(event: Event | None, block: Tombstone | None, now: float) -> dict[str, object]:
    """Both for programs; moments are epoch seconds."""
    return {
        "event": None if event is None else asdict(event),
        "block": None if block is None else blocks.in_json(block, now),
    }
