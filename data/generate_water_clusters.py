"""Make ``frames/water-stretched.xyz``: water clusters with a stretched O-H bond, for training.

Frames of liquid water near 300 K hold no bond longer than 1.14 Å. A potential trained on them alone
is free beyond: one that reproduced their forces to 55 meV/Å broke bonds within a picosecond of
dynamics. These clusters fill the gap, with bonds of 1.1 to 1.9 Å and forces by GFN2-xTB: the
restoring force there is several eV/Å, far above the error of that method (Bannwarth et al.,
J. Chem. Theory Comput. 15, 1652 (2019)). Geometries are cut from our own box, not from reference
frames. Energies are left out, since the two methods' zeros differ. Needs tblite::

    pip install tblite
    python -m pointedge.data.generate_water_clusters --frames 800
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import iread, write

FOLDER = Path(__file__).parent
OUTPUT = FOLDER / "frames" / "water-stretched.xyz"


def molecules(box: Atoms) -> list[np.ndarray]:
    """Indices (3,) of each molecule: an oxygen and its two nearest hydrogens."""
    distances = box.get_all_distances(mic=True)
    hydrogens = np.flatnonzero(box.numbers == 1)
    return [
        np.array([o, *hydrogens[np.argsort(distances[o, hydrogens])[:2]]])
        for o in np.flatnonzero(box.numbers == 8)
    ]


def cluster(box: Atoms, count: int, rng: np.random.Generator) -> Atoms:
    """A random molecule and its nearest neighbours, ``count`` in all, whole and without a cell."""
    groups = molecules(box)
    center = rng.integers(len(groups))
    oxygens = np.array([group[0] for group in groups])
    nearest = np.argsort(box.get_distances(oxygens[center], oxygens, mic=True))[:count]
    origin = oxygens[center]
    positions = []
    for k in nearest:
        oxygen = box.get_distance(origin, oxygens[k], mic=True, vector=True)
        bonds = [box.get_distance(oxygens[k], h, mic=True, vector=True) for h in groups[k][1:]]
        positions += [oxygen, *(oxygen + bond for bond in bonds)]
    return Atoms("OHH" * count, positions)


def stretched(box: Atoms, rng: np.random.Generator) -> Atoms:
    """A cluster of 1 to 6 molecules, rattled, with one O-H bond of 1.1 to 1.9 Å in the first."""
    atoms = cluster(box, int(rng.integers(1, 7)), rng)
    atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
    bond = atoms.positions[1] - atoms.positions[0]
    atoms.positions[1] = atoms.positions[0] + bond / np.linalg.norm(bond) * rng.uniform(1.1, 1.9)
    return atoms


def main() -> None:
    """Generate, label and write the frames."""
    from tblite.ase import TBLite

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    box = next(iread(FOLDER / "structures" / "water-64.xyz", index=-1))
    frames: list[Atoms] = []
    while len(frames) < arguments.frames:
        atoms = stretched(box, rng)
        distances = atoms.get_all_distances()[np.triu_indices(len(atoms), 1)]
        if distances.min() < 0.8:
            continue
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        forces = atoms.get_forces()
        if np.abs(forces).max() > 15:  # eV/Å; hydrogens pushed into each other
            continue
        atoms.calc = None
        atoms.arrays["REF_forces"] = forces
        atoms.info["source_set"] = "stretched"
        frames.append(atoms)
    OUTPUT.parent.mkdir(exist_ok=True)
    write(OUTPUT, frames, format="extxyz", columns=["symbols", "positions", "REF_forces"])


if __name__ == "__main__":
    main()
