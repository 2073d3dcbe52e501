"""Small structures for tests: every class of periodicity, and the awkward ones, built in code."""

from __future__ import annotations

import itertools

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

SPECIES = (1, 6, 8, 14)
PBC_PATTERNS = tuple(itertools.product((False, True), repeat=3))
# Patterns whose open axes have a zero cell vector (as ASE's slabs and molecules do); the open axes
# of the others have a vector that must not matter.
ZERO_VECTORS = {
    (False, False, False),
    (True, False, False),
    (True, True, False),
    (False, True, True),
}


def pattern_name(pbc: tuple[bool, ...]) -> str:
    """Short name of a pbc pattern: TTF for a slab."""
    return "".join("T" if axis else "F" for axis in pbc)


def patterns() -> dict[str, Atoms]:
    """One random triclinic structure of 8 or 9 C, H, O and Si atoms for each pbc pattern."""
    return {
        pattern_name(pbc): random_structure(pbc, seed=k, zero_open_vectors=pbc in ZERO_VECTORS)
        for k, pbc in enumerate(PBC_PATTERNS)
    }


def awkward() -> dict[str, Atoms]:
    """Structures at the edges of what is ordinary; all have at least one edge within 3.5 Å."""
    crystal = random_structure((True, True, True), seed=11)
    left_handed = crystal.copy()
    left_handed.set_cell(np.asarray(crystal.cell)[[1, 0, 2]])
    return {
        "left-handed": left_handed,
        "small-cell": Atoms(
            "CSi",
            positions=[(0.1, 0.2, 0.3), (1.4, 1.3, 1.5)],
            cell=[(2.4, 0.3, 0.1), (-0.2, 2.6, 0.4), (0.3, 0.1, 2.5)],
            pbc=True,
        ),
        "one-atom-cell": Atoms("O", cell=[(2.1, 0, 0), (0.4, 2.2, 0), (0.2, 0.5, 2.3)], pbc=True),
        "one-atom-wire": Atoms("C", cell=[(0, 0, 0), (0, 0, 0), (0.3, 0.2, 1.7)], pbc=(0, 0, 1)),
        "dimer": Atoms("OH", positions=[(0, 0, 0), (0.6, 0.5, 0.55)]),
        "outside-cell": _outside_cell(crystal),
    }


def isolated_atom(number: int = 8) -> Atoms:
    """One atom in vacuum, away from the origin."""
    return Atoms(numbers=[number], positions=[(0.3, -0.2, 0.7)])


def random_structure(
    pbc: tuple[bool, ...], seed: int, num_atoms: int | None = None, zero_open_vectors: bool = False
) -> Atoms:
    """Random atoms in a triclinic cell of about 15 Å³ per atom, all distances at least 0.9 Å.

    Every species occurs at least twice. Positions are not symmetric and not wrapped.
    """
    rng = np.random.default_rng(seed)
    num_atoms = num_atoms or 8 + seed % 2
    numbers = rng.permutation(np.resize(SPECIES, num_atoms))
    edge = (15 * num_atoms) ** (1 / 3)
    cell = edge * (np.eye(3) + rng.uniform(-0.2, 0.2, (3, 3)))
    if np.linalg.det(cell) < 0:
        raise AssertionError("the random cell must be right-handed")
    images = np.array(list(itertools.product(*[(-1, 0, 1) if axis else (0,) for axis in pbc])))
    positions: list[np.ndarray] = []
    tries = 0
    while len(positions) < num_atoms:
        candidate = rng.uniform(0, 1, 3) @ cell
        radii = covalent_radii[numbers[: len(positions)]] + covalent_radii[numbers[len(positions)]]
        vectors = np.array(positions).reshape(-1, 1, 3) + images @ cell - candidate
        distances = np.linalg.norm(vectors, axis=-1).min(axis=-1)
        if np.all(distances > np.maximum(0.9, 0.8 * radii)):
            positions.append(candidate)
        tries += 1
        if tries % 1000 == 0:  # no room is left for the next atom: start over
            positions.clear()
    if zero_open_vectors:
        cell[~np.array(pbc)] = 0
    return Atoms(numbers=numbers, positions=positions, cell=cell, pbc=pbc)


def rattled(atoms: Atoms, stdev: float, seed: int) -> Atoms:
    """A copy with random displacements, Å."""
    twin = atoms.copy()
    twin.rattle(stdev, seed=seed)
    return twin


def dimers(numbers: tuple[int, int], distances: np.ndarray) -> list[Atoms]:
    """Two atoms at each distance, along a direction that is no axis."""
    direction = np.array([2.0, -1.0, 2.0]) / 3.0
    return [Atoms(numbers=numbers, positions=[np.zeros(3), r * direction]) for r in distances]


def dimer_gas(num_atoms: int) -> Atoms:
    """Dimers on a cubic grid, 12 Å apart: as many edges as atoms, whatever their number."""
    side = int(np.ceil((num_atoms / 2) ** (1 / 3)))
    sites = 12.0 * np.array(list(itertools.product(range(side), repeat=3)))[: num_atoms // 2]
    positions = np.stack([sites, sites + np.array([0.7, 0.6, 0.5])], axis=1).reshape(-1, 3)
    return Atoms(numbers=[8, 1] * (num_atoms // 2), positions=positions)


def crossing(cutoff: float, offsets: np.ndarray, clear: tuple[float, ...] = ()) -> list[Atoms]:
    """A dense cluster whose last atom passes the cutoff sphere of atom 0, radially.

    Structure k has the pair (0, last) at ``cutoff + offsets[k]``. No other pair comes closer to a
    radius in ``clear`` than 0.02 Å on the way, so that a kink there can only be this pair's.
    """
    for seed in range(1000):
        cluster = random_structure((False,) * 3, seed=100 + seed, num_atoms=12)
        rng = np.random.default_rng(seed)
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        radii = cutoff + offsets
        path = cluster.positions[0] + radii[:, None] * direction
        others = np.linalg.norm(path[:, None] - cluster.positions[1:], axis=-1)
        if others.min() < 1.1 or (others < cutoff - 0.5).sum(axis=1).min() < 3:
            continue
        if any(np.abs(others - radius).min() < 0.02 for radius in clear):
            continue
        return [cluster + Atoms("H", positions=[point]) for point in path]
    raise AssertionError("no cluster found that keeps all other pairs off the given radii")


def _outside_cell(atoms: Atoms) -> Atoms:
    """The same crystal with atoms several cells away from the home cell."""
    moved = atoms.copy()
    images = np.random.default_rng(5).integers(-3, 4, (len(atoms), 3))
    moved.positions += images @ np.asarray(atoms.cell)
    return moved
