"""The floors of the house, held over the real tree: who may import whom, and what judgement may not touch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Every module and its floor. A new module is entered here, and its floor is a decision.
FLOORS = {
    "policyd": {
        0: "wire",
        1: "case facts inquiry memory replies restrictions scopes spending",
        2: "journal settings",
        3: "alarms attempts deadline judge narrowing server service settlements",
        4: "__main__",
    },
    "saslauthd": {
        0: "wire",
        1: "admissions answers guard mechanisms recollection session",
        2: "settings",
        3: "app_passwords judge outlet reports returns sentry server service sharing sleepers",
        4: "__main__",
    },
    "milter": {
        0: "wire",
        1: "author claims header judgement lines questions replies session submitter tables",
        2: "keys probe settings",
        3: "connections journal judge legacy refunds server service signer",
        4: "__main__",
    },
    "directory": {
        0: "address bindwire filters identity terms troubles",
        1: "breakers domains drafts ownership people plans results roll shape",
        2: "addresses amend bind_connection binds cache entries file gauges hosts ldap ldap_directory"
        " ldap_settings lookups nodes once passwords searches servers sessions settings",
    },
    "ledger": {
        1: "app_passwords auth_script blocks charges counters escalation event_script events fitness grants"
        " limits marks model model_auth model_blocks model_events resp rows script tombstones",
        2: "app_password_rows book bookfile clerk clock copies desk event_rows fallback flushes lookout"
        " mark_rows redis register runner schema settings shared shared_auth shared_events sqlite"
        " tally transaction wire",
    },
    "sidecar": {
        2: "binding daemon deadlines document ending endpoints exchange gate host inheritance lines listen"
        " log metrics notify problems quantities reference scalars secret settings",
        4: "door",
    },
}
#: The operator's command is a door: all of it is floor 4.
COMMAND = "submitward"

#: Beside its own, the packages whose modules a package may import.
MAY_IMPORT = {
    "policyd": {"directory", "ledger", "sidecar"},
    "saslauthd": {"directory", "ledger", "sidecar"},
    "milter": {"directory", "ledger", "sidecar"},
    "directory": {"sidecar"},
    "ledger": {"sidecar"},
    "sidecar": set(),
    COMMAND: {"policyd", "saslauthd", "milter", "directory", "ledger", "sidecar"},
}
PACKAGES = tuple(MAY_IMPORT)

#: What floors 0 and 1 never import: the network, the clock, the system, threads, chance, stores, logs.
IMPURE = {
    "argon2",
    "asyncio",
    "concurrent",
    "fcntl",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "prometheus_client",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "twisted",
    "yaml",
    "zope",
}
IMPURE_CALLS = {"open", "print", "input", "breakpoint"}
CLOCKS = {"now", "utcnow", "today"}
#: The reference ledger has the verbs of a ledger, which are awaited.
MAY_WAIT = {"ledger.model", "ledger.model_auth", "ledger.model_blocks", "ledger.model_events"}

#: Each of these is named by one module only, so that it can be replaced.
ONE_PLACE = {
    "redis": "ledger.redis",
    "sqlite3": "ledger.bookfile",
    "argon2": "directory.passwords",
    "prometheus_client": "sidecar.metrics",
    "cryptography": "submitward.dkim.keyfile",
    "dns": "submitward.dns.ask",
    "publicsuffixlist": "submitward.dns.organisation",
}

FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "core", "lib", "tools"}


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name != "__init__.py":
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


MODULES = dict(modules())
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def floor_of(module: str) -> int | None:
    package, _, name = module.partition(".")
    if package == COMMAND:
        return 4
    return next((floor for floor, names in FLOORS[package].items() if name in names.split()), None)


def imports(module: str) -> Iterator[tuple[str, ast.stmt]]:
    """Every module that is imported, wherever in the file; our own by their full name."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *filter(None, [node.module])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield (full if full in MODULES or base in PACKAGES else base), node


def low() -> list[str]:
    return [module for module in MODULES if (floor_of(module) or 0) <= 1]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_a_floor(module):
    assert floor_of(module) is not None, f"enter {module} in FLOORS of this test, on the floor it belongs to"


def test_the_table_of_floors_lists_what_there_is():
    listed = {
        f"{p}.{name}" for p, floors in FLOORS.items() for names in floors.values() for name in names.split()
    }
    assert listed - MODULES.keys() == set()


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_or_sideways_and_never_up(module):
    package = module.partition(".")[0]
    for target, node in imports(module):
        other = target.partition(".")[0]
        if other not in PACKAGES:
            continue
        where = f"{module}:{node.lineno} imports {target}"
        assert target in MODULES, f"{where}, which is no module"
        assert other == package or other in MAY_IMPORT[package], (
            f"{where}: {package} knows nothing of {other}"
        )
        assert (floor_of(target) or 0) <= (floor_of(module) or 0), f"{where}, which is a floor above"


