"""Stretched O-H bonds in frames of liquid water, for training: ``generate_water_stretched``.

Frames of the liquid near 300 K hold no bond longer than 1.14 Å, and a potential trained on them
alone is free beyond: one that reproduced their forces to 55 meV/Å broke bonds within a picosecond
of dynamics. Here a few bonds of each labelled frame are drawn out to 1.1-1.8 Å, and its labels gain
the *difference* that GFN2-xTB (Bannwarth et al., J. Chem. Theory Comput. 15, 1652 (2019)) finds
between the two geometries of the stretched molecule and its neighbours::

    E(stretched) = E(frame) + E_xtb(stretched cluster) - E_xtb(cluster)

and the same for the forces. An unstretched frame keeps its labels, so the new frames agree with the
reference method where it has data and lean on the cheaper one only where it has none. ::

    pip install tblite
    python -m pointedge.data.generate_water_stretched water/train.xyz water-stretched.xyz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import iread, write
from numpy.typing import NDArray

MOLECULES = 9  # in a cluster: the first shell and more
SHORTEST = 0.8  # Å, and eV/Å: frames with hydrogens pushed into each other are drawn again
LARGEST = 20.0
Array = NDArray[np.float64]


def molecules(frame: Atoms) -> NDArray[np.int64]:
    """Indices (molecules, 3): each oxygen and its two nearest hydrogens."""
    distances = frame.get_all_distances(mic=True)
    oxygens = np.flatnonzero(frame.numbers == 8)
    hydrogens = np.flatnonzero(frame.numbers == 1)
    nearest = np.argsort(distances[np.ix_(oxygens, hydrogens)], axis=1)[:, :2]
    return np.column_stack([oxygens, hydrogens[nearest]])


def cluster(
    frame: Atoms, groups: NDArray[np.int64], center: int
) -> tuple[Atoms, NDArray[np.int64]]:
    """Molecule ``center`` and its neighbours, whole and without a cell, and their indices."""
    oxygens = groups[:, 0]
    vectors = frame.get_distances(oxygens[center], oxygens, mic=True, vector=True)
    near = np.argsort(np.linalg.norm(vectors, axis=1))[:MOLECULES]
    positions = [
        vectors[k] + frame.get_distances(oxygens[k], groups[k], mic=True, vector=True) for k in near
    ]
    indices = groups[near].ravel()
    return Atoms(frame.numbers[indices], np.concatenate(positions)), indices


def xtb(atoms: Atoms) -> tuple[float, Array]:
    """Energy (eV) and forces (eV/Å, atoms x 3) by GFN2-xTB."""
    from tblite.ase import TBLite

    atoms = atoms.copy()
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    return atoms.get_potential_energy(), atoms.get_forces()


def far_apart(frame: Atoms, groups: NDArray[np.int64], rng: np.random.Generator) -> list[int]:
    """Molecules in random order, each at least 5.5 Å from those before it."""
    distances = frame.get_all_distances(mic=True)[np.ix_(groups[:, 0], groups[:, 0])]
    chosen: list[int] = []
    for k in rng.permutation(len(groups)):
        if all(distances[k, other] > 5.5 for other in chosen):
            chosen.append(int(k))
    return chosen


def stretched(frame: Atoms, bonds: int, rng: np.random.Generator) -> Atoms:
    """A copy of a labelled ``frame`` with up to ``bonds`` O-H bonds of 1.1 to 1.8 Å."""
    groups = molecules(frame)
    result = frame.copy()
    for center in far_apart(frame, groups, rng)[:bonds]:
        before, indices = cluster(frame, groups, center)
        hydrogen = int(rng.integers(1, 3))  # the center comes first: O, H, H
        after = before.copy()
        length = before.get_distance(0, hydrogen)
        after.positions[hydrogen] *= rng.uniform(1.1, 1.8) / length  # its oxygen is at the origin
        if np.delete(after.get_distances(hydrogen, range(len(after))), hydrogen).min() < SHORTEST:
            continue
        (energy, forces), (energy_after, forces_after) = xtb(before), xtb(after)
        if np.abs(forces_after).max() > LARGEST:
            continue
        result.positions[indices[hydrogen]] += (
            after.positions[hydrogen] - before.positions[hydrogen]
        )
        result.info["REF_energy"] += energy_after - energy
        result.arrays["REF_forces"][indices] += forces_after - forces
    result.info["source_set"] = "stretched"
    return result


def main() -> None:
    """Read the frames, stretch and label them, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", help="extxyz with REF_energy, REF_forces and source_set")
    parser.add_argument("output", type=Path)
    parser.add_argument("--bonds", type=int, default=4, help="stretched bonds in a frame")
    parser.add_argument("--leave-out", nargs="*", default=["data_2/set.000"], help="source sets")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    frames = [
        stretched(frame, arguments.bonds, rng)
        for frame in iread(arguments.frames, index=":")
        if frame.info["source_set"] not in arguments.leave_out
    ]
    write(arguments.output, frames, format="extxyz")


if __name__ == "__main__":
    main()
