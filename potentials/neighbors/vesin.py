"""vesin (https://github.com/Luthaf/vesin): the fastest list on the CPU, one structure at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .per_structure import Edges, Float, search_each


def search(
    positions: Tensor, cell: Tensor, pbc: Tensor, cutoff: float, structure: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (centers, neighbors, shifts) as the package's contract says."""
    return search_each(_single, positions, cell, pbc, cutoff, structure)


def _single(positions: Float, cell: Float, pbc: NDArray[np.bool_], cutoff: float) -> Edges:
    """Search one structure; cell (3, 3) has zero rows along open axes, which vesin allows."""
    from vesin import NeighborList

    calculator = NeighborList(
        cutoff=cutoff, full_list=True, sorted=True, n_threads=torch.get_num_threads()
    )
    i, j, shifts = calculator.compute(positions, cell, pbc, quantities="ijS")
    return i.astype(np.int64), j.astype(np.int64), shifts.astype(np.int64)