@pytest.mark.parametrize("module", low())
def test_words_and_judgement_are_pure(module):
    for target, node in imports(module):
        assert target.partition(".")[0] not in IMPURE, f"{module}:{node.lineno} imports {target}"
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            impure = isinstance(node.func, ast.Name) and name in IMPURE_CALLS
            clock = isinstance(node.func, ast.Attribute) and name in CLOCKS
            assert not impure and not clock, f"{module}:{node.lineno} calls {name}"
        assert not isinstance(node, ast.Await | ast.AsyncFunctionDef) or module in MAY_WAIT, (
            f"{module}:{node.lineno} waits"
        )


@pytest.mark.parametrize("module", MODULES)
def test_the_reactor_is_imported_in_doors_only_and_inside_functions(module):
    names = {"twisted.internet.reactor", "twisted.internet.asyncioreactor", "twisted.internet.default"}
    at_top = set(map(id, TREES[module].body))
    for node in ast.walk(TREES[module]):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        base = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        if names & {base + alias.name for alias in node.names}:
            assert floor_of(module) == 4, f"{module}:{node.lineno}: the reactor is handed in as an argument"
            assert id(node) not in at_top, f"{module}:{node.lineno}: installed first, imported after"


@pytest.mark.parametrize("name", ONE_PLACE)
def test_one_module_names_it(name):
    naming = {module for module in MODULES if any(t.partition(".")[0] == name for t, _ in imports(module))}
    assert naming == {ONE_PLACE[name]}


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_a_drawer(module):
    assert not FORBIDDEN_NAMES & set(module.split("."))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_knows_and_what_it_must_not_know(module):
    text = ast.get_docstring(TREES[module]) or ""
    assert text, f"{module} has no docstring"
    if not module.endswith("__init__"):
        assert "must not" in " ".join(text.lower().split()), f"{module} does not say what it must not know"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_250_lines_at_most(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 250


def test_a_package_says_what_it_is_for():
    for package in PACKAGES:
        assert ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8")))


#: Violations the tests above must see; each is (module, its text, the test, words of the failure).
PLANTED = [
    ("policyd.wire", "import socket", test_words_and_judgement_are_pure, "imports socket"),
    ("policyd.wire", "from os.path import join", test_words_and_judgement_are_pure, "imports os.path"),
    (
        "ledger.limits",
        "import datetime\ndatetime.datetime.now()",
        test_words_and_judgement_are_pure,
        "calls now",
    ),
    ("milter.author", "open('x')", test_words_and_judgement_are_pure, "calls open"),
    (
        "policyd.wire",
        "from policyd import server",
        test_imports_go_down_or_sideways_and_never_up,
        "a floor above",
    ),
    (
        "policyd.restrictions",
        "def f():\n import sidecar.log",
        test_imports_go_down_or_sideways_and_never_up,
        "above",
    ),
    (
        "policyd.server",
        "from milter import wire",
        test_imports_go_down_or_sideways_and_never_up,
        "knows nothing of",
    ),
    (
        "ledger.sqlite",
        "import directory.address",
        test_imports_go_down_or_sideways_and_never_up,
        "knows nothing of",
    ),
    (
        "sidecar.log",
        "from ledger.blocks import Block",
        test_imports_go_down_or_sideways_and_never_up,
        "knows nothing",
    ),
    (
        "policyd.server",
        "from ..milter import wire",
        test_imports_go_down_or_sideways_and_never_up,
        "knows nothing of",
    ),
    (
        "policyd.server",
        "def f():\n from twisted.internet import reactor",
        test_the_reactor_is_imported_in_doors_only_and_inside_functions,
        "handed in",
    ),
    (
        "policyd.__main__",
        "from twisted.internet import reactor",
        test_the_reactor_is_imported_in_doors_only_and_inside_functions,
        "installed first",
    ),
    (
        "sidecar.log",
        '"""Knows all."""',
        test_a_module_says_what_it_knows_and_what_it_must_not_know,
        "does not say",
    ),
]


@pytest.mark.parametrize(("module", "text", "test", "words"), PLANTED)
def test_a_planted_violation_is_seen(monkeypatch, module, text, test, words):
    monkeypatch.setitem(TREES, module, ast.parse(text))
    with pytest.raises(AssertionError, match=words):
        test(module)


def test_a_second_module_that_names_the_database_is_seen(monkeypatch):
    monkeypatch.setitem(TREES, "ledger.limits", ast.parse("import sqlite3.dbapi2"))
    with pytest.raises(AssertionError):
        test_one_module_names_it("sqlite3")
