"""The audit: whether a potential can be trusted in a simulation, for any ASE calculator.

Errors on a test set do not show a jump at the cutoff, a wrong stress, a broken symmetry or a
drifting energy. Each check states a physical fact, measures by how much it is missed, and judges
that by the calculator's own rounding. The order of checks is that of causes: what breaks one may
break later ones too, and the first failure is the one to mend.
"""

from . import (  # noqa: F401  (they enter their checks)
    conduct,
    derivatives,
    dynamics,
    periodicity,
    short_range,
    size,
    smoothness,
    surroundings,
    symmetry,
)
from .findings import CHECKS, Check, Curve, Finding, Measured, Status, check
from .runner import Report, audit, run
from .subject import NotApplicableError, Subject

__all__ = [
    "CHECKS",
    "Check",
    "Curve",
    "Finding",
    "Measured",
    "NotApplicableError",
    "Report",
    "Status",
    "Subject",
    "audit",
    "check",
    "run",
]
