"""Cells: what they span, and their completion where axes are open, for the search only."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Cell vectors, scaled to unit length, that span less than this are linearly dependent: even angles
# of 1 degree still span a volume of 3e-4.
SMALLEST_SPAN = 1e-6


def complete_cell(cell: Tensor, pbc: Tensor) -> Tensor:
    """Replace the vectors of open axes by unit vectors orthogonal to all other vectors.

    Periodic vectors stay as they are. Works on any device without waiting for it. The result is
    for internal use: no volume and no shift along an open axis may ever be read from it.

    Args:
        cell: (B, 3, 3) float64, Å.
        pbc: (B, 3) bool.

    Returns:
        (B, 3, 3) float64, Å.
    """
    rows = torch.where(pbc.unsqueeze(-1), cell, 0.0).unbind(dim=1)
    # The projector onto what the vectors so far do not span; a zero vector leaves it alone.
    free = torch.diag_embed(torch.ones_like(cell[:, 0]))
    for row in rows:
        free = _remove(free, row)
    completed = []
    for axis, row in enumerate(rows):
        longest = torch.linalg.vector_norm(free, dim=-1).argmax(dim=-1)
        candidate = free.gather(1, longest.view(-1, 1, 1).expand(-1, 1, 3)).squeeze(1)
        candidate = torch.where(pbc[:, axis, None], 0.0, _normalize(candidate))
        free = _remove(free, candidate)
        completed.append(row + candidate)
    return torch.stack(completed, dim=1)


def reciprocal_rows(cell: Tensor) -> Tensor:
    """Return the (B, 3, 3) vectors g with g_k · a_l = δ_kl, 1/Å; |1/g_k| are the cell's heights."""
    a, b, c = cell.unbind(dim=1)
    normals = torch.stack([_cross(b, c), _cross(c, a), _cross(a, b)], dim=1)
    return normals / (a * normals[:, 0]).sum(-1)[:, None, None]


def _remove(free: Tensor, vector: Tensor) -> Tensor:
    """Take the direction of (B, 3) vectors out of (B, 3, 3) orthogonal projectors."""
    direction = torch.einsum("bkl,bl->bk", free, vector)
    direction = _normalize(direction)
    # Projecting twice keeps the result orthogonal when the vector was nearly spanned already.
    direction = _normalize(torch.einsum("bkl,bl->bk", free, direction))
    return free - direction.unsqueeze(-1) * direction.unsqueeze(-2)


def _normalize(vector: Tensor) -> Tensor:
    """Scale (B, 3) vectors to unit length; zero stays zero."""
    length: Tensor = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    return vector / length.clamp_min(1e-12)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = torch.linalg.cross(a, b, dim=-1)
    return product


def volumes(cell: Tensor) -> Tensor:
    """Volumes (B,) in Å³ of the cell vectors (B, 3, 3) as they are given; 0 where they span none.

    What :func:`volume` is to one cell on the host, without waiting for a device.
    """
    size = torch.linalg.det(cell).abs()
    lengths = torch.linalg.vector_norm(cell, dim=-1)
    return torch.where(size > SMALLEST_SPAN * lengths.prod(-1), size, 0.0)


def volume(cell: np.ndarray) -> float:
    """Volume in Å³ of the cell vectors (3, 3) as they are given; 0 where they span none."""
    size = abs(float(np.linalg.det(cell)))
    return size if size > SMALLEST_SPAN * float(np.linalg.norm(cell, axis=1).prod()) else 0.0
