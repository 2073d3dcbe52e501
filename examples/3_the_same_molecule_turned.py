"""The same molecules, turned: what exact rotational symmetry changes, in one picture.

    python examples/3_the_same_molecule_turned.py [--model pet-water] [--steps 200]

A PET learns from turned copies that energies do not depend on orientation; what is left of its
error shows as a wave when a cluster of molecules is turned once around, and as a torque that lets a
free cluster start to spin by itself. ``symmetrize="ecse"`` removes both exactly, for the price of
several evaluations a step. Writes ``turned.png``.
"""

import argparse
from importlib.resources import files

import ase.io
import numpy as np
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from matplotlib.figure import Figure

from pointedge.calculators import PETCalculator

KINDS = {"plain": None, 'symmetrize="ecse"': "ecse"}


def energies_of_turns(atoms: Atoms, angles: np.ndarray) -> np.ndarray:
    """Energies in meV/atom, relative to their mean, of a structure turned about an axis."""
    turned = []
    for angle in angles:
        copy = atoms.copy()
        copy.rotate(angle, (1, 2, 3), center="COM")
        turned.append(copy)
    results = atoms.calc.calculate_many(turned, ["energy"])
    energy = 1000 * np.array([r["energy"] for r in results]) / len(atoms)
    return energy - energy.mean()


def spin(atoms: Atoms, steps: int) -> np.ndarray:
    """Angular momentum in ħ after each step of 0.5 fs, for a free cluster let go at rest."""
    hbar = units._hbar * units.J * units.s
    dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
    momenta = [np.linalg.norm(atoms.get_angular_momentum()) for _ in dynamics.irun(steps)]
    return np.array(momenta) / hbar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pet-water")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--angles", type=int, default=73)
    arguments = parser.parse_args()
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    angles = np.linspace(0, 360, arguments.angles)
    print(f"{'':20}{'energy over orientations':>28}{'angular momentum at the end':>32}")
    for label, symmetrize in KINDS.items():
        atoms = ase.io.read(files("pointedge.data") / "structures" / "water-3.xyz")
        atoms.calc = PETCalculator(arguments.model, dtype="float64", symmetrize=symmetrize)
        energy = energies_of_turns(atoms, angles)
        momentum = spin(atoms, arguments.steps)
        print(f"{label:20}{np.ptp(energy):19.2e} meV/atom{momentum[-1]:30.2e} ħ", flush=True)
        left.plot(angles, energy, label=label)
        right.plot(0.5 * np.arange(len(momentum)), momentum, label=label)
    left.set(xlabel="angle of the turn (degrees)", ylabel="energy − mean (meV/atom)")
    right.set(xlabel="time (fs)", ylabel="angular momentum (ħ)")
    left.set_title("three water molecules, turned")
    right.set_title("the same, let go at rest")
    left.legend()
    figure.savefig("turned.png", dpi=150)


if __name__ == "__main__":
    main()
