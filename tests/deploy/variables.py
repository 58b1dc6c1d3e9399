"""The table of the role's variables in the README: ``python -m tests.deploy.variables`` writes it.

Knows meta/argument_specs.yml and the two marks in ansible/README.md. Must not know what a variable does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"
ROLE = ANSIBLE / "roles/submitward"
README = ANSIBLE / "README.md"
BEGIN, END = "<!-- variables: written from meta/argument_specs.yml -->\n", "<!-- end of variables -->\n"


def options() -> dict[str, dict[str, Any]]:
    """Every variable with its specification."""
    told = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())
    found: dict[str, dict[str, Any]] = told["argument_specs"]["main"]["options"]
    return found


def table() -> str:
    """The table in Markdown."""
    lines = ["| variable | type | default | what it is |", "|---|---|---|---|"]
    for name, spec in options().items():
        kind = " or ".join(f"`{choice}`" for choice in spec["choices"]) if "choices" in spec else spec["type"]
        default = "*required*" if spec.get("required") else f"`{_shown(spec['default'])}`"
        description = spec["description"].replace("|", "\\|")
        lines.append(f"| `{name}` | {kind} | {default} | {description} |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return '""' if value == "" else str(value)


def readme() -> str:
    """The README with the table as it should be."""
    head, _, rest = README.read_text().partition(BEGIN)
    return head + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    README.write_text(readme())
