"""Wrong settings as folders: settings.yaml, perhaps conf.d/, and `expected`, the lines an operator reads.

To add one: make the folder, write what `submitward serve` should say to `expected`, paths as in the folder.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.settings import SettingsError
from submitward.settings import load_settings

HERE = Path(__file__).parent / "bad_settings"
FOLDERS = sorted(path.name for path in HERE.iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", FOLDERS)
def test_wrong_settings_are_answered_with_the_expected_lines(folder):
    with pytest.raises(SettingsError) as caught:
        load_settings(HERE / folder / "settings.yaml")
    said = str(caught.value).replace(f"{HERE / folder}/", "") + "\n"
    assert said == (HERE / folder / "expected").read_text(encoding="utf-8")


def test_there_are_enough_of_them():
    assert len(FOLDERS) >= 15


@pytest.mark.parametrize("sidecar", ["policyd", "saslauthd", "milter", "all"])
def test_serve_prints_them_all_and_ends_with_2(sidecar):
    path = HERE / "misspelt_keys" / "settings.yaml"
    result = subprocess.run(
        [sys.executable, "-m", "submitward", "serve", sidecar, "--settings", str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parents[1],
    )
    expected = (path.parent / "expected").read_text(encoding="utf-8")
    assert result.returncode == 2
    assert result.stderr.replace(f"{path.parent}/", "") == expected
    assert result.stdout == ""
