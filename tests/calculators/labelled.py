"""Labelled structures, and a calculator whose errors on them are known."""

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
ROUNDING = 1e-12  # relative, of sums of a few hundred float64 numbers


class Told(Calculator):
    """Predicts the numbers that a structure carries along, so that errors are known."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        self.results = {}
        if "told_energy" in atoms.info:
            self.results["energy"] = atoms.info["told_energy"]
        if "told_forces" in atoms.arrays:
            self.results["forces"] = atoms.arrays["told_forces"].copy()
        if "told_stress" in atoms.info:
            self.results["stress"] = atoms.info["told_stress"][VOIGT]
        for name in ("dipole", "polarizability"):
            if f"told_{name}" in atoms.info:
                self.results[name] = atoms.info[f"told_{name}"].copy()


class ToldMoments(Told):
    """Has no energy, and refuses to be asked for it."""

    implemented_properties = ["dipole", "polarizability"]  # noqa: RUF012


def frame(symbols, seed, *, energy=0.0, volume=True):
    """A labelled structure and predictions with random errors; energy errors are as given."""
    rng = np.random.default_rng(seed)
    n = len(Atoms(symbols))
    atoms = Atoms(symbols, positions=rng.normal(size=(n, 3)), cell=[5, 6, 7] if volume else None)
    atoms.info["REF_energy"] = float(rng.normal())
    atoms.info["told_energy"] = atoms.info["REF_energy"] + energy
    atoms.arrays["REF_forces"] = rng.normal(size=(n, 3))
    atoms.arrays["told_forces"] = atoms.arrays["REF_forces"] + 0.1 * rng.normal(size=(n, 3))
    stress, error = rng.normal(size=(2, 3, 3))
    atoms.info["REF_stress"] = stress + stress.T
    atoms.info["told_stress"] = atoms.info["REF_stress"] + 0.01 * (error + error.T)
    return atoms


def with_moments(atoms, seed):
    """The structure with labels and predictions of dipole and polarizability (9 numbers) too."""
    rng = np.random.default_rng(seed)
    for name, size in (("dipole", 3), ("polarizability", 9)):
        atoms.info[f"REF_{name}"] = rng.normal(size=size)
        told = atoms.info[f"REF_{name}"] + 0.1 * rng.normal(size=size)
        atoms.info[f"told_{name}"] = told if size == 3 else told.reshape(3, 3)
    return atoms


def without(atoms, *names):
    for name in names:
        atoms.info.pop(name, None)
        atoms.arrays.pop(name, None)
    return atoms


def frames():
    symbols = ["H2O", "HO", "H2O", "OH3", "O2"]
    return [frame(s, seed, energy=0.01 * seed) for seed, s in enumerate(symbols)]
