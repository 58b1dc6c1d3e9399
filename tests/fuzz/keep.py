"""Choose what to keep of what was found: ``python -m tests.fuzz.keep NAME FOLDER [MOST]``.

The smallest inputs that together take every step from line to line which any of them takes and no transcript
does; they go into corpus/NAME, named by what they hold.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz import seeds
from tests.fuzz.__main__ import OURS, target
from tests.fuzz.ground import Target

SMALL = 2000  # octets of an input worth keeping
Step = tuple[str, int, int]
_FOLDERS = tuple(str(Path(__file__).parents[2] / name) + "/" for name in OURS)


def steps(played: Target, data: bytes) -> set[Step]:
    """Which line followed which while our code took `data`."""
    found: set[Step] = set()
    last: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_FOLDERS):
            return None
        found.add((frame.f_code.co_filename, last.get(frame, 0), frame.f_lineno))
        last[frame] = frame.f_lineno
        if event == "return":
            last.pop(frame, None)
        return trace

    sys.settrace(trace)
    try:
        played.run(data)
    finally:
        sys.settrace(None)
    return found


def main(name: str, folder: Path, most: int) -> None:
    """Replace what is kept of a protocol."""
    played = target(name)
    known: set[Step] = set()
    for said in seeds.transcripts(name):
        for way in seeds.WAYS:
            known |= steps(played, bytes([way]) + said)
    inputs = {path.read_bytes() for place in (folder, seeds.CORPUS / name) for path in place.iterdir()}
    chosen = []
    for data in sorted((data for data in inputs if len(data) <= SMALL), key=lambda data: (len(data), data)):
        new = steps(played, data) - known
        if new and len(chosen) < most:
            known |= new
            chosen.append(data)
    for path in (seeds.CORPUS / name).iterdir():
        path.unlink()
    for data in chosen:
        (seeds.CORPUS / name / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    print(f"{name}: {len(chosen)} of {len(inputs)} inputs kept, {sum(map(len, chosen))} octets")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 60)
