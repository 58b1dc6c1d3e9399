"""Existing Postfix configurations: what stands there before, what is planned, what is after and removed.

Each is a directory of tests/postfix/existing: `wish.json`, `before/`, and `plan/` with either `difference`
and `notes` or `refused`; where it is not refused, `after/` and `removed/` too. To add one, write `wish.json`
and `before/`, run ``python -m tests.deploy.existing NAME``, and read what it has written.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from submitward.graft.files import MAIN, MASTER, Refused
from submitward.graft.host import Outcome
from submitward.graft.plan import plan, remove
from submitward.graft.wish import Wish

EXISTING = Path(__file__).resolve().parents[1] / "postfix/existing"
NAMES = sorted(path.name for path in EXISTING.iterdir() if path.is_dir())
TAKEN = [name for name in NAMES if not name.startswith("refused_")]
REFUSED = [name for name in NAMES if name.startswith("refused_")]

#: UTF-8 as the graft sees it; among its bytes are 0x85 and 0xa0, which str takes for a line end and a blank.
COMMENT = "для всех наших сетей, вход здесь; Å à".encode().decode("latin-1")

Texts = dict[str, str]


def read(name: str, state: str) -> Texts:
    """Every file of a state by its name."""
    return {p.name: p.read_bytes().decode("latin-1") for p in sorted((EXISTING / name / state).iterdir())}


def placed(name: str, state: str, place: Path) -> Path:
    """A state's files where postconf(1) can read them."""
    target = place / name / state
    shutil.copytree(EXISTING / name / state, target)
    return target


def wish(name: str) -> Wish:
    """What is wished for this one."""
    told = json.loads((EXISTING / name / "wish.json").read_text())
    return Wish(**{key: tuple(value) if isinstance(value, list) else value for key, value in told.items()})


def states(name: str) -> dict[str, Texts]:
    """All states as they come out of `before` now."""
    before = read(name, "before")
    try:
        planned = plan(before[MAIN], before[MASTER], wish(name))
    except Refused as refused:
        return {"plan": {"refused": f"{refused}\n"}}
    after = {**before, MAIN: planned.main, MASTER: planned.master}
    bare = remove(planned.main, planned.master)
    difference = Outcome(Path(), {k: before[k] for k in (MAIN, MASTER)}, after).difference
    return {
        "plan": {"difference": difference, "notes": "".join(f"{note}\n" for note in planned.notes)},
        "after": after,
        "removed": {**before, MAIN: bare.main, MASTER: bare.master},
    }


def write(name: str) -> None:
    """Write all states but `before`."""
    for state in ("plan", "after", "removed"):
        shutil.rmtree(EXISTING / name / state, ignore_errors=True)
    for state, texts in states(name).items():
        (EXISTING / name / state).mkdir()
        for file, text in texts.items():
            (EXISTING / name / state / file).write_bytes(text.encode("latin-1"))


if __name__ == "__main__":
    for wanted in sys.argv[1:] or NAMES:
        write(wanted)
