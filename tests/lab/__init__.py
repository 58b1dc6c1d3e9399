"""The lab: a real Postfix, OpenDKIM and the three sidecars on loopback, for script/demo and for the tests."""

from tests.lab.lab import Lab
from tests.lab.processes import LabError

__all__ = ["Lab", "LabError"]
