"""Whether standard deviations are as large as the errors that they speak of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """How standard deviations fit errors; both in one unit.

    Attributes:
        count: how many errors.
        error: root mean square of the errors.
        std: root mean square of the standard deviations.
        within_one, within_two: fractions of errors within one and two of them; 0.68 and 0.95 if
            errors are normal.
        correlation: of ranks, between standard deviations and sizes of errors.
    """

    count: int
    error: float
    std: float
    within_one: float
    within_two: float
    correlation: float

    def __str__(self) -> str:
        return (
            f"rms error {self.error:.3g}, standard deviation {self.std:.3g}; "
            f"{100 * self.within_one:.0f} % within one, {100 * self.within_two:.0f} % within two; "
            f"correlation of ranks {self.correlation:.2f}"
        )

    @classmethod
    def of(cls, stds: Array, errors: Array) -> Calibration:
        """Compare standard deviations with signed errors, both (n,), n at least 1."""
        sizes = np.abs(errors)
        ranks = np.stack([_ranks(stds), _ranks(sizes)])
        ranks -= ranks.mean(axis=1, keepdims=True)
        widths = np.sqrt((ranks**2).sum(axis=1).prod())
        return cls(
            count=len(errors),
            error=float(np.sqrt(np.mean(errors**2))),
            std=float(np.sqrt(np.mean(stds**2))),
            within_one=float(np.mean(sizes <= stds)),
            within_two=float(np.mean(sizes <= 2 * stds)),
            correlation=float(ranks.prod(axis=0).sum() / widths) if widths else 0.0,
        )


def _ranks(values: Array) -> Array:
    """Ranks (n,) of values; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - 0.5 * (counts + 1))[inverse])
