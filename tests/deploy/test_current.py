"""What current.yml says of a version that does not work."""

from __future__ import annotations

from pathlib import Path

from tests.deploy.tasks import play, role


def failing(tmp_path: Path, name: str, working: str, **changes: object) -> str:
    """What the role says when version 0.2 does not read the settings, and the way back is barred."""
    versions = tmp_path / name
    program = versions / "0.2/bin/submitward"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho the settings are wrong >&2; exit 2\n")
    program.chmod(0o755)
    # Not empty, so that nothing makes a link of it: back.yml goes no further than that.
    (versions / "current/stays").mkdir(parents=True)
    if working:
        (versions / "working").write_text(working)
    nothing: dict[str, object] = {"results": []}
    told = {
        "submitward_versions": str(versions),
        "submitward_release": "0.2",
        "submitward_complete": {"stat": {"exists": True}},
        "submitward_units": nothing,
        "submitward_dropins": nothing,
        "submitward_kept": nothing,
        "submitward_configured": {},
        "submitward_listed": {},
        "submitward_mta": "mta1",
        "submitward_environment": "lab",
    }
    done = play(tmp_path, [role("current", **{**told, **changes})])
    assert done.returncode == 2, done.stdout
    return done.stdout


def test_a_way_back_that_fails_too_does_not_hide_why(tmp_path: Path) -> None:
    first = failing(tmp_path, "first", "")
    assert (
        "0.2 does not work here: non-zero return code: the settings are wrong. Nothing has worked here yet"
        in first
    )
    later = failing(tmp_path, "later", "0.1 run read\n")
    assert (
        "0.2 does not work here: non-zero return code: the settings are wrong. The way back to 0.1 fails too"
        in later
    )
    assert "Make the version before the current one: " in later


def test_settings_that_this_run_has_written_over_are_read_again(tmp_path: Path) -> None:
    """By hand there were others, and a sidecar may have read them: what last worked is not what it has."""
    noted = {"submitward_run": "run", "submitward_read": "read"}
    asked = "does not work here: non-zero return code: the settings are wrong."
    for name, changes, reads in (
        ("same", {}, False),
        ("settings", {"submitward_configured": {"changed": True}}, True),
        ("directory", {"submitward_listed": {"changed": True}}, True),
    ):
        said = failing(tmp_path, name, "0.2 run read 0.1\n", **noted, **changes)
        assert (asked in said) == reads, said
