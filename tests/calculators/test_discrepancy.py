"""How far errors and answers of a model depend on orientation."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.testing import assert_allclose

from pointedge.calculators import PETCalculator, PotentialCalculator
from pointedge.calculators.comparison import Frame, turned
from pointedge.calculators.evaluation import evaluate
from pointedge.potentials.graph import random_rotations
from pointedge.potentials.potential import Potential

from .conftest import MomentNetwork, bulk, small_potential, structures
from .labelled import Told


class FieldPair(Calculator):
    """A dimer of energy k x² where x is the first component of the bond: not invariant."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012
    k = 0.3

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x = atoms.positions[1, 0] - atoms.positions[0, 0]
        force = np.array([2 * self.k * x, 0, 0])
        self.results = {"energy": self.k * x**2, "forces": np.stack([force, -force])}


def test_discrepancy_of_an_anisotropic_pair():
    """E = k x² of a bond d over O(3): E = k d² (mean 1/3, variance 4/45 of cos²)."""
    d, count = 1.7, 1000
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, d, 0]], info={"REF_energy": 0.0})
    found = evaluate(FieldPair(), [atoms], rotations=count).rotational_discrepancy
    turns = random_rotations(count, generator=torch.Generator().manual_seed(0)).numpy()
    x = d * turns[:, 1, 0]
    energy = np.std(FieldPair.k * x**2 / 2, ddof=1)
    back = (2 * FieldPair.k * x)[:, None] * turns[:, :, 0]  # force on the first atom, turned back
    forces = np.sqrt(np.var(back, axis=0, ddof=1).mean())
    assert_allclose([found.energy_per_atom, found.forces], [1000 * energy, 1000 * forces])
    sampling = 3 / np.sqrt(2 * count)  # three standard errors, and cos² is milder than a normal
    exact = 1000 * FieldPair.k * d**2 / 2 * np.sqrt(4 / 45)
    assert_allclose(found.energy_per_atom, exact, rtol=sampling)


def test_discrepancy_sees_improper_rotations():
    class Handed(Told):
        implemented_properties = ["energy"]  # noqa: RUF012

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            Calculator.calculate(self, atoms, properties, system_changes)
            self.results = {
                "energy": float(np.linalg.det(atoms.positions[1:] - atoms.positions[0]))
            }

    atoms = Atoms("H4", positions=[[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    atoms.info["REF_energy"] = 0.0
    found = evaluate(Handed(), [atoms], rotations=400).rotational_discrepancy
    assert_allclose(found.energy_per_atom, 1000 / 4, rtol=0.02)  # ± 1 with equal odds


def label(calculator, data):
    """Labels from the calculator itself, with errors of 0.1 eV/Å in all forces."""
    for atoms in data:
        atoms.calc = calculator
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces() + 0.1
        atoms.calc = None
    return data


def test_pet():
    calculator = PETCalculator(small_potential())
    data = label(calculator, list(structures().values()))
    atoms = data[0]
    atoms.calc = calculator
    atoms.info["REF_stress"] = atoms.get_stress(voigt=False) - 0.01
    atoms.calc = None
    found = evaluate(calculator, data, rotations=3)
    assert found.overall.energy_per_atom.rmse < 1e-6
    assert_allclose([found.overall.forces.mae, found.overall.forces.rmse], 100)
    assert_allclose(found.overall.stress.rmse, 10)
    assert found.rotational_discrepancy.forces > 0.1  # random weights: far from invariant
    gold = bulk()
    gold.numbers[3] = 79
    gold.info["REF_energy"] = 0.0
    with pytest.raises(ValueError, match=r"^frame 7 of z.xyz: atom 3 is Au, .* it knows H, O\.$"):
        evaluate(calculator, [Frame(a, "z.xyz", k) for k, a in enumerate([*data, gold])])


def test_discrepancy_of_an_invariant_model_is_rounding():
    found = evaluate(LennardJones(), label(LennardJones(), [bulk()]), rotations=4)
    scale = np.abs(found.comparison.forces).max()
    assert found.rotational_discrepancy.energy_per_atom < 1e-9 * scale
    assert found.rotational_discrepancy.forces < 1e-9 * scale


@pytest.mark.parametrize("key", ["magmoms", "REF_magmoms"])
def test_moments_turn_wherever_the_file_had_them(key):
    """ASE's reader of extended XYZ takes a column called magmoms for results, which no copy has."""
    atoms, moments = bulk(), np.random.default_rng(0).normal(size=(16, 3))
    if key == "magmoms":
        atoms.calc = SinglePointCalculator(atoms, energy=1.0, magmoms=moments)
    else:
        atoms.info["REF_energy"], atoms.arrays[key] = 1.0, moments
    (matrix,) = -random_rotations(1, generator=torch.Generator().manual_seed(0)).numpy()
    found = turned(atoms, matrix).get_initial_magnetic_moments()
    assert_allclose(found, -moments @ matrix)  # axial vectors stay where space is inverted
    calculator = PotentialCalculator(Potential(MomentNetwork()))
    spread = evaluate(calculator, [Frame(atoms)], rotations=3).rotational_discrepancy
    assert spread.energy_per_atom < 1e-9
