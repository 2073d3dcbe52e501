"""Pair potentials for the audit, sound and faulty, and small structures for them."""

from __future__ import annotations

import itertools

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from pointedge.calculators.audit import CHECKS, Subject
from pointedge.calculators.audit.runner import run_check

CUTOFF = 4.6  # Å, beside a shell of the crystal
TINY = 1e-30  # of the complex step, which differentiates without rounding


class Pair(Calculator):
    """Σ u(r) over pairs; forces are -``scale`` dE/dx, and ``swirl`` eV/Å² turns pairs about z."""

    implemented_properties = ("energy", "forces")

    def __init__(self, potential, cutoff=CUTOFF, *, scale=1.0, swirl=0.0):
        super().__init__()
        self.potential, self.cutoff, self.scale, self.swirl = potential, cutoff, scale, swirl

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        places, cell = self.atoms.positions, np.asarray(self.atoms.cell)
        images = np.array(
            list(itertools.product(*[range(-2 * p, 2 * p + 1) for p in self.atoms.pbc]))
        )
        vector = (places + (images @ cell)[:, None])[None] - places[:, None, None]
        distance = np.linalg.norm(vector, axis=-1)
        i, *rest = np.nonzero((distance < self.cutoff + 0.5) & (distance > 0))
        distance, vector = distance[i, *rest], vector[i, *rest]
        value = self.potential(distance + TINY * 1j)
        slope = value.imag / TINY
        pairs = self.scale * (slope / distance)[:, None] * vector
        envelope = self.swirl * (distance < 3.5) * (1 - (distance / 3.5) ** 2) ** 3
        pairs += envelope[:, None] * np.cross([0.0, 0.0, 1.0], vector)
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, pairs)
        self.results = {"energy": 0.5 * value.real.sum(), "forces": forces}


def morse(r, depth=0.3, a=1.4, bond=2.6):
    e = np.exp(-a * (r - bond))
    return depth * (e * e - 2 * e)


def _inside(r, values):
    return np.where(r.real < CUTOFF, values, 0.0)


def smooth(r):
    """Two continuous derivatives at the cutoff, more than a force needs."""
    x = r / CUTOFF
    return _inside(r, morse(r) * (1 - x**3 * (10 - 15 * x + 6 * x**2)))


def truncated(r):
    return _inside(r, morse(r))


def shifted(r):
    return _inside(r, morse(r) - morse(np.array(CUTOFF)))


def cosine(r):
    return _inside(r, morse(r) * 0.5 * (1 + np.cos(np.pi * r / CUTOFF)))


def with_well(r):
    return smooth(r) - 0.05 * np.exp(-(((r - 4.0) / 0.2) ** 2))


def with_core(r):
    """Atoms that come closer than some 1.4 Å fall into each other."""
    return smooth(r) - 1500.0 * np.exp(-((r / 0.55) ** 2))


def structures(number=29):
    crystal = bulk("Cu", a=3.7, cubic=True)
    crystal.rattle(0.05, seed=1)
    free = bulk("Cu", a=3.7, cubic=True).repeat((2, 1, 1))[:5]
    free = Atoms(free.numbers, free.positions)
    free.rattle(0.05, seed=2)
    for atoms in (crystal, free):
        atoms.numbers[:] = number
    return {"free": free, "crystal": crystal}


def audit(check, calculator, **settings):
    """Run one check by its name."""
    settings = {"structures": structures(), **settings}
    return run_check(CHECKS[check], Subject(calculator, **settings))
