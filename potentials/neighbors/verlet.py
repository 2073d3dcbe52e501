"""Verlet lists: a neighbour list with a skin, rebuilt only when an edge could be missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from .cells import complete_cell, reciprocal_rows
from .checks import check_arguments, check_backend, check_cutoff
from .search import Backend, neighbor_list

# Rounding allowance of the rebuild test, Å.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class _Reference:
    """What the stored list was built for (copies, all detached) and the list itself."""

    positions: Tensor  # (N, 3) float64, Å
    cell: Tensor  # (B, 3, 3) float64, Å, completed along open axes
    inverse: Tensor  # (B, 3, 3) of that cell, 1/Å
    pbc: Tensor  # (B, 3) bool
    structure: Tensor  # (N,)
    species: Tensor | None  # (N,)
    centers: Tensor  # (E,) of the list with the skin
    neighbors: Tensor  # (E,)
    shifts: Tensor  # (E, 3) int64
    crossing: Tensor  # (K,) edges whose shift is not zero
    crossing_shifts: Tensor  # (K, 3) float64


class VerletList:
    """A neighbour list that is kept while no atom has moved far, for molecular dynamics.

    The list is built for cutoff + skin and filtered to the cutoff at every update, so that the
    edges are those of a fresh list, and sorted by centre, neighbour and shift, so that their order
    does not tell when it was built. It is kept while no pair can have come within the cutoff that
    the stored list lacks. Let F be the linear map that takes the old cell to the new one (the
    identity across open axes), r0 and r the old and new positions, k the integer image that
    brings r nearest to r0 F up to the drift of one atom of the structure (nonzero when atoms were
    wrapped), and

        u = r - k · cell - r0 F,

    less its mean over the structure, what the affine map does not explain. A pair vector d was
    d0 = (d - u_j + u_i) F⁻¹, hence |d0| ≤ (|d| + |u_i| + |u_j|) / σ with σ the smallest singular
    value of F. So no pair is missing while for every atom

        2 |u| ≤ σ · (cutoff + skin) - cutoff,    σ² ≥ 1 - ‖F Fᵀ - 1‖ (Frobenius).

    For a constant cell this is the familiar 2 |u| ≤ skin; strain draws on the same budget, and
    rotation, wrapping and common drift cost nothing. Another number of atoms or structures, other
    species, another pbc, another device, and a skin of 0 always build a new list.

    Attributes:
        cutoff: in Å.
        skin: in Å.
        backend: see :func:`neighbor_list`.
        builds: number of lists built so far.
        updates: number of calls of :meth:`update` so far.
    """

    def __init__(self, cutoff: float, skin: float = 0.5, backend: Backend = "auto") -> None:
        check_backend(backend, get_args(Backend))
        if not 0.0 <= skin < float("inf"):
            raise ValueError(f"The skin is {skin} Å; give a finite length in Å, 0 for no reuse.")
        self.cutoff = check_cutoff(cutoff)
        self.skin = float(skin)
        self.backend: Backend = backend
        self.builds = 0
        self.updates = 0
        self._reference: _Reference | None = None

    @torch.no_grad()
    def update(
        self,
        positions: Tensor,
        cell: Tensor,
        pbc: Tensor,
        structure: Tensor,
        species: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (centers, neighbors, shifts) within the cutoff, as :func:`neighbor_list` does.

        Args:
            positions: (N, 3) float, Å; may be wrapped or not, differently at each call.
            cell: (B, 3, 3) float, Å.
            pbc: (B, 3) bool.
            structure: (N,) int64.
            species: (N,) int64, or None; other species than before mean another system.
        """
        check_arguments(positions, cell, pbc, structure)
        self.updates += 1
        positions = positions.detach().to(torch.float64)
        cell = torch.where(pbc.unsqueeze(-1), cell.detach().to(torch.float64), 0.0)
        old = self._reference
        if self.skin > 0.0 and old is not None and _same_shapes(old, pbc, structure, species):
            images, fits = self._compare(old, positions, cell, pbc, structure, species)
            if fits:
                return self._filter(old, positions, cell, images)
        old = self._build(positions, cell, pbc, structure, species)
        return self._filter(old, positions, cell, torch.zeros_like(positions))

    def _build(
        self,
        positions: Tensor,
        cell: Tensor,
        pbc: Tensor,
        structure: Tensor,
        species: Tensor | None,
    ) -> _Reference:
        """Build the list with the skin and remember what it was built for."""
        edges = _in_order(
            *neighbor_list(
                positions, cell, pbc, self.cutoff + self.skin, structure, backend=self.backend
            )
        )
        crossing = (edges[2] != 0).any(dim=1).nonzero().squeeze(1)
        full = complete_cell(cell, pbc)
        self.builds += 1
        self._reference = _Reference(
            positions.clone(),
            full,
            reciprocal_rows(full).mT,
            pbc.clone(),
            structure.clone(),
            None if species is None else species.clone(),
            *edges,
            crossing,
            edges[2].index_select(0, crossing).to(torch.float64),
        )
        return self._reference

    def _compare(
        self,
        old: _Reference,
        positions: Tensor,
        cell: Tensor,
        pbc: Tensor,
        structure: Tensor,
        species: Tensor | None,
    ) -> tuple[Tensor, bool]:
        """Return the (N, 3) images by which atoms were wrapped, and whether the list still holds.

        The device is waited for once.
        """
        full = torch.where(pbc.unsqueeze(-1), cell, old.cell)
        affine = old.inverse @ full
        strain = affine @ affine.mT - torch.eye(3, dtype=cell.dtype, device=cell.device)
        squared = 1.0 - torch.linalg.matrix_norm(strain)
        budget = squared.clamp_min(0.0).sqrt() * (self.cutoff + self.skin) - self.cutoff

        owner = old.structure
        moved = positions - torch.einsum("nk,nkl->nl", old.positions, affine[owner])
        # Images are counted from an atom of the same structure, so that a drift of the whole by
        # half a cell does not tear it apart.
        moved = moved - moved[_first_atoms(owner, len(cell))][owner]
        images = torch.einsum("nk,nkl->nl", moved, reciprocal_rows(full).mT[owner]).round()
        images = torch.where(pbc[owner], images, 0.0)
        moved = moved - torch.einsum("nk,nkl->nl", images, full[owner])
        moved = moved - _mean(moved, owner, len(cell))[owner]
        length = torch.linalg.vector_norm(moved, dim=1)
        checks = [2.0 * length + _TOLERANCE <= budget[owner], pbc == old.pbc, structure == owner]
        if species is not None and old.species is not None:
            checks.append(species == old.species)
        return images, bool(torch.stack([check.all() for check in checks]).all())

    def _filter(
        self, old: _Reference, positions: Tensor, cell: Tensor, images: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the edges of the stored list that are shorter than the cutoff now."""
        cells = cell[old.structure]
        unwrapped = positions - torch.einsum("nk,nkl->nl", images, cells)
        vectors = unwrapped.index_select(0, old.neighbors)
        vectors -= unwrapped.index_select(0, old.centers)
        crossing_cells = cells.index_select(0, old.centers.index_select(0, old.crossing))
        jumps = torch.einsum("nk,nkl->nl", old.crossing_shifts, crossing_cells)
        vectors.index_add_(0, old.crossing, jumps)
        kept = (torch.linalg.vector_norm(vectors, dim=1) < self.cutoff).nonzero().squeeze(1)
        i, j = old.centers.index_select(0, kept), old.neighbors.index_select(0, kept)
        wraps = images.to(torch.int64)
        shifts = old.shifts.index_select(0, kept)
        shifts += wraps.index_select(0, i)
        shifts -= wraps.index_select(0, j)
        return i, j, shifts


def _in_order(centers: Tensor, neighbors: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sort edges by centre, neighbour and shift.

    Backends list the neighbours of an atom as they find them. Sums over edges round by their order,
    and a dynamics that goes on from a file, with a list built elsewhere, has to round alike.
    """
    order = torch.arange(len(centers), device=centers.device)
    for key in (*shifts.unbind(1)[::-1], neighbors, centers):  # the last one counts most
        order = order.index_select(0, key.index_select(0, order).argsort(stable=True))
    return (
        centers.index_select(0, order),
        neighbors.index_select(0, order),
        shifts.index_select(0, order),
    )


def _same_shapes(old: _Reference, pbc: Tensor, structure: Tensor, species: Tensor | None) -> bool:
    """Tell whether the system could be the old one, judged by what the host knows."""
    if (species is None) != (old.species is None):
        return False
    if species is not None and old.species is not None and species.shape != old.species.shape:
        return False
    same = pbc.shape == old.pbc.shape and structure.shape == old.structure.shape
    return same and pbc.device == old.pbc.device and len(structure) > 0


def _first_atoms(structure: Tensor, structures: int) -> Tensor:
    """Return (B,) the first atom of each structure; of one without atoms, the last of all."""
    atoms = torch.arange(len(structure), device=structure.device)
    last = torch.full((structures,), len(structure) - 1, device=structure.device)
    return last.scatter_reduce(0, structure, atoms, "amin")


def _mean(vectors: Tensor, structure: Tensor, structures: int) -> Tensor:
    """Return the (B, 3) means of (N, 3) vectors over structures; 0 where there are no atoms."""
    sums = vectors.new_zeros(structures, 3).index_add(0, structure, vectors)
    atoms = vectors.new_zeros(structures).index_add(0, structure, torch.ones_like(vectors[:, 0]))
    return sums / atoms.clamp_min(1.0).unsqueeze(1)
