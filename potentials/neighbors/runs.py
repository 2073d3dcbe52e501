"""The runs of the torch cell list: for each atom, which ranges of sorted atoms are in reach."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .binning import MARGIN, BinnedAtoms

_COLUMNS = 5  # per axis: two half-cutoff columns to either side and the atom's own
RUNS_PER_ATOM = _COLUMNS * _COLUMNS


@dataclass(frozen=True)
class Runs:
    """For each atom and column, the run of candidates: a range of ranks in a periodic column."""

    count: Tensor  # (25 N,) candidates: length × images of the column in reach
    length: Tensor  # (25 N,) ranks in the run
    rank: Tensor  # (25 N,) first rank
    start: Tensor  # (25 N,) of the column in the sorted order
    population: Tensor  # (25 N,) atoms in the column, at least 1
    image: Tensor  # (25 N, 2) first image of the column along the first two axes
    multiplicity: Tensor  # (25 N,) images along the first axis, at least 1


def find_runs(atoms: BinnedAtoms, cutoff: float, block: int) -> Runs:
    """Find the runs of candidates of all atoms, block by block."""
    everyone = torch.arange(len(atoms.structure), device=atoms.structure.device)
    parts = [_find_block(atoms, some, cutoff * MARGIN) for some in torch.split(everyone, block)]
    return Runs(*(torch.cat(field) for field in zip(*parts, strict=True)))


def _find_block(atoms: BinnedAtoms, some: Tensor, cutoff: float) -> tuple[Tensor, ...]:
    """Return the fields of :class:`Runs` for some atoms."""
    owner = atoms.structure[some]
    first = _Columns(atoms, some, owner, 0, cutoff)
    second = _Columns(atoms, some, owner, 1, cutoff)
    low, high = _window(atoms, some, owner, first, second, cutoff)

    # Along the third axis: ranks below the run and through the run, images of the column included.
    bins = atoms.bins[owner, 2].view(-1, 1, 1)
    column = (owner.view(-1, 1, 1) * atoms.radix + first.column.unsqueeze(2)) * atoms.radix
    column = (column + second.column.unsqueeze(1)) * atoms.radix
    start = torch.searchsorted(atoms.keys, column)
    population = torch.searchsorted(atoms.keys, column + atoms.radix) - start

    def rank(bin_: Tensor) -> Tensor:
        image = bin_.div(bins, rounding_mode="floor")
        inside = torch.searchsorted(atoms.keys, column + (bin_ - image * bins)) - start
        return inside + image * population

    below = rank(low)
    length = (rank(high + 1) - below).clamp_min(0)
    images = first.images.unsqueeze(2) * second.images.unsqueeze(1)
    shape = (len(some), _COLUMNS, _COLUMNS)
    image = torch.stack(
        [first.image.unsqueeze(2).expand(shape), second.image.unsqueeze(1).expand(shape)], dim=-1
    )
    multiplicity = first.images.clamp_min(1).unsqueeze(2).expand(shape)
    fields = (length * images, length.clamp_min(1), below, start, population.clamp_min(1))
    return *(field.flatten() for field in fields), image.view(-1, 2), multiplicity.flatten()


class _Columns:
    """The five classes of columns around some atoms along one of the first two axes; all (n, 5).

    Attributes:
        column: index of the column in the cell.
        images: number of its images in reach; 0 where a class does not exist.
        image: the first of them.
        middle: centre of the interval of the images, relative to the atom, fraction.
        radius: half its length.
    """

    def __init__(
        self, atoms: BinnedAtoms, some: Tensor, owner: Tensor, axis: int, cutoff: float
    ) -> None:
        device = owner.device
        bins = atoms.bins[owner, axis].unsqueeze(1)
        width = atoms.width[owner, axis].unsqueeze(1)
        periodic = atoms.pbc[owner, axis].unsqueeze(1)
        # Two columns reach a cutoff, except in cells of less than five columns, where all are met.
        reach = (cutoff / (atoms.heights[owner, axis].unsqueeze(1) * width)).ceil()
        reach = reach.to(torch.int64).clamp(1, 1 << 20)
        reach = torch.where(periodic & (bins < _COLUMNS), reach, 2)
        classes = torch.arange(_COLUMNS, device=device)
        lowest = atoms.bin[some, axis].unsqueeze(1) - reach + classes
        self.image = torch.where(periodic, lowest.div(bins, rounding_mode="floor"), 0)
        self.column = torch.where(periodic, lowest - self.image * bins, lowest.clamp_min(0))
        self.column = torch.minimum(self.column, bins - 1)
        number = (2 * reach - classes).div(bins, rounding_mode="floor") + 1
        exists = torch.where(periodic, classes < bins, self.column == lowest)
        self.images = torch.where(
            exists & (classes <= 2 * reach), torch.where(periodic, number, 1), 0
        )
        left = lowest * width - atoms.fractions[some, axis].unsqueeze(1)
        self.radius = 0.5 * width * (1 + (self.images - 1).clamp_min(0) * bins)
        self.middle = left + self.radius


def _window(
    atoms: BinnedAtoms,
    some: Tensor,
    owner: Tensor,
    first: _Columns,
    second: _Columns,
    cutoff: float,
) -> tuple[Tensor, Tensor]:
    """Return the first and last bin (n, 5, 5) along the third axis that a column needs.

    In the frame (u, v, w), w along the third cell vector and u normal to the second and third, a
    displacement has components u = h x, v = p x + q y, w = r x + s y + t z with fractions x, y, z.
    x and y lie in the column's intervals, which bounds |u| and |v| from below and w on both sides.
    """
    a, b, c = (vector.view(-1, 1, 1, 3) for vector in atoms.cell[owner].unbind(1))
    height = atoms.heights[owner].view(-1, 1, 1, 3)
    length = torch.linalg.vector_norm(c, dim=-1)
    along = c / length.unsqueeze(-1)
    normal = torch.linalg.cross(b, along, dim=-1)
    normal = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
    across = torch.linalg.cross(along, normal, dim=-1)
    p, q, r, s = ((x * y).sum(-1) for x, y in ((a, across), (b, across), (a, along), (b, along)))

    x, dx = first.middle.unsqueeze(2), first.radius.unsqueeze(2)
    y, dy = second.middle.unsqueeze(1), second.radius.unsqueeze(1)
    u = ((x.abs() - dx) * height[..., 0]).clamp_min(0.0)
    v = ((p * x + q * y).abs() - (p.abs() * dx + q.abs() * dy)).clamp_min(0.0)
    left = cutoff * cutoff - u * u - v * v
    half = (left.clamp_min(0.0).sqrt() + r.abs() * dx + s.abs() * dy) / length
    middle = -(r * x + s * y) / length
    reach = cutoff / height[..., 2]

    z = atoms.fractions[some, 2].view(-1, 1, 1)
    width = atoms.width[owner, 2].view(-1, 1, 1)
    low = ((z + torch.maximum(middle - half, -reach)) / width).floor().to(torch.int64)
    high = ((z + torch.minimum(middle + half, reach)) / width).floor().to(torch.int64)
    is_open = ~atoms.pbc[owner, 2].view(-1, 1, 1)
    last = atoms.bins[owner, 2].view(-1, 1, 1) - 1
    low = torch.where(is_open, low.clamp_min(0), low)
    high = torch.where(is_open, torch.minimum(high, last), high)
    return low, torch.where(left < 0.0, low - 1, high)
