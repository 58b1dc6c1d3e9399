"""What the fuzzers start from: the transcripts of three protocols, and the milter's From fields."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
#: Octets that say how an input arrives (`ground.How`): at once, in pieces, stores away, late, and so on.
WAYS = (0x00, 0x01, 0x0A, 0x04, 0x18, 0x20, 0x42, 0x80)


def wire_of(name: str) -> str:
    """The protocol that a harness speaks."""
    return "milter" if name == "observe" else name


def transcripts(name: str) -> Iterator[bytes]:
    """What the peer says in each transcript of a protocol."""
    name = wire_of(name)
    folder = CORPUS.parents[1] / "transcripts" / name
    for path in sorted(folder.glob("*.txt")):
        if name == "auth":
            from tests.saslauthd.test_transcripts import parse as parse_auth

            yield parse_auth(path.read_text("utf-8"))[0]
        elif name == "milter":
            from tests.milter.transcripts import parse as parse_milter

            yield parse_milter(path.read_text("utf-8")).said
        else:
            from tests.policyd.test_transcripts import read

            yield b"".join(value for word, _, value in read(path).steps if word == "send")


def authors() -> Iterator[bytes]:
    """Alice's messages with the hostile and the ordinary From fields of the milter's tables."""
    from tests.fuzz.milter import OFFER, message
    from tests.milter.fields import HOSTILE, ORDINARY

    for row in (*HOSTILE, *ORDINARY):
        if len(row.value) < 1200:
            yield OFFER + message("ABC", row.value)


def kept(name: str) -> list[Path]:
    """The inputs that are kept in the repository."""
    return sorted((CORPUS / name).iterdir())


def write(name: str, folder: Path) -> None:
    """Lay the seeds of a protocol into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, said in enumerate([*transcripts(name), *(authors() if wire_of(name) == "milter" else ())]):
        for way in {WAYS[0], WAYS[1 + number % (len(WAYS) - 1)]}:
            (folder / f"{number}-{way:02x}").write_bytes(bytes([way]) + said)
