"""What holds for every test: no property fails because the machine was busy with something else.

Hypothesis would let each example have 200 ms of the clock on the wall. What must end at all says so itself.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
