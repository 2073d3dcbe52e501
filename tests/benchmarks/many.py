"""A database of 1,000 structures: `pointedge predict` and calculate_many against one by one.

    python -m tests.benchmarks.many [--model pet-water] [--structures 1000] [--file water-3]

Parts of the database take turns, so that what else runs on the machine slows both. Times are in
milliseconds per structure; one by one has no neighbours to keep, since structures are unrelated.
"""

import argparse
import tempfile
import time
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import torch

from pointedge.calculators import PotentialCalculator
from pointedge.calculators.predictions import predict_file
from pointedge.potentials.packaged import packaged_folder

PARTS = 10
PROPERTIES = ("energy", "forces")


def displaced(name, count):
    """Copies of a packaged structure with other displacements and orientations."""
    start = ase.io.read(packaged_folder("structures") / f"{name}.xyz")
    found = []
    for seed in range(count):
        atoms = start.copy()
        atoms.rattle(0.05, seed=seed)
        found.append(atoms)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pet-water")
    parser.add_argument("--structures", type=int, default=1000)
    parser.add_argument("--file", default="water-3")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    calculator = PotentialCalculator(arguments.model, device=arguments.device)
    structures = displaced(arguments.file, arguments.structures)
    calculator.calculate_many(structures[:2])
    seconds = dict.fromkeys(("one by one", "calculate_many", "database to database"), 0.0)
    largest = 0.0
    for part in np.array_split(np.arange(len(structures)), PARTS):
        members = [structures[k] for k in part]
        begun = time.perf_counter()
        singles = [(calculator.get_potential_energy(a), calculator.get_forces(a)) for a in members]
        seconds["one by one"] += time.perf_counter() - begun
        begun = time.perf_counter()
        batch = calculator.calculate_many(members, PROPERTIES)
        seconds["calculate_many"] += time.perf_counter() - begun
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "in.db", Path(folder) / "out.db"
            with ase.db.connect(source) as database:
                for atoms in members:
                    database.write(atoms)
            begun = time.perf_counter()
            predict_file(calculator, source, target)
            seconds["database to database"] += time.perf_counter() - begun
        for (_, forces), result in zip(singles, batch, strict=True):
            largest = max(largest, float(np.abs(forces - result["forces"]).max()))
    atoms = len(structures[0])
    print(f"{len(structures)} structures of {atoms} atoms, {arguments.model}, {arguments.device}, ")
    print(f"{torch.get_num_threads()} thread(s); largest difference of a force {largest:.1e} eV/Å")
    for name, total in seconds.items():
        ratio = seconds["one by one"] / total
        print(f"{name:22}{1e3 * total / len(structures):8.2f} ms{ratio:8.2f} x")


if __name__ == "__main__":
    main()
