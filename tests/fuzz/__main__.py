"""Fuzz one protocol: ``python -m tests.fuzz NAME [--minutes N] [--seed N] [--folder DIR] [FILE…]``.

NAME is auth, milter, observe or policy. FILEs are replayed instead. See the README beside this.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OURS = ["policyd", "saslauthd", "milter", "directory", "ledger", "sidecar"]
LOOK = 5_000  # inputs between two looks at the memory
WARM = 20_000  # inputs after which it must stay flat
GROWTH = 20_000  # objects that may have been added since


class Memory:
    """Watches how many objects live; whatever grows with the inputs is a leak of ours."""

    def __init__(self) -> None:
        self.inputs, self.began, self.flat = 0, time.monotonic(), 0

    def look(self) -> None:
        """To be called once for each input."""
        self.inputs += 1
        if self.inputs % LOOK:
            return
        gc.collect()
        objects, pages = len(gc.get_objects()), int(Path("/proc/self/statm").read_text().split()[1])
        seconds = time.monotonic() - self.began
        print(
            f"memory: {self.inputs} inputs, {seconds:.0f} s, {objects} objects, {pages // 256} MB", flush=True
        )
        if self.inputs == WARM:
            self.flat = objects
        if self.flat and objects > self.flat + GROWTH:
            raise AssertionError(f"{objects} objects live, {self.flat} did after {WARM} inputs")


def reframed(data: bytes, size: int, seed: int, mutate: Callable[[bytes, int], bytes]) -> bytes:
    """A mutation of milter packets that leaves their lengths right, two times in three."""
    dice = random.Random(seed)
    if dice.randrange(3) == 0 or len(data) < 6:
        return mutate(data, size)
    way, rest, packets = data[:1], data[1:], []
    while len(rest) >= 5:
        length = min(int.from_bytes(rest[:4], "big"), len(rest) - 4)
        packets.append(rest[4 : 4 + length])
        rest = rest[4 + length :]
    place = dice.randrange(len(packets))
    match dice.randrange(4):
        case 0:
            packets.insert(place, packets[dice.randrange(len(packets))])
        case 1:
            del packets[place]
        case _:
            packets[place] = mutate(packets[place] or b"c", 400)
    return (way + b"".join(len(one).to_bytes(4, "big") + one for one in packets))[:size]


def target(name: str) -> Any:
    """The harness of a protocol."""
    if name == "auth":
        from tests.fuzz.auth import Auth

        return Auth()
    if name in ("milter", "observe"):
        from tests.fuzz.milter import Milter, Observe

        return Milter() if name == "milter" else Observe()
    from tests.fuzz.policy import Policy

    return Policy()


def main() -> None:
    """Fuzz until the time is over or something is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", choices=("auth", "milter", "observe", "policy"))
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/submitward-fuzz"))
    parser.add_argument("files", type=Path, nargs="*", help="replay these instead")
    asked = parser.parse_args()
    if asked.files:
        for path in asked.files:
            target(asked.name).run(path.read_bytes())
        return
    fuzz(asked.name, asked.folder / asked.name, asked.minutes, asked.seed)


def fuzz(name: str, folder: Path, minutes: int, seed: int) -> None:
    """Run atheris; what it finds is left in `folder`."""
    import atheris

    with atheris.instrument_imports(include=OURS):
        played = target(name)
    from tests.fuzz import seeds

    seeds.write(name, folder / "seeds")
    (folder / "found").mkdir(exist_ok=True)
    memory = Memory()

    def one(data: bytes) -> None:
        memory.look()
        played.run(data)

    more: dict[str, Any] = {}
    if seeds.wire_of(name) == "milter":
        more["custom_mutator"] = lambda data, size, dice: reframed(data, size, dice, atheris.Mutate)
    options = [f"-seed={seed}", f"-max_total_time={60 * minutes}", "-max_len=6000", "-rss_limit_mb=1500"]
    options += [
        f"-dict={Path(__file__).parent / 'words' / seeds.wire_of(name)}.dict",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
    ]
    options += [str(folder / "found"), str(folder / "seeds"), str(seeds.CORPUS / name)]
    atheris.Setup([sys.argv[0], *options], one, **more)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
