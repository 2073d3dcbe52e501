"""Small clusters of water with the labels of pet-water, averaged over orientations exactly.

    python data/generate_water_clusters.py water/train.xyz OUT.xyz

A model with symmetric layers that has seen the liquid alone extrapolates badly to molecules in
vacuum, whose frames are special. pet-water, which saw the liquid from all sides, is stable for
clusters of two and more, and lends its labels. Up to eight molecules are cut out of the liquid, and
run for 0.1 ps at 300 K; what is labelled is taken from these runs, but for what falls apart
(as a single molecule does with pet-water).
"""

import sys

import ase.io
import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

from pointedge.calculators import PETCalculator

RUNS, STEPS, INTERVAL = 48, 200, 50


def cluster(box: Atoms, center: int, size: int) -> Atoms:
    """The molecules nearest to an oxygen atom, unwrapped, without a cell."""
    oxygens = np.flatnonzero(box.numbers == 8)
    hydrogens = np.flatnonzero(box.numbers == 1)
    distances = box.get_distances(center, oxygens, mic=True)
    found = Atoms()
    for oxygen in oxygens[np.argsort(distances)[:size]]:
        start = box.get_distances(center, [oxygen], mic=True, vector=True)
        bonds = box.get_distances(oxygen, hydrogens, mic=True, vector=True)
        near = np.argsort(np.linalg.norm(bonds, axis=1))[:2]
        found += Atoms("OHH", positions=start + np.vstack([np.zeros(3), bonds[near]]))
    return found


def whole(atoms: Atoms) -> bool:
    """Whether these are at least two molecules, and no hydrogen has left its oxygen."""
    bonds = atoms.get_all_distances()[np.ix_(atoms.numbers == 1, atoms.numbers == 8)]
    return bonds.shape[1] > 1 and bonds.min(axis=1).max() < 1.25


def main() -> None:
    """Cut, run, label, write."""
    source, output = sys.argv[1:]
    boxes = [
        box
        for box in ase.io.read(source, ":")
        if box.info["source_set"] in ("data_0/set.000", "data_1/set.000", "data_1/set.001")
    ]
    rng = np.random.default_rng(0)
    plain, exact = PETCalculator("pet-water"), PETCalculator("pet-water", symmetrize="ecse")
    frames = []
    for run in range(RUNS):
        box = boxes[int(rng.integers(len(boxes)))]
        center = int(rng.choice(np.flatnonzero(box.numbers == 8)))
        atoms = cluster(box, center, 1 + run % 8)
        atoms.calc = plain
        thermalize_momenta(atoms, temperature_K=300, rng=rng)
        dynamics = Langevin(
            atoms, 0.5 * units.fs, temperature_K=300, friction=0.02 / units.fs, rng=rng
        )
        for _ in range(STEPS // INTERVAL):
            dynamics.run(INTERVAL)
            frame = Atoms(atoms.numbers, positions=atoms.positions)
            if not whole(frame):
                continue
            frame.calc = exact
            frame.info["REF_energy"] = frame.get_potential_energy()
            frame.arrays["REF_forces"] = frame.get_forces()
            frame.info["source_set"] = "clusters"
            frame.calc = None
            frames.append(frame)
    ase.io.write(output, frames)


if __name__ == "__main__":
    main()
