"""Structures that break neighbour lists, and the comparison of a list with the oracle."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from .oracle import MARGIN, brute_force

PATTERNS = tuple(itertools.product((False, True), repeat=3))


@dataclass(frozen=True)
class Case:
    """One structure and a cutoff; ``repr`` is a complete recipe for a failing case."""

    positions: np.ndarray
    cell: np.ndarray
    pbc: tuple[bool, bool, bool]
    cutoff: float

    def __repr__(self):
        return (
            f"Case(np.array({self.positions.tolist()}), np.array({self.cell.tolist()}), "
            f"{self.pbc}, {self.cutoff})"
        )


def rhombohedral(length, degrees):
    """Cell of three vectors of one length at equal angles."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    y = (c - c * c) / s
    return length * np.array([[1, 0, 0], [c, s, 0], [c, y, np.sqrt(1 - c * c - y * y)]])


def named_cases():
    """The hard cases met in other libraries' issue trackers, by name."""
    rng = np.random.default_rng(7)
    cloud = rng.random((12, 3))
    box = np.diag([9.0, 8.0, 7.0])
    skew = np.array([[6.0, 0, 0], [3.1, 5.0, 0], [-2.2, 2.4, 5.5]])
    sharp = rhombohedral(8, 10)
    fcc = 3.61 * (np.ones((3, 3)) - np.eye(3)) / 2
    none, full = (False,) * 3, (True,) * 3
    slab, wire = (True, True, False), (False, False, True)
    turn = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()
    zero = np.zeros((3, 3))
    far = cloud @ skew + rng.integers(-4, 5, (12, 3)) @ skew
    plane = cloud @ np.diag([9, 8, 0.0])
    return {
        "fcc-copper-one-atom": Case(np.zeros((1, 3)), fcc, full, 6.0),
        "rhombohedral-10-degrees": Case(cloud @ sharp, sharp, full, 3.0),
        "rhombohedral-one-atom": Case(np.ones((1, 3)), rhombohedral(3, 10), full, 4.0),
        "slab-one-atom-skewed": Case(np.ones((1, 3)), rhombohedral(2.5, 10), slab, 6.0),
        "triclinic": Case(cloud @ skew, skew, full, 5.0),
        "left-handed": Case(cloud @ skew, skew[[1, 0, 2]], full, 5.0),
        "outside": Case(far, skew, full, 5.0),
        "outside-slab": Case(far, skew, slab, 5.0),
        "outside-rotated": Case(far @ turn, skew @ turn, slab, 5.0),
        "negative-open": Case(cloud @ box - 30.0, box, (False, True, False), 4.0),
        "molecule": Case(cloud * 4, zero, none, 3.0),
        "molecule-in-box": Case(cloud * 4, np.diag([4.0, 4, 4]), none, 3.0),
        "isolated-atom": Case(np.array([[3.0, -2, 5]]), zero, none, 5.0),
        "isolated-atom-in-box": Case(np.array([[3.0, -2, 5]]), 12 * np.eye(3), full, 5.0),
        "slab-zero-vector": Case(cloud @ box, np.diag([9.0, 8, 0]), slab, 5.0),
        "slab-thin-vector": Case(cloud @ box, np.diag([9.0, 8, 0.01]), slab, 5.0),
        "slab-dependent-vector": Case(cloud @ box, box[[0, 1, 1]], slab, 5.0),
        "flat-slab": Case(plane, np.diag([9.0, 8, 0]), slab, 5.0),
        "wire-zero-vectors": Case(cloud @ box, np.diag([0, 0, 7.0]), wire, 5.0),
        "no-edges": Case(np.diag([0.0, 50, -50]), zero, none, 5.0),
        "close-atoms": Case(np.array([[1.0, 1, 1], [1.0, 1.001, 1]]), 9 * np.eye(3), full, 4.0),
        "coincident-atoms": Case(np.ones((3, 3)), 5 * np.eye(3), full, 4.0),
        "on-the-edges": Case(np.array([[0.0, 0, 0], [-1e-17, 5, 10], [10, 0, 0]]), 10 * np.eye(3),
                             full, 5.5),
        # vesin divides by zero on these two, matscipy runs out of memory on the third.
        "far-molecules": Case(np.array([[0.0, 0, 0], [1, 0, 0], [1e6, 0, 0]]), zero, none, 5.0),
        "wide-sheet": Case(np.array([[1.0, 1, 1], [1999.0, 1999, 1]]), np.diag([2e3, 2e3, 4.0]),
                           full, 5.0),
        "huge-box": Case(cloud * 4, 1e6 * np.eye(3), full, 3.0),
    }  # fmt: skip


