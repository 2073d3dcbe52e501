"""Uncertainties of published models: metatrain's wrapper of a model, "llpr".

It is the last-layer prediction rigidity of :mod:`...rigidity` to the letter: means of features over
atoms in the covariance, sums in a structure's standard deviation. Versions 1 to 4 are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...rigidity import Rigidity
from .errors import PublishedError
from .pickles import StoredTensor

LARGEST_REGULARIZER = 1e16


def uncertainty_tensors(wrapper: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a wrapper but those of its model and ensembles."""
    state = wrapper.get("model_state_dict") or wrapper.get("state_dict") or {}
    kinds = ("covariance_", "cholesky_", "inv_covariance_", "multiplier_")
    return {
        name: value.read()
        for name, value in state.items()
        if name.startswith(kinds) and isinstance(value, StoredTensor)
    }


def rigidity_of(tensors: Mapping[str, Tensor], target: str, unit: float) -> Rigidity | None:
    """Standard deviations of the energies of a target; None if the file has none.

    Args:
        tensors: of :func:`uncertainty_tensors`.
        target: its name.
        unit: of the target, eV.

    Raises:
        PublishedError: a part is missing or malformed.
    """
    for name in (f"mtt::aux::{target}_uncertainty", f"{target}_uncertainty"):
        if f"multiplier_{name}" in tensors:
            break
    else:
        return None
    if f"cholesky_{name}" in tensors:
        factor = tensors[f"cholesky_{name}"].to(torch.float64)
    elif f"covariance_{name}" in tensors:
        factor = _factor(tensors[f"covariance_{name}"].to(torch.float64))
    else:
        raise PublishedError(f"its uncertainties lack a covariance of {target}.")
    if factor.ndim != 2 or factor.shape[0] != factor.shape[1] or not factor.diagonal().all():
        raise PublishedError(f"its uncertainties of {target} are not those of a fitted model.")
    rigidity = Rigidity(len(factor))
    identity = torch.eye(len(factor), dtype=torch.float64)
    rigidity.whitening.copy_(torch.linalg.solve_triangular(factor, identity, upper=False))
    rigidity.alpha.copy_(unit * tensors[f"multiplier_{name}"].flatten()[0])
    return rigidity


def _factor(covariance: Tensor) -> Tensor:
    """Cholesky factor with the smallest regulariser that will do, as metatrain finds it."""
    regularizer = 1e-20
    while regularizer < LARGEST_REGULARIZER:
        matrix = 0.5 * (covariance + covariance.T) + regularizer * torch.eye(len(covariance))
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not failed:
            return factor
        regularizer *= 10.0
    raise PublishedError("its covariance of features has no Cholesky factor.")
