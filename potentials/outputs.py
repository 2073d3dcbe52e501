"""What networks predict for every atom, and how it turns with the axes.

Energies are scalars (eV), dipoles polar vectors (e·Å), polarizabilities symmetric rank-2 tensors
(in the unit of the labels). Forces and stress that are predicted as such, and are no derivatives,
are vectors (eV/Å) and tensors (eV; the stress is their sum over the volume). All are even or odd
under inversion as their rank says, so that an improper matrix turns them as a proper one does,
without a further sign.
"""

from __future__ import annotations

import torch
from torch import Tensor

DIRECT = ("non_conservative_forces", "non_conservative_stress")
RANKS = {"energy": 0, "dipole": 1, "polarizability": 2, **dict(zip(DIRECT, (1, 2), strict=True))}
ERRORS = {  # units of errors: thousandths of those above
    "energy": "meV/atom",
    "forces": "meV/Å",
    "stress": "meV/Å³",
    "dipole": "me·Å",
    "polarizability": "label unit/1000",
}

Outputs = dict[str, Tensor]


def to_laboratory(value: Tensor, rank: int, matrices: Tensor) -> Tensor:
    """Turn values (n, 3, ...) from coordinates ``r @ matrix`` back, with matrices (n or 1, 3, 3).

    v → v Fᵀ for vectors, T → F T Fᵀ for tensors, and scalars (n,) stay.
    """
    if rank == 0:
        return value
    matrices = matrices.to(value.dtype)
    if rank == 1:
        return (matrices @ value[..., None])[..., 0]
    return matrices @ value @ matrices.transpose(-1, -2)


def invariant_part(value: Tensor, rank: int) -> Tensor:
    """The average of values (n, 3, ...) over all orientations."""
    if rank == 0:
        return value
    if rank == 1:
        return torch.zeros_like(value)
    third = value.diagonal(dim1=-2, dim2=-1).mean(-1)
    return third[:, None, None] * torch.eye(3, dtype=value.dtype, device=value.device)


def along(factor: Tensor, value: Tensor) -> Tensor:
    """Products of factors (n,) and values (n, ...)."""
    return factor.reshape(-1, *[1] * (value.ndim - 1)) * value
