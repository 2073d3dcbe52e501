"""A sound potential of Cu and Au, in which faults are planted: it passes every check of the audit.

ASE's EMT does not: its dimers have force spikes where its switch ends.
"""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress

DEPTH, STIFFNESS = 0.3, 1.4  # eV, 1/Å
DIAMETERS = {29: 2.5, 79: 2.8}  # Å
CUTOFF = 5.5  # Å
CLOSEST = 0.01  # Å


class Alloy(Calculator):
    """Morse pairs times a switch that ends with three continuous derivatives.

    u(r) = D (e² - 2e) (1 - r²/R²)⁴ with e = exp(-a (r - r0)), half of it each atom's own.
    """

    implemented_properties = ("energy", "free_energy", "energies", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Energies, forces -dE/dx, and stress of what has a volume.

        Raises:
            ValueError: of other elements, positions that are no numbers or equal, and no cell.
        """
        super().calculate(atoms, properties, system_changes)
        self._check()
        i, j, distance, vector = self.pairs()
        if distance.min(initial=np.inf) < CLOSEST:
            raise ValueError("two atoms are in one place.")
        value, slope = self.bond(i, j, distance)
        pulls = (slope / distance)[:, None] * vector
        energies = 0.5 * np.bincount(i, value, minlength=len(self.atoms))
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, pulls / 2)
        np.add.at(forces, j, -pulls / 2)
        energy = float(energies.sum())
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": energies,
            "forces": forces,
        }
        if self.atoms.cell.rank == 3:
            virial = 0.5 * np.einsum("ex,ey->xy", pulls, vector)
            self.results["stress"] = full_3x3_to_voigt_6_stress(virial / self.atoms.get_volume())

    def pairs(self):
        """Atoms i and j, distances and vectors from i to j, of all pairs within reach."""
        return neighbor_list("ijdD", self.atoms, CUTOFF)

    def bond(self, i, j, distance):
        """Energies of pairs, eV, and their derivatives by the distance."""
        diameter = np.zeros(120)
        diameter[list(DIAMETERS)] = list(DIAMETERS.values())
        rest = (diameter[self.atoms.numbers[i]] + diameter[self.atoms.numbers[j]]) / 2
        e = np.exp(-STIFFNESS * (distance - rest))
        value, slope = DEPTH * (e * e - 2 * e), -2 * STIFFNESS * DEPTH * (e * e - e)
        switch, change = self.switch(distance)
        return value * switch, slope * switch + value * change

    def switch(self, distance):
        """From 1 to 0 at the reach, and its derivative."""
        x = 1 - (distance / CUTOFF) ** 2
        return x**4, -8 * x**3 * distance / CUTOFF**2

    def _check(self):
        unknown = set(self.atoms.numbers) - set(DIAMETERS)
        if unknown:
            raise ValueError(f"elements {sorted(map(int, unknown))} are not known here.")
        if not np.isfinite(self.atoms.positions).all():
            raise ValueError("positions are not finite.")
        if self.atoms.cell.rank < int(np.sum(self.atoms.pbc)):
            raise ValueError("a periodic direction has no cell vector.")
