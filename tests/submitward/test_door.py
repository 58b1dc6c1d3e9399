"""The door of the operator's command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.submitward.command import ROOT

SETTINGS = "version: 1\nledger: {{sqlite: {{path: {0}/ledger.sqlite}}}}\n"


@pytest.mark.parametrize("words", [["blocks"], ["blocks", "--json"], ["check", "--json"]])
def test_a_reader_that_leaves_early_is_no_fault(tmp_path: Path, words: list[str]) -> None:
    settings = tmp_path / "config.yaml"
    settings.write_text(SETTINGS.format(tmp_path))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "submitward", "--settings", str(settings), *words],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_standard_output_that_is_closed_is_no_fault(tmp_path: Path) -> None:
    settings = tmp_path / "config.yaml"
    settings.write_text(SETTINGS.format(tmp_path))
    command = f"{sys.executable} -m submitward --settings {settings} blocks >&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
