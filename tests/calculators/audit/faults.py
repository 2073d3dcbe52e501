"""Faults planted in clean calculators, and what the audit may say of each.

EXPECTED was written before the audit was run on any of them. To plant another: a class that is
wrong in one thing alone, and a line in the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones

from pointedge.calculators.audit import CHECKS, Status, Subject
from pointedge.calculators.audit.findings import Finding
from pointedge.calculators.audit.runner import run_check

from .alloy import CUTOFF, Alloy


def structures() -> dict[str, Atoms]:
    """Cu and Au, of low symmetry: a cluster of four atoms, a crystal and a slab of two."""
    free = bulk("Cu", cubic=True)
    free.set_cell(None)
    free.pbc = False
    free.numbers[::3] = 79
    free.rattle(0.2, seed=1)
    crystal = bulk("Cu", "bcc", a=2.95, cubic=True)
    crystal.numbers[1] = 79
    shear = np.array([[1, 0.1, 0], [0, 1, 0.2], [0.05, 0, 1.05]])
    crystal.set_cell(np.asarray(crystal.cell) @ shear, scale_atoms=True)
    crystal.rattle(0.1, seed=2)
    slab = crystal.copy()
    slab.set_cell(np.asarray(crystal.cell) * [[1], [1], [3]])
    slab.pbc = (True, True, False)
    return {"free": free, "crystal": crystal, "slab": slab}


def subject(calculator, **known) -> Subject:
    """A calculator and the structures of this file."""
    return Subject(calculator, structures(), **known)


def find(name: str, calculator, **known) -> Finding:
    """What one check finds."""
    return run_check(CHECKS[name], subject(calculator, **known))


def failures(finding: Finding) -> list[str]:
    """What failed of a check."""
    return [m.what for m in finding.measured if m.status is Status.FAIL]


def lennard_jones() -> LennardJones:
    """Of the size of copper; its force is continuous."""
    return LennardJones(sigma=2.4, epsilon=0.4, rc=CUTOFF, ro=4.0, smooth=True)


class WrongStressSign(Alloy):
    """The virial, where ASE wants its negative."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if "stress" in self.results:
            self.results["stress"] = -self.results["stress"]


class DroppedImage(Alloy):
    """Of every other atom the nearest image alone, as codes have it that round to the cell."""

    def pairs(self):
        i, j, distance, vector = super().pairs()
        nearest = np.full((len(self.atoms), len(self.atoms)), np.inf)
        np.minimum.at(nearest, (i, j), distance)
        tied = 1e-12  # a pair has to be kept from both of its ends
        kept = (i == j) | (distance <= nearest[i, j] + tied)
        return i[kept], j[kept], distance[kept], vector[kept]


class HardCutoff(Alloy):
    """Neighbours vanish at the cutoff, with what is left of their bond: 0.01 eV."""

    def switch(self, distance):
        return np.ones_like(distance), np.zeros_like(distance)


class SinglePrecisionSum(Alloy):
    """Energies of atoms with a baseline, summed in float32."""

    baseline = -700.0  # eV, of an atom

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energies = (self.results["energies"] + self.baseline).astype(np.float32)
        energy = float(energies.sum(dtype=np.float32))
        self.results.update(energy=energy, free_energy=energy)


class Extra(Alloy):
    """A second term of pairs, which ``extra`` gives: an energy, and what pulls i towards j."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        i, j, distance, vector = self.pairs()
        energy, pulls = self.extra(i, j, distance, vector)
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, pulls)
        np.add.at(forces, j, -pulls)
        self.results["energy"] = self.results["free_energy"] = self.results["energy"] + energy
        self.results["forces"] = self.results["forces"] + forces


class FrameDependent(Extra):
    """Bonds along z are longer: an energy, its forces and stress, of the frame of the user."""

    strength = 1e-3  # eV/Å²

    def extra(self, i, j, distance, vector):
        window, slope = self.switch(distance)
        z = vector[:, 2]
        gradient = (slope / distance * z**2)[:, None] * vector  # by the vector from i to j
        gradient[:, 2] += 2 * z * window
        gradient *= 0.5 * self.strength
        if self.atoms.cell.rank == 3:
            virial = np.einsum("ex,ey->xy", gradient, vector) / self.atoms.get_volume()
            virial = (virial + virial.T) / 2
            self.results["stress"] = self.results["stress"] + virial.ravel()[[0, 4, 8, 5, 2, 1]]
        return 0.5 * self.strength * (window * z**2).sum(), gradient


class NonConservative(Extra):
    """Pairs pull at each other more in a dense place: central forces, of no energy."""

    strength = 1e-2  # eV/Å

    def extra(self, i, j, distance, vector):
        window, _ = self.switch(distance)
        density = np.bincount(i, window, minlength=len(self.atoms))
        size = 0.5 * self.strength * window * (density[i] + density[j]) / distance
        return 0.0, size[:, None] * vector


class StaleCache(Alloy):
    """Looks at positions alone to see whether it has to calculate."""

    def check_state(self, atoms, tol=1e-15):
        changes = super().check_state(atoms, tol)
        return changes if self.atoms is None or "positions" in changes else []


class MutatedAtoms(Calculator):
    """Wraps the structure of its caller into the cell."""

    implemented_properties = Alloy.implemented_properties

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        atoms.wrap()
        super().calculate(atoms, properties, system_changes)
        inner = Alloy()
        inner.calculate(atoms, properties, all_changes)
        self.results = inner.results


@dataclass(frozen=True)
class Expected:
    """What the audit has to say first of a fault, and what else may fail, with a reason each."""

    make: Callable[[], Calculator]
    primary: str
    secondary: dict[str, str] = field(default_factory=dict)


EXPECTED = {
    "wrong stress sign": Expected(WrongStressSign, "stress"),
    "dropped image": Expected(
        DroppedImage,
        "supercell",
        {
            "forces": "a kink where two images are equally near, which difference quotients cross",
            "stress": "the same",
            "cell_choice": "an atom's own images are seen to another distance in a skewed cell",
            "crossing": "an atom passes the place where two images are equally near: forces jump",
            "curvature": "the same on a random line",
            "drift": "the crystal's atoms pass such places",
        },
    ),
    "hard cutoff": Expected(
        HardCutoff,
        "bonds",
        {
            "crossing": "an atom that moves in a crystal passes the cutoffs of others",
            "curvature": "so do all atoms on a random line",
            "drift": "each passage changes the energy and no velocity",
        },
    ),
    "float32 sum": Expected(SinglePrecisionSum, "resolution"),
    "frame-dependent energy": Expected(
        FrameDependent,
        "rotation",
        {
            "inversion": "its improper rotations turn the structure as well",
            "torque": "an energy that depends on orientation turns a free structure",
            "angular_momentum": "the same torque, in a run",
        },
    ),
    "non-conservative forces": Expected(
        NonConservative, "forces", {"drift": "forces of no energy heat or cool a run"}
    ),
    "stale cache": Expected(StaleCache, "caches"),
    "mutated atoms": Expected(
        MutatedAtoms,
        "mutation",
        {"caches": "wrapped atoms are elsewhere once the cell changes without them"},
    ),
}
