"""The audit as a package would inherit it; and that its tests can fail."""

import pytest

from pointedge.calculators.audit import Subject
from pointedge.calculators.audit.battery import AuditBattery

from . import faults
from .alloy import Alloy


@pytest.fixture(scope="module")
def subject():
    return faults.subject(Alloy())


class TestAlloy(AuditBattery):
    skip = ("memory", "derivatives", "smoothness", "short range", "dynamics")  # take longer
    warnings_fail = True


def test_a_failure_is_told():
    subject = faults.subject(faults.WrongStressSign())
    battery = AuditBattery()
    with pytest.raises(
        AssertionError, match=r"(?s)stress \(derivatives\).*crystal, strain 1: .* eV/Å³, limit"
    ):
        battery.test_audit(subject, "stress")
    battery.test_audit(subject, "mutation")


def test_what_does_not_apply_is_skipped():
    crystal = faults.structures()["crystal"]
    with pytest.raises(pytest.skip.Exception, match="one structure at a time"):
        AuditBattery().test_audit(Subject(Alloy(), {"crystal": crystal}), "batch")
