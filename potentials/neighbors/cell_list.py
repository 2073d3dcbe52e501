"""A batched cell list in plain torch that never leaves the device.

Atoms are sorted into bins: columns half a cutoff wide along the first two cell vectors, finely
divided along the third. Around each atom lie at most 5 x 5 different columns; in each, the atoms
within reach are one run of the sorted order, whose ends a binary search finds. No dense grid
exists, so empty space costs nothing, and no step is larger than a few times atoms plus pairs.

Two tricks keep the numbers of columns and runs fixed, so that the host need not ask for them. A
column is a periodic sequence: rank q counts its atoms through all images, and the atom is q modulo
the column's population, the image the quotient. And where the cell is so small that several images
of one column are in reach, the column is visited once, with a multiplicity. The host waits twice:
for the number of candidates (with the checks of the input), and for the number of edges.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .binning import BinnedAtoms, bin_atoms
from .cells import complete_cell
from .checks import find_invalid, raise_if_invalid
from .runs import RUNS_PER_ATOM, Runs, find_runs

_BLOCK = 256  # atoms; the finest grain in which candidates are examined


def search(
    positions: Tensor, cell: Tensor, pbc: Tensor, cutoff: float, structure: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (centers, neighbors, shifts) as the package's contract says."""
    large = positions.device.type != "cpu"
    block, chunk = (1 << 16, 1 << 22) if large else (1 << 10, 1 << 17)
    atoms = bin_atoms(positions, complete_cell(cell, pbc), pbc, cutoff, structure)
    runs = find_runs(atoms, cutoff, block)

    # First wait: candidates before each block of atoms, and the checks of the input.
    before = torch.cumsum(runs.count, 0) - runs.count
    total = (before[-1] + runs.count[-1]).unsqueeze(0)
    facts = torch.cat(
        [find_invalid(positions, cell, pbc, structure), before[:: _BLOCK * RUNS_PER_ATOM], total]
    )
    bad_atom, bad_structure, *offsets = facts.tolist()
    raise_if_invalid(bad_atom, bad_structure, len(positions), len(cell))

    close, hits = _examine(atoms, runs, before, offsets, cutoff, chunk)
    # Second wait: the number of edges.
    found = close.nonzero().squeeze(1)
    del close
    return _read_edges(atoms, runs, before, hits, found, chunk)


def _examine(
    atoms: BinnedAtoms, runs: Runs, before: Tensor, offsets: list[int], cutoff: float, chunk: int
) -> tuple[Tensor, Tensor]:
    """Return which candidates are closer than the cutoff, and how many are in each run.

    Args:
        atoms: the binned atoms.
        runs: the candidates.
        before: (25 N,) number of candidates before each run.
        offsets: the same before each block of atoms, and the total, on the host.
        cutoff: in Å.
        chunk: number of candidates to look at in one step; a block may exceed it.
    """
    close = torch.empty(offsets[-1], dtype=torch.bool, device=before.device)
    hits = torch.empty_like(before)
    positions = atoms.wrapped[atoms.order]
    for first, last in _group(offsets, chunk):
        begin, size = offsets[first], offsets[last] - offsets[first]
        part = slice(first * _BLOCK * RUNS_PER_ATOM, last * _BLOCK * RUNS_PER_ATOM)
        count = runs.count[part]
        local = torch.arange(len(count), device=before.device)
        run = local.repeat_interleave(count, output_size=size) + part.start
        candidate = torch.arange(begin, begin + size, device=before.device)
        slot, image = _locate(runs, run, candidate - before.index_select(0, run))
        center = run.div(RUNS_PER_ATOM, rounding_mode="floor")
        vector = positions.index_select(0, slot) - atoms.wrapped.index_select(0, center)
        distance = torch.linalg.vector_norm(_add_images(vector, atoms, center, image), dim=1)
        # An atom is at exactly zero distance from itself; another atom in the same place counts.
        itself = (distance == 0.0) & (atoms.order.index_select(0, slot) == center)
        inside = (distance < cutoff) & ~itself
        close[begin : begin + size] = inside
        below = torch.nn.functional.pad(inside.cumsum(0), (1, 0))
        start = before[part] - begin
        hits[part] = below.index_select(0, start + count) - below.index_select(0, start)
    return close, hits


def _group(offsets: list[int], chunk: int) -> list[tuple[int, int]]:
    """Group neighbouring blocks up to a number of candidates; returns (first, last + 1) blocks."""
    groups, first = [], 0
    for last in range(1, len(offsets)):
        final = last == len(offsets) - 1
        if final or offsets[last + 1] - offsets[first] > chunk:
            groups.append((first, last))
            first = last
    return groups


def _locate(runs: Runs, run: Tensor, index: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the slot in the sorted order and the three images (n,) of candidates of runs."""
    length = runs.length.index_select(0, run)
    copy = index.div(length, rounding_mode="floor")
    rank = runs.rank.index_select(0, run) + index - copy * length
    population = runs.population.index_select(0, run)
    third = rank.div(population, rounding_mode="floor")
    slot = runs.start.index_select(0, run) + rank - third * population
    multiplicity = runs.multiplicity.index_select(0, run)
    second = copy.div(multiplicity, rounding_mode="floor")
    first = copy - second * multiplicity
    image = runs.image.index_select(0, run)
    return slot, (image[:, 0] + first, image[:, 1] + second, third)


def _add_images(
    vector: Tensor, atoms: BinnedAtoms, center: Tensor, image: tuple[Tensor, ...]
) -> Tensor:
    """Add image @ cell to (n, 3) vectors in place, one lattice vector after the other."""
    owner = atoms.structure.index_select(0, center) if len(atoms.cell) > 1 else None
    for axis in range(3):
        row = atoms.cell[:, axis]
        row = row if owner is None else row.index_select(0, owner)
        vector.addcmul_(image[axis].to(row.dtype).unsqueeze(1), row)
    return vector


def _read_edges(
    atoms: BinnedAtoms, runs: Runs, before: Tensor, hits: Tensor, found: Tensor, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn the numbers of the candidates that are edges into (centers, neighbors, shifts)."""
    runs_of_edges = torch.arange(len(hits), device=hits.device).repeat_interleave(
        hits, output_size=len(found)
    )
    centers, neighbors = torch.empty_like(found), torch.empty_like(found)
    shifts = found.new_empty(len(found), 3)
    for begin in range(0, len(found), chunk):
        part = slice(begin, begin + chunk)
        run = runs_of_edges[part]
        slot, image = _locate(runs, run, found[part] - before.index_select(0, run))
        i, j = run.div(RUNS_PER_ATOM, rounding_mode="floor"), atoms.order.index_select(0, slot)
        centers[part], neighbors[part] = i, j
        moved = atoms.wraps.index_select(0, i) - atoms.wraps.index_select(0, j)
        shifts[part] = torch.stack(image, dim=1) + moved
    return centers, neighbors, shifts
