"""matscipy (https://github.com/libAtoms/matscipy): a second, independent list on the CPU."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .cells import complete_cell
from .per_structure import Edges, Float, search_each


def search(
    positions: Tensor, cell: Tensor, pbc: Tensor, cutoff: float, structure: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (centers, neighbors, shifts) as the package's contract says."""
    return search_each(_single, positions, cell, pbc, cutoff, structure)


def _single(positions: Float, cell: Float, pbc: NDArray[np.bool_], cutoff: float) -> Edges:
    """Search one structure; cell (3, 3) has zero rows along open axes.

    matscipy inverts the cell, and its search is quadratic in atoms outside the cell on open axes:
    the cell is completed, and stretched and the atoms moved so that it encloses them there.
    """
    from matscipy.neighbours import neighbour_list

    full = complete_cell(torch.from_numpy(cell)[None], torch.from_numpy(pbc)[None])[0].numpy()
    along = positions @ full.T  # the completed vectors are unit vectors, orthogonal to all others
    lowest, extent = along.min(axis=0), np.ptp(along, axis=0)
    origin = np.where(pbc, 0.0, lowest - 0.5 * cutoff) @ np.where(pbc[:, None], 0.0, full)
    box = full * np.where(pbc, 1.0, extent + cutoff)[:, None]
    i, j, shifts = neighbour_list(
        "ijS", positions=positions - origin, cell=box, pbc=pbc, cutoff=cutoff
    )
    return i.astype(np.int64), j.astype(np.int64), np.where(pbc, shifts, 0).astype(np.int64)
