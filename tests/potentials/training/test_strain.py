"""The check of stresses against energies, where strained copies differ in magnetic order too."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from pointedge.potentials.training.strain import StrainedCopies

ORDERS = {"FM": (2.1, 2.1, 0.01, 2.1), "AFM": (2.1, 2.1, -0.01, -2.1)}


def magnets(sign):
    """Strained copies in two orders at other volumes, of which one costs 0.4 eV more."""
    for k, strain in enumerate(np.linspace(-0.02, 0.02, 8)):
        order = "FM" if k < 4 else "AFM"
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell[:] * (1 + strain), True)
        atoms.calc = EMT()
        energy = atoms.get_potential_energy() + (0.4 if order == "FM" else 0.0)
        stress = sign * atoms.get_stress(voigt=False)
        atoms.calc = None
        jitter = (-1) ** k * np.array([0.0, 0.0, 0.02, 0.0])  # of a site with next to none
        atoms.set_initial_magnetic_moments((1 + strain) * np.array(ORDERS[order]) + jitter)
        yield atoms, energy, stress


@pytest.mark.parametrize("sign", [1, -1])
def test_orders_are_not_mixed(sign):
    copies = StrainedCopies()
    for atoms, energy, stress in magnets(sign):
        copies.add(atoms, energy, stress)
    check = copies.check()
    assert check.pairs == 6  # each of an order with the lowest of it
    assert check.slope == pytest.approx(sign, abs=0.05)
    assert check.wrong == (sign < 0)


def test_moments_that_are_no_numbers_do_not_stop_those_who_do_not_read_them():
    copies = StrainedCopies()
    for atoms, energy, stress in magnets(1):
        atoms.arrays["initial_magmoms"][0] = np.nan
        copies.add(atoms, energy, stress)
    assert copies.check().pairs == 6


def test_without_their_moments_they_would_mislead():
    copies = StrainedCopies()
    for atoms, energy, stress in magnets(1):
        del atoms.arrays["initial_magmoms"]
        copies.add(atoms, energy, stress)
    assert not copies.check().verdict.startswith("right")
