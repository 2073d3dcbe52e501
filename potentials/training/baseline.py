"""The energy of each species, by least squares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .data import Batch


def fit_baseline(
    species: Sequence[int], batches: Sequence[Batch], offset: Tensor
) -> dict[int, float]:
    """Energy of each species in eV: least squares of energies minus ``offset`` on composition.

    Where compositions are linearly dependent (pure water, say) the solution of least norm is
    taken: only the sum over a structure then has a meaning.
    """
    numbers = torch.tensor(species)
    counts = torch.stack([(b.graph.species[:, None] == numbers).sum(0) for b in batches]).double()
    energies = torch.cat([b.energy for b in batches]) - offset
    known = ~torch.isnan(energies)
    solution = np.linalg.lstsq(counts[known].numpy(), energies[known].numpy(), rcond=1e-10)[0]
    return dict(zip(species, solution.tolist(), strict=True))
