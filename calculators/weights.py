"""Weights of an ensemble's members: those of the mean with the least error on some frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls


def least_error(errors: Sequence[NDArray[np.float64]]) -> list[float]:
    """M weights w >= 0 of sum 1 with the least mean square of Σ w_m e_m.

    Members that only repeat what others know, or are worse everywhere, get zero. With C the mean
    products of errors, min v·C v + (1 - Σ v)² over v >= 0 has its least value where w = v / Σ v
    minimises w·C w, for any scale of C: a problem of non-negative least squares.

    Args:
        errors: of each of M members, of one shape and any unit; what is NaN for one of them is left
            out of all.

    Raises:
        ValueError: there are no errors.
    """
    each = np.stack(errors)
    each = each[:, ~np.isnan(each).any(axis=0)]
    if not each.size:
        raise ValueError("weights are fitted to force errors, and no frame has force labels.")
    products = each @ each.T / each.shape[1]
    values, vectors = np.linalg.eigh(products / max(np.trace(products), np.finfo(float).tiny))
    roots = np.sqrt(values.clip(0))[:, None] * vectors.T  # (M, M), its square are the products
    rows = np.vstack([roots, np.ones(len(each))])
    found, _ = nnls(rows, np.append(np.zeros(len(each)), 1.0))
    return (found / found.sum()).tolist()
