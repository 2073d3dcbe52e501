"""Pairs and fragments of the alloy for training, labelled by mace-hea: ``generate_hea_fragments``.

The reference data of Mo-Nb-Ta-W hold crystals and surfaces, and a PET trained on them alone is free
where atoms have few neighbours: one that reproduced their forces to 92 meV/Å had hills of 2,500 eV
between two atoms, and fragments of nine exploded within 20 fs. mace-hea, which saw the same frames,
is smooth there. Its numbers are no reference: they stand in where there is none, with little weight
in the training. (pet-hea has seen those of the first mace-hea, of 32x0e + 32x1o.) ::

    python -m pointedge.data.generate_hea_fragments hea-fragments.xyz
"""

from __future__ import annotations

import argparse
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io import write

from pointedge.calculators import MACENetCalculator

ELEMENTS = ("Nb", "Mo", "Ta", "W")
LATTICE = 3.24  # Å, of the random alloy
NEAREST, FARTHEST = 1.6, 5.2  # Å: beyond the cutoff, where nothing is left to learn
LARGEST = 100.0  # eV/Å; harder collisions are left to the repulsion


def pairs(count: int) -> list[Atoms]:
    """All pairs of elements at ``count`` distances each."""
    return [
        Atoms(pair, [[0, 0, 0], [0, 0, r]])
        for pair in combinations_with_replacement(ELEMENTS, 2)
        for r in np.linspace(NEAREST, FARTHEST, count)
    ]


def fragments(count: int, rng: np.random.Generator) -> list[Atoms]:
    """Neighbours in a random alloy: 3 to 15 atoms, displaced, scaled, and some left out."""
    crystal = bulk("W", "bcc", LATTICE, cubic=True).repeat(4)
    order = np.argsort(crystal.get_distances(0, range(len(crystal)), mic=True))
    around = crystal.get_distances(0, order, mic=True, vector=True)
    found: list[Atoms] = []
    while len(found) < count:
        size = int(rng.integers(3, 16))
        chosen = np.sort(rng.choice(min(2 * size, 27), size, replace=False))
        positions = around[chosen] * rng.uniform(0.85, 1.2)
        positions += rng.normal(scale=rng.uniform(0.05, 0.4), size=positions.shape)
        atoms = Atoms(rng.choice(ELEMENTS, size), positions)
        if atoms.get_all_distances()[np.triu_indices(size, 1)].min() > NEAREST:
            found.append(atoms)
    return found


def main() -> None:
    """Make the structures, label them, write what has no huge forces."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="mace-hea", help="whose numbers are the labels")
    parser.add_argument("--distances", type=int, default=37, help="of each pair")
    parser.add_argument("--fragments", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    frames = pairs(arguments.distances) + fragments(arguments.fragments, rng)
    results = MACENetCalculator(arguments.model).calculate_many(frames)
    for atoms, result in zip(frames, results, strict=True):
        atoms.info |= {"REF_energy": result["energy"], "group": "Fragment"}
        atoms.arrays["REF_forces"] = result["forces"]
    soft = [a for a in frames if np.abs(a.arrays["REF_forces"]).max() < LARGEST]
    write(arguments.output, soft, format="extxyz")


if __name__ == "__main__":
    main()
