"""The audit names what is wrong: faults planted on purpose, and what may fail because of them."""

import pytest

from pointedge.calculators.audit import CHECKS, Status, run
from pointedge.calculators.audit.runner import select

from . import faults
from .alloy import CUTOFF, Alloy

# Groups that take longer; the faults of the others have to be named without them, and with them.
LATER = ("smoothness", "short range", "dynamics")
QUICK = [name for name in faults.EXPECTED if name != "hard cutoff"]


def statuses(report):
    return {f.check.name: f.status for f in report.findings}


def named(name, skip=()):
    """Its own check is the first failure, and nothing else fails that has no reason to."""
    expected = faults.EXPECTED[name]
    report = run(faults.subject(expected.make(), cutoff=CUTOFF), checks=select(skip=skip))
    assert report.primary is not None
    assert report.primary.check.name == expected.primary
    failed = {check for check, status in statuses(report).items() if status is Status.FAIL}
    assert failed <= {expected.primary, *expected.secondary}


def clean(make, skip=()):
    """Without a fault everything passes; only batches, which it does not have, are skipped."""
    subject = faults.subject(make(), build=lambda precision: make(), cutoff=CUTOFF)
    found = statuses(run(subject, checks=select(skip=skip)))
    expected = {name: Status.PASS for name, check in CHECKS.items() if check.group not in skip}
    assert found == expected | {"batch": Status.SKIP}


@pytest.mark.parametrize("name", QUICK)
def test_a_fault_is_named(name):
    named(name, skip=LATER)


@pytest.mark.parametrize("make", [Alloy, faults.lennard_jones])
def test_the_clean_control(make):
    clean(make, skip=LATER)


@pytest.mark.slow
@pytest.mark.parametrize("name", faults.EXPECTED)
def test_a_fault_is_named_among_all_checks(name):
    named(name)


@pytest.mark.slow
def test_the_clean_control_passes_all_checks():
    clean(Alloy)
