"""SPF by the test suite of openspf.org for RFC 7208 (its licence is beside it), without a server: zones in
memory. Explanations are left out, since nobody is told one here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from submitward.dns.ask import Answer, CannotKnow, Kind
from submitward.dns.spf import check_host
from submitward.dns.spf_record import Faulty, parse

SUITE = Path(__file__).parent / "rfc7208-tests.yml"


def cases() -> Iterator[Any]:
    for scenario in yaml.safe_load_all(SUITE.read_bytes()):
        zone = {name.lower(): list(unpacked(records)) for name, records in scenario["zonedata"].items()}
        for name, test in scenario["tests"].items():
            yield pytest.param(zone, test, id=f"{scenario['description']}: {name}")


def unpacked(records: list[Any]) -> Iterator[tuple[str, Any]]:
    """Kind and value of each record; SPF records stand for TXT ones where none are listed."""
    has_texts = any(isinstance(record, dict) and "TXT" in record for record in records)
    for record in records:
        if record == "TIMEOUT":
            yield "", "TIMEOUT"
            continue
        ((kind, value),) = record.items()
        if (kind == "SPF" and has_texts) or value == "NONE":
            continue
        yield ("TXT" if kind == "SPF" else kind), value


def written(kind: str, value: Any) -> str:
    if kind == "TXT":
        return "".join(value) if isinstance(value, list) else str(value)
    return f"{value[0]} {value[1]}".lower().rstrip(".") if kind == "MX" else str(value).lower()


def asking(zone: dict[str, list[tuple[str, Any]]]) -> Any:
    def ask(name: str, kind: Kind, followed: int = 0) -> Answer:
        name = name.lower().rstrip(".")
        if name not in zone:
            if name.startswith("error."):
                raise CannotKnow(name)
            return Answer(exists=False)
        records = zone[name]
        silent = any(value == "TIMEOUT" and of in ("", kind) for of, value in records)
        if silent and not any(of == kind and value != "TIMEOUT" for of, value in records):
            raise CannotKnow(name)
        aliases = [value for of, value in records if of == "CNAME"]
        if aliases:
            if followed > 8:
                raise CannotKnow(f"{name} leads in a circle")
            return ask(aliases[0], kind, followed + 1)
        return Answer(tuple(written(of, value) for of, value in records if of == kind and value != "TIMEOUT"))

    return ask


@pytest.mark.parametrize(("zone", "test"), list(cases()))
def test_the_suite_of_rfc_7208(zone: Any, test: Any) -> None:
    sender = test["mailfrom"] or f"postmaster@{test['helo']}"
    domain = sender.rpartition("@")[2]
    result = check_host(asking(zone), test["host"], domain, sender, test["helo"])
    wanted = test["result"] if isinstance(test["result"], list) else [test["result"]]
    assert result.verdict in wanted, f"{result} {test.get('comment')}"


@pytest.mark.parametrize("length", [0, 1, 2, 50])
def test_a_record_that_includes_itself_ends(length: int) -> None:
    zone = {"a.example": [("TXT", "v=spf1 " + "a:x.example " * length + "include:a.example -all")]}
    assert check_host(asking(zone), "192.0.2.1", "a.example", "x@a.example").verdict == "permerror"


@pytest.mark.parametrize(
    "record", ["v=spf1 " + "%" * 5000, "v=spf1 a:" + "%{i" * 5000, "v=spf1 a" + "/1" * 5000]
)
def test_a_hostile_record_is_faulty(record: str) -> None:
    with pytest.raises(Faulty):
        parse(record)
