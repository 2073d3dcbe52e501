"""What a check of the audit is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from .subject import Array, Subject

COLUMNS = ("check", "", "found", "limit", "unit", "of")


class Status(StrEnum):
    """How a check ended."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True)
class Measured:
    """A number, and the limit that it should not exceed; both in ``unit``.

    Attributes:
        what: of what, and of which structure.
        soft: above the limit is a warning, and no failure.
        limit: None for a figure that is told and not judged.
    """

    what: str
    value: float
    unit: str
    limit: float | None = None
    soft: bool = False

    @property
    def excess(self) -> float:
        """The value over the limit; infinite for what is no number, and above a limit of zero."""
        if self.limit is None:
            return 0.0
        if self.limit == 0 or not np.isfinite(self.value):
            return np.inf if self.value != 0 else 0.0
        return float(self.value / self.limit)

    @property
    def status(self) -> Status:
        """Whether the limit is kept."""
        if self.excess <= 1:
            return Status.PASS
        return Status.WARN if self.soft else Status.FAIL


@dataclass(frozen=True)
class Curve:
    """A line for the picture of the report; ``log`` names the logarithmic axes, "x", "y", "xy"."""

    panel: str
    label: str
    x_label: str
    y_label: str
    x: Array
    y: Array
    log: str = ""


Item = Measured | Curve | str


@dataclass(frozen=True)
class Check:
    """A physical statement, and how it is tested.

    Attributes:
        name, group: of the check.
        statement: what holds for any potential that can be trusted.
        consequence: what a simulation suffers where it does not hold.
        run: yields numbers, curves and notes; raises :class:`NotApplicableError` where there is
            nothing to test.
    """

    name: str
    group: str
    statement: str
    consequence: str
    run: Callable[[Subject], Iterator[Item]]


# In the order of causes: what fails in one may fail in those below it for that reason alone.
GROUPS = (
    "conduct",
    "precision",
    "symmetry",
    "periodicity",
    "derivatives",
    "size",
    "smoothness",
    "short range",
    "dynamics",
)
CHECKS: dict[str, Check] = {}


def check(
    group: str, statement: str, consequence: str
) -> Callable[[Callable[[Subject], Iterator[Item]]], Check]:
    """Make a check of a function, and enter it under the function's name."""
    assert group in GROUPS

    def enter(run: Callable[[Subject], Iterator[Item]]) -> Check:
        made = Check(run.__name__, group, statement, consequence, run)
        CHECKS[made.name] = made
        return made

    return enter


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    check: Check
    status: Status
    measured: tuple[Measured, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def worst(self) -> Measured | None:
        """The number that is nearest to its limit, or beyond it; failures before warnings."""
        judged = [m for m in self.measured if m.limit is not None]
        order = {Status.FAIL: 2, Status.WARN: 1, Status.PASS: 0}
        return max(judged, key=lambda m: (order[m.status], m.excess), default=None)

    def cells(self) -> tuple[str, ...]:
        """A row of a table, under :data:`COLUMNS`."""
        worst = self.worst
        numbers: tuple[str, ...] = ("",) * 4
        if worst is not None:
            numbers = (f"{worst.value:.2g}", f"{worst.limit:.2g}", worst.unit, worst.what)
        return (self.check.name, str(self.status), *numbers)


def status_of(measured: Sequence[Measured]) -> Status:
    """The worst status of some numbers."""
    found = {m.status for m in measured}
    return next((s for s in (Status.FAIL, Status.WARN) if s in found), Status.PASS)
