"""The audit names what is wrong: faults planted on purpose, and what may fail because of them."""

import pytest

from pointedge.calculators.audit import CHECKS, Status, run
from pointedge.calculators.audit.runner import select

from . import faults

# Groups after those that the faults here belong to. EMT's dimers have force spikes, of which
# "smoothness" warns with reason.
LATER = ("smoothness", "short range", "dynamics")


def statuses(report):
    return {f.check.name: f.status for f in report.findings}


@pytest.mark.parametrize("name", faults.EXPECTED)
def test_a_fault_is_named(name):
    """Its own check is the first failure, and nothing else fails that has no reason to."""
    expected = faults.EXPECTED[name]
    report = run(faults.subject(expected.make()), checks=select(skip=LATER))
    assert report.primary is not None
    assert report.primary.check.name == expected.primary
    failed = {check for check, status in statuses(report).items() if status is Status.FAIL}
    assert failed <= {expected.primary, *expected.secondary}


@pytest.mark.parametrize("make", [faults.SmoothEMT, faults.lennard_jones])
def test_the_clean_control(make):
    """Without a fault nothing fails or warns, and little has nothing to test."""
    report = run(faults.subject(make(), build=lambda precision: make()), checks=select(skip=LATER))
    found = statuses(report)
    assert not report.failed
    assert set(found.values()) <= {Status.PASS, Status.SKIP}
    assert [name for name, status in found.items() if status is Status.SKIP] == ["batch"]
    assert set(found) == {name for name, check in CHECKS.items() if check.group not in LATER}
