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
        factor: what standard deviations times it are as large as errors are, in root mean square:
            error / std; None where all of them are 0. Of two or more models, however few, it is
            consistent; the mean of (error/std)², which is most probable where standard deviations
            are exact, is ruled by the smallest of them, and infinite in the limit for three models.
    """

    count: int
    error: float
    std: float
    within_one: float
    within_two: float
    correlation: float
    factor: float | None = None

    def __str__(self) -> str:
        return (
            f"rms error {self.error:.3g}, standard deviation {self.std:.3g}; "
            f"{100 * self.within_one:.0f} % within one, {100 * self.within_two:.0f} % within two; "
            f"correlation of ranks {self.correlation:.2f}"
            + ("" if self.factor is None else f"; factor {self.factor:.2f}")
        )

    @classmethod
    def of(cls, stds: Array, errors: Array) -> Calibration:
        """Compare standard deviations with signed errors, both (n,), n at least 1."""
        sizes = np.abs(errors)
        ranks = np.stack([_ranks(stds), _ranks(sizes)])
        ranks -= ranks.mean(axis=1, keepdims=True)
        widths = np.sqrt((ranks**2).sum(axis=1).prod())
        error, std = (float(np.sqrt(np.mean(values**2))) for values in (errors, stds))
        return cls(
            count=len(errors),
            error=error,
            std=std,
            within_one=float(np.mean(sizes <= stds)),
            within_two=float(np.mean(sizes <= 2 * stds)),
            correlation=float(ranks.prod(axis=0).sum() / widths) if widths else 0.0,
            factor=error / std if std else None,
        )


def _ranks(values: Array) -> Array:
    """Ranks (n,) of values; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - 0.5 * (counts + 1))[inverse])
