"""Runs the checks of the audit on a calculator, within a budget of time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms

from ...potentials.potential import Potential
from ...potentials.suggestions import did_you_mean
from ..models import potentials_of
from .findings import CHECKS, GROUPS, Check, Curve, Finding, Item, Measured, Status, status_of
from .structures import audit_structures
from .subject import NotApplicableError, Subject


@dataclass(frozen=True)
class Report:
    """What an audit found.

    Attributes:
        model: its name.
        structures: formulas, by what they are.
        refused: what the calculator said of structures that it did not take.
        findings: of all checks, in order.
        seconds: in all.
    """

    model: str
    structures: dict[str, str]
    refused: dict[str, str]
    findings: list[Finding]
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether a check failed."""
        return any(finding.status is Status.FAIL for finding in self.findings)

    @property
    def primary(self) -> Finding | None:
        """The first failure, in the order of checks: causes stand before their effects."""
        return next((f for f in self.findings if f.status is Status.FAIL), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``; numbers that are not finite are None."""
        return {
            "model": self.model,
            "structures": self.structures,
            "refused": self.refused,
            "seconds": self.seconds,
            "checks": [
                {
                    "name": f.check.name,
                    "group": f.check.group,
                    "statement": f.check.statement,
                    "status": str(f.status),
                    "consequence": f.check.consequence,
                    "numbers": [_plain(m) for m in f.measured],
                    "notes": list(f.notes),
                    "seconds": f.seconds,
                }
                for f in self.findings
            ],
        }


def audit(
    calculator: Any,
    structures: Sequence[Atoms] = (),
    *,
    elements: Sequence[str] = (),
    model: str = "",
    exact: bool | None = None,
    force_error: float | None = None,
    cutoff: float | None = None,
    build: Callable[[str | None], Any] | None = None,
    checks: Sequence[Check] | None = None,
    budget: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Audit a calculator.

    Args:
        calculator: any ASE calculator.
        structures: to audit it with; default: small ones, see :func:`.structures.audit_structures`.
        elements: of such, where the calculator does not say which it knows.
        model: name for the report.
        exact: whether it claims to be invariant under rotations; default: what potentials of this
            package say of themselves, True for others.
        force_error: its validation error, eV/Å; default: as a training of this package left it.
        cutoff: of its neighbourhoods, Å; default: as its potential says.
        build: makes another such calculator, of a precision ("float32", "float64") if it can.
        checks: as of :func:`select`; default: all.
        budget: seconds after which no further check begins.
        progress: called with 1 after each check.

    Raises:
        ValueError: there is no structure that the calculator takes.
    """
    potentials = potentials_of(calculator)
    found, refused = audit_structures(calculator, structures, elements)
    subject = Subject(
        calculator,
        found,
        refused,
        exact=all(p.network.invariant for p in potentials) if exact is None else exact,
        force_error=_known_error(potentials) if force_error is None else force_error,
        cutoff=max((p.cutoff for p in potentials), default=None) if cutoff is None else cutoff,
        build=build,
    )
    return run(subject, model=model, checks=checks, budget=budget, progress=progress)


def run(
    subject: Subject,
    *,
    model: str = "",
    checks: Sequence[Check] | None = None,
    budget: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Run checks on a subject; arguments as of :func:`audit`."""
    start = time.perf_counter()
    findings = []
    for chosen in select() if checks is None else checks:
        spent = time.perf_counter() - start
        if budget is not None and spent > budget:
            note = f"not run: {budget:.0f} s were over"
            findings.append(Finding(chosen, Status.SKIP, (), (), (note,), 0.0))
            continue
        findings.append(run_check(chosen, subject))
        if progress is not None:
            progress(1)
    return Report(
        model=model,
        structures={k: a.get_chemical_formula() for k, a in subject.structures.items()},
        refused=subject.refused,
        findings=findings,
        seconds=time.perf_counter() - start,
    )


def run_check(check: Check, subject: Subject) -> Finding:
    """Run one check; whatever the calculator raises in it is a failure."""
    start = time.perf_counter()
    items: list[Item] = []
    status = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            items.extend(check.run(subject))
    except NotApplicableError as reason:
        if not any(isinstance(item, Measured) for item in items):
            status = Status.SKIP
        items.append(str(reason))
    except Exception as error:  # whatever a calculator raises is a finding
        status = Status.FAIL
        items.append(f"the calculator raised {type(error).__name__}: {error}")
    measured = tuple(item for item in items if isinstance(item, Measured))
    return Finding(
        check,
        status or status_of(measured),
        measured,
        tuple(item for item in items if isinstance(item, Curve)),
        tuple(item for item in items if isinstance(item, str)),
        time.perf_counter() - start,
    )


def select(only: Sequence[str] = (), skip: Sequence[str] = ()) -> list[Check]:
    """Checks by names of checks or groups, all without; in the order of causes.

    Raises:
        ValueError: no check or group has such a name.
    """
    names = [*CHECKS, *GROUPS]
    for name in (*only, *skip):
        if name not in names:
            raise ValueError(f"the audit has no check {name!r}; {did_you_mean(name, names)}")
    return [
        check
        for group in GROUPS
        for check in CHECKS.values()
        if check.group == group
        and (not only or {check.name, check.group} & set(only))
        and not {check.name, check.group} & set(skip)
    ]


def _known_error(potentials: Sequence[Potential]) -> float | None:
    """Error of forces, eV/Å, on frames that were not trained on; of several models the smallest."""
    errors = []
    for potential in potentials:
        for name in ("test_rmse", "validation_rmse"):
            if "forces" in (found := potential.information.get(name) or {}):
                errors.append(float(found["forces"]) / 1000)
                break
    return min(errors, default=None)


def _plain(measured: Measured) -> dict[str, Any]:
    values = asdict(measured)
    for name in ("value", "limit"):
        if values[name] is not None and not np.isfinite(values[name]):
            values[name] = None
    return {**values, "status": str(measured.status)}
