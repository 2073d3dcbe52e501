"""Calculators that stand in for models of the examples, as module:callable, and frames for them."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import all_changes
from ase.calculators.lj import LennardJones
from ase.neighborlist import neighbor_list

from pointedge.data.generate_water_box import FlexibleTIP3P


class Oxide(LennardJones):
    """Lennard-Jones between all atoms, and J Σ m_i m_j of Mn across an O (μ_B², J in eV)."""

    def __init__(self, coupling):
        super().__init__(sigma=2.08, epsilon=0.8, rc=5.5, smooth=True)
        self.coupling = coupling

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        i, j, distance = neighbor_list("ijd", atoms, 5.0)
        moments = atoms.get_initial_magnetic_moments()
        self.results["energy"] += (
            0.5 * self.coupling * (moments[i] * moments[j])[distance > 4].sum()
        )


def water():
    return FlexibleTIP3P(rc=6.2)


def alloy():
    return LennardJones(sigma=2.55, epsilon=0.8, rc=6.0, smooth=True)


def stiffer_alloy():
    return LennardJones(sigma=2.55, epsilon=0.9, rc=6.0, smooth=True)


def oxide():
    return Oxide(2e-4)


def alloy_crystal() -> Atoms:
    """32 atoms of four elements on a fcc lattice, which this pair potential likes better."""
    atoms = bulk("Mo", "fcc", a=3.95, cubic=True).repeat(2)
    atoms.set_atomic_numbers(np.random.default_rng(0).permutation(np.resize([42, 41, 73, 74], 32)))
    return atoms


def oxide_frames() -> list[Atoms]:
    """Both spin orders at four lattice constants, as of data/mno; energies are 15 eV lower."""
    frames = []
    for a in (4.35, 4.42, 4.49, 4.56):
        cell = a / 2 * (np.eye(3) + 1)
        places = [[0] * 3, [0.5] * 3, [0.25] * 3, [0.75] * 3]
        ideal = Atoms("Mn2O2", cell=cell, pbc=True, scaled_positions=places)
        moved = ideal.copy()
        moved.rattle(0.03, seed=1)
        for kind, atoms in (("ideal", ideal), ("distorted", moved)):
            for order, sign in (("AFM-II", -1), ("FM", 1)):
                frame = atoms.copy()
                frame.set_initial_magnetic_moments([5, 5 * sign, 0, 0])
                energy = Oxide(3e-4).get_potential_energy(frame) - 15.0
                frame.info.update(
                    kind=kind, spin_order=order, lattice_constant=a, REF_energy=energy
                )
                frames.append(frame)
    return frames
