"""Write the settings reference into README.md: `.venv/bin/python -m tests.papers`.

Knows where the table stands. Must not know any key: the table is made from the dataclasses that read it.
"""

from pathlib import Path

from sidecar.reference import reference
from submitward.settings import Settings

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN = "<!-- settings reference: `.venv/bin/python -m tests.papers` writes it -->\n"
END = "<!-- end of the settings reference -->\n"


def with_reference(text: str) -> str:
    """`text` with the settings reference as the code has it now."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError("README.md has no place for the settings reference")
    return f"{head}{begin}\n{reference(Settings)}\n{end}{tail}"


if __name__ == "__main__":
    README.write_text(with_reference(README.read_text()))