@st.composite
def cases(draw, largest=9):
    """Random structures over periodicity, shape of the cell, open vectors, and placement."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = draw(st.sampled_from(PATTERNS))
    shape = draw(st.sampled_from(["box", "triclinic", "rhombohedral", "small", "plate"]))
    atoms = draw(st.integers(1, 3 if shape in ("small", "rhombohedral") else largest))
    cell = _random_cell(rng, shape)
    if draw(st.booleans()):
        cell = cell[[1, 0, 2]]
    positions = rng.random((atoms, 3)) @ cell
    if draw(st.booleans()):
        positions += rng.integers(-4, 5, (atoms, 3)) @ cell
    if draw(st.booleans()):
        positions -= rng.uniform(0, 100, 3)
    if atoms > 1 and draw(st.booleans()):
        positions[1] = positions[0] + [1e-3, 0, 0]
    if draw(st.booleans()):
        turn = Rotation.random(rng=rng).as_matrix()
        positions, cell = positions @ turn, cell @ turn
    open_vectors = draw(st.sampled_from(["as is", "zero", "dependent", "anything"]))
    for axis in np.flatnonzero(~np.array(pbc)):
        if open_vectors == "zero":
            cell[axis] = 0.0
        elif open_vectors == "dependent":
            cell[axis] = -2.0 * cell[(axis + 1) % 3]
        elif open_vectors == "anything":
            cell[axis] = rng.normal(size=3) * 10.0 ** rng.integers(-3, 4)
    cutoff = draw(st.sampled_from([0.7, 2.0, 3.3, 4.5] if shape in ("small", "rhombohedral")
                                  else [0.5, 2.5, 5.0]))  # fmt: skip
    return Case(positions, cell, pbc, cutoff)


def _random_cell(rng, shape):
    if shape == "box":
        return np.diag(rng.uniform(3, 12, 3))
    if shape == "triclinic":
        return np.diag(rng.uniform(4, 9, 3)) + np.tril(rng.uniform(-4, 4, (3, 3)), -1)
    if shape == "rhombohedral":
        return rhombohedral(rng.uniform(4, 10), 10)
    if shape == "small":
        return np.diag(rng.uniform(1.8, 3, 3)) + np.tril(rng.uniform(-1, 1, (3, 3)), -1)
    return np.diag(rng.permutation([3.0, 12.0, 40.0]))


def batch(structures, device="cpu", dtype=torch.float64):
    """Positions, cell, pbc and structure tensors of several cases."""
    sizes = torch.tensor([len(case.positions) for case in structures])
    tensors = (
        torch.tensor(np.concatenate([case.positions for case in structures]), dtype=dtype),
        torch.tensor(np.stack([case.cell for case in structures]), dtype=dtype),
        torch.tensor([case.pbc for case in structures]),
        torch.arange(len(structures)).repeat_interleave(sizes),
    )
    return tuple(tensor.to(device) for tensor in tensors)


def assert_edges(edges, structures, cutoff, structure):
    """Compare a list, as rows (i, j, S), with the oracle of each structure of a batch."""
    rows = rows_of(edges)
    centers = [row[0] for row in rows]
    assert centers == sorted(centers), "not sorted by centre"
    assert len(set(rows)) == len(rows), "an edge is listed twice"
    owner = structure.cpu().numpy()
    for index, case in enumerate(structures):
        members = np.flatnonzero(owner == index)
        reference = {
            (members[i], members[j], *shift): distance
            for (i, j, *shift), distance in brute_force(
                case.positions, case.cell, case.pbc, cutoff
            ).items()
        }
        found = {row for row in rows if owner[row[0]] == index}
        needed = {row for row, distance in reference.items() if distance < cutoff - MARGIN}
        missing, extra = needed - found, found - set(reference)
        wrong = missing | extra
        assert not wrong, (
            f"structure {index} of {len(structures)}: {len(missing)} edges missing "
            f"{sorted(missing)[:5]}, {len(extra)} too many {sorted(extra)[:5]}, "
            f"{len(needed)} expected in {case!r}"
        )


def canonical(edges):
    """A list as an (E, 5) array of rows (i, j, S) in lexical order."""
    rows = torch.cat([edges[0][:, None], edges[1][:, None], edges[2]], dim=1).cpu().numpy()
    return rows[np.lexsort(rows.T[::-1])]


def rows_of(edges):
    """A list as rows (i, j, S1, S2, S3); also checks types and shapes."""
    centers, neighbors, shifts = edges
    assert {tensor.dtype for tensor in edges} == {torch.int64}
    assert centers.shape == neighbors.shape == shifts.shape[:1]
    assert shifts.shape[1:] == (3,)
    joined = torch.cat([centers[:, None], neighbors[:, None], shifts], dim=1)
    return [tuple(row) for row in joined.cpu().tolist()]
