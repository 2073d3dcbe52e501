"""What the CPU libraries share: they see one structure at a time, as numpy arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import cell_list

Float = NDArray[np.float64]
Integer = NDArray[np.int64]
Edges = tuple[Integer, Integer, Integer]
# (positions (n, 3), cell (3, 3), pbc (3,), cutoff) -> sorted (centers, neighbors, shifts)
SingleSearch = Callable[[Float, Float, NDArray[np.bool_], float], Edges]

# Both libraries lay a dense grid of bins over the atoms. vesin caps it at 1e5 bins, scales all axes
# alike, and divides by zero (SIGFPE) when a short axis falls below one bin: a 1700 Å sheet does.
# matscipy has no cap and fills the memory.
_MAX_BINS = 90_000


def search_each(
    single: SingleSearch,
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    cutoff: float,
    structure: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a single-structure search on each structure of a batch; see the package's contract.

    A structure that is too sparse for a dense grid of bins goes to the torch cell list, whose cost
    does not depend on the empty space.
    """
    device = positions.device
    points, boxes, open_or_not = positions.cpu().numpy(), cell.cpu().numpy(), pbc.cpu().numpy()
    owner = structure.cpu().numpy()
    ascending = bool((owner[1:] >= owner[:-1]).all())
    order = np.arange(len(owner)) if ascending else np.argsort(owner, kind="stable")
    last = np.cumsum(np.bincount(owner, minlength=len(boxes)))
    parts: list[Edges] = []
    for box, periodic, first, end in zip(boxes, open_or_not, [0, *last[:-1]], last, strict=True):
        if first == end:
            continue
        members = order[first:end]
        inputs = (points[members], np.where(periodic[:, None], box, 0.0), periodic, cutoff)
        i, j, images = (single if _fits_grid(*inputs) else _sparse)(*inputs)
        parts.append((members[i], members[j], images))
    edges = [np.concatenate(part) for part in zip(*parts, strict=True)]
    if not ascending:
        by_center = np.argsort(edges[0], kind="stable")
        edges = [edge[by_center] for edge in edges]
    centers, neighbors, shifts = (torch.from_numpy(edge).to(device) for edge in edges)
    return centers, neighbors, shifts


def _fits_grid(positions: Float, cell: Float, pbc: NDArray[np.bool_], cutoff: float) -> bool:
    """Tell whether an upper bound of the number of cutoff-sized bins is below the limit."""
    diagonal = np.linalg.norm(np.ptp(positions, axis=0))
    lengths = np.where(pbc, np.linalg.norm(cell, axis=1), diagonal)
    return bool(np.prod(lengths / cutoff + 1.0) < _MAX_BINS)


def _sparse(positions: Float, cell: Float, pbc: NDArray[np.bool_], cutoff: float) -> Edges:
    """Search one structure with the torch cell list."""
    edges = cell_list.search(
        torch.from_numpy(positions),
        torch.from_numpy(cell).unsqueeze(0),
        torch.from_numpy(pbc).unsqueeze(0),
        cutoff,
        torch.zeros(len(positions), dtype=torch.int64),
    )
    centers, neighbors, shifts = (edge.numpy() for edge in edges)
    return centers, neighbors, shifts
