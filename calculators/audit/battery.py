"""The audit as pytest tests, for packages that make calculators."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from .findings import CHECKS, Finding, Status
from .runner import run_check
from .subject import Subject


class AuditBattery:
    """One test for each check of the audit; a failure says what it measured, and what follows.

    Inherit it in a class named ``Test...``, beside a fixture ``subject`` that returns a
    :class:`Subject`; with ``scope="module"`` its noise is measured once::

        @pytest.fixture(scope="module")
        def subject():
            return Subject(MyCalculator(), {"free": molecule("H2O"), "crystal": ice()})


        class TestMine(AuditBattery):
            skip = ("dynamics",)

    Attributes:
        skip: names of checks or groups to leave out.
        warnings_fail: whether a warning fails the test, too.
    """

    skip: Collection[str] = ()
    warnings_fail = False

    @pytest.mark.parametrize("name", list(CHECKS))
    def test_audit(self, subject: Subject, name: str) -> None:
        """Run a check; what does not apply is skipped with its reason."""
        check = CHECKS[name]
        if {check.name, check.group} & set(self.skip):
            pytest.skip("left out of this battery")
        finding = run_check(check, subject)
        if finding.status is Status.SKIP:
            pytest.skip("; ".join(finding.notes))
        refused = {Status.FAIL, Status.WARN} if self.warnings_fail else {Status.FAIL}
        assert finding.status not in refused, _story(finding)


def _story(finding: Finding) -> str:
    """Statement, consequence, and all that was measured beyond its limit."""
    beyond = [
        f"{m.what}: {m.value:.3g} {m.unit}, limit {m.limit:.3g} {m.unit}"
        for m in finding.measured
        if m.limit is not None and m.status is not Status.PASS
    ]
    lines = [finding.check.statement, finding.check.consequence, *beyond, *finding.notes]
    return "\n  ".join([f"{finding.check.name} ({finding.check.group})", *lines])
