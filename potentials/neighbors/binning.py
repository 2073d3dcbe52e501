"""The bins of the torch cell list: atoms wrapped into their cells and sorted by bin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .cells import reciprocal_rows

# Bins per cutoff along the three cell vectors.
_FINENESS = (2, 2, 12)
# Bins and reach are made for a slightly larger cutoff, so that rounding never loses a pair.
MARGIN = 1.0 + 1e-6


@dataclass(frozen=True)
class BinnedAtoms:
    """Atoms wrapped into their cells and binned; axes in fractions of the completed cell."""

    cell: Tensor  # (B, 3, 3) completed, Å
    pbc: Tensor  # (B, 3) bool
    structure: Tensor  # (N,)
    wrapped: Tensor  # (N, 3) Å
    wraps: Tensor  # (N, 3) int64; position = wrapped + wraps @ cell
    fractions: Tensor  # (N, 3) relative to the first bin's edge
    heights: Tensor  # (B, 3) Å
    bins: Tensor  # (B, 3) int64, number per axis
    width: Tensor  # (B, 3) of a bin, fraction
    bin: Tensor  # (N, 3) int64
    radix: int  # of the sort key
    keys: Tensor  # (N,) int64, sorted
    order: Tensor  # (N,) int64, atom of each key


def bin_atoms(
    positions: Tensor, cell: Tensor, pbc: Tensor, cutoff: float, structure: Tensor
) -> BinnedAtoms:
    """Wrap atoms along periodic axes, bin them, and sort them by structure and bin."""
    reciprocal = reciprocal_rows(cell)
    heights = 1.0 / torch.linalg.vector_norm(reciprocal, dim=-1)
    fractions = torch.einsum("nk,nlk->nl", positions, reciprocal[structure])
    wraps = torch.where(pbc[structure], fractions.floor(), 0.0)
    wrapped = positions - torch.einsum("nk,nkl->nl", wraps, cell[structure])
    fractions = fractions - wraps

    # Open axes (unit vectors, so fractions are Å) are binned over their bounding box.
    index = structure.unsqueeze(1).expand(-1, 3)
    lower = torch.full_like(heights, torch.inf).scatter_reduce(0, index, fractions, "amin")
    upper = torch.full_like(heights, -torch.inf).scatter_reduce(0, index, fractions, "amax")
    lower = torch.where(pbc, 0.0, lower)
    extent = torch.where(pbc, heights, (upper - lower).clamp_min(0.0))

    # Four digits of one int64 key; where an axis has more bins than its digit, bins get wider.
    radix = 1 << min(20, (62 - len(cell).bit_length()) // 3)
    axes = zip(_FINENESS, extent.unbind(1), pbc.unbind(1), strict=True)
    bins, width = (
        torch.stack(column, dim=1)
        for column in zip(*(_divide(*axis, cutoff * MARGIN, radix) for axis in axes), strict=True)
    )
    fractions = fractions - lower[structure]
    own = (fractions / width[structure]).floor().to(torch.int64)
    own = torch.minimum(own.clamp_min(0), bins[structure] - 1)
    keys, order = _key(structure, own, radix).sort()
    return BinnedAtoms(
        cell, pbc, structure, wrapped, wraps.to(torch.int64), fractions, heights, bins, width, own,
        radix, keys, order,
    )  # fmt: skip


def _divide(
    fineness: int, extent: Tensor, periodic: Tensor, cutoff: float, radix: int
) -> tuple[Tensor, Tensor]:
    """Return number and fractional width of the bins along one axis of each structure."""
    finest = cutoff / fineness
    open_width = (extent / radix).clamp_min(finest)
    number = torch.where(periodic, extent / finest, extent / open_width + 1.0)
    number = number.floor().to(torch.int64).clamp(1, radix)
    return number, torch.where(periodic, 1.0 / number, open_width)


def _key(structure: Tensor, bins: Tensor, radix: int) -> Tensor:
    """Return the sort key of (n, 3) bins."""
    return ((structure * radix + bins[:, 0]) * radix + bins[:, 1]) * radix + bins[:, 2]
