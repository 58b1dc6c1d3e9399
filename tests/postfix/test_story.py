"""The story of script/demo, step by step, each line of it a promise."""

from __future__ import annotations

import pytest

from tests.lab import Lab
from tests.lab.__main__ import STEPS
from tests.lab.cast import Step


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_every_line_of_the_story_is_as_expected(lab: Lab, step: Step) -> None:
    lines = list(step(lab))
    assert lines
    assert not [str(line) for line in lines if not line.good]
