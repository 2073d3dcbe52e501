"""Results follow every change of what they depend on, and only that."""

import copy

import numpy as np
import pytest
import torch

from pointedge.calculators import PETCalculator, PotentialCalculator
from pointedge.calculators.inputs import InputError
from pointedge.potentials.potential import Potential

from .conftest import MomentNetwork, bulk, charged_potential, slab, small_potential


def shift_positions(atoms):
    atoms.positions[3, 1] += 0.05


def shift_by_one_bit(atoms):
    atoms.positions[3, 1] = np.nextafter(atoms.positions[3, 1], np.inf)


def strain_cell(atoms):
    atoms.cell[0, 0] *= 1.02


def scale_cell(atoms):
    atoms.set_cell(1.03 * atoms.cell[:], scale_atoms=True)


def open_axis(atoms):
    atoms.pbc[0] = False


def swap_species(atoms):
    atoms.numbers[:2] = atoms.numbers[1::-1]


def change_species(atoms):
    atoms.symbols[0] = "H"


def charge(atoms):
    atoms.info["charge"] = 1


def spin(atoms):
    atoms.info["spin"] = 3


def delete(atoms):
    del atoms[5]


def append(atoms):
    atoms.append("H")
    atoms.positions[-1] = [1.3, 1.4, 1.2]


CHANGES = [
    shift_positions,
    strain_cell,
    scale_cell,
    open_axis,
    swap_species,
    change_species,
    charge,
    spin,
    delete,
    append,
]


@pytest.fixture(scope="module")
def charged():
    return charged_potential()


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(charged, change):
    """Each getter on its own gives what a calculator without history gives."""
    for getter in ("get_potential_energy", "get_forces", "get_stress"):
        atoms = bulk()
        atoms.calc = PETCalculator(charged)
        before = getattr(atoms, getter)()
        change(atoms)
        assert atoms.calc.calculation_required(atoms, ["energy"])
        after = getattr(atoms, getter)()
        fresh = atoms.copy()
        fresh.calc = PETCalculator(charged)
        expected = getattr(fresh, getter)()
        np.testing.assert_allclose(after, expected, rtol=1e-13, atol=1e-11)
        assert np.shape(after) != np.shape(before) or np.abs(after - before).max() > 1e-6


def test_one_bit_is_a_change(calculator):
    atoms = bulk()
    atoms.calc = calculator
    atoms.get_forces()
    shift_by_one_bit(atoms)
    assert calculator.check_state(atoms) == ["positions"]


def test_a_change_of_the_calculators_own_structure_is_seen(calculator):
    calculator.calculate(bulk(), ["forces"])
    own = calculator.atoms
    own.calc = calculator
    before = own.get_forces()
    own.positions[0, 0] += 0.1
    assert np.abs(own.get_forces() - before).max() > 1e-4


def test_charge_in_an_array_that_changes_in_place(charged):
    atoms = bulk()
    atoms.info["charge"] = np.array(0)
    atoms.calc = PETCalculator(charged)
    before = atoms.get_potential_energy()
    atoms.info["charge"][()] = 2
    assert abs(atoms.get_potential_energy() - before) > 1e-6


def test_missing_inputs_are_their_defaults(charged):
    atoms = bulk()
    atoms.calc = PETCalculator(charged)
    energy = atoms.get_potential_energy()
    atoms.info.update(charge=0, spin=1)
    assert not atoms.calc.check_state(atoms)
    assert atoms.get_potential_energy() == energy


def test_magnetic_moments():
    atoms = bulk()
    atoms.calc = PotentialCalculator(Potential(MomentNetwork()))
    atoms.set_initial_magnetic_moments(np.zeros(16))
    energies = [atoms.get_potential_energy()]
    atoms.set_initial_magnetic_moments(np.full(16, 1.0))
    energies.append(atoms.get_potential_energy())
    atoms.arrays["initial_magmoms"][2] = 3.0
    energies.append(atoms.get_potential_energy())
    del atoms.arrays["initial_magmoms"]
    with pytest.raises(InputError, match="the structure has none"):
        atoms.get_potential_energy()
    atoms.set_initial_magnetic_moments([[0, 1, 0]] * 16)
    energies.append(atoms.get_potential_energy())
    np.testing.assert_allclose(np.diff(energies), [0.3 * 16, 0.3 * 8, -0.3 * 8], rtol=1e-10)


def count_runs(calculator, monkeypatch):
    runs = []
    forward = calculator.potential.forward
    monkeypatch.setattr(
        calculator.potential,
        "forward",
        lambda *args, **options: runs.append(options) or forward(*args, **options),
    )
    return runs


def test_one_run_serves_forces_energy_and_stress(calculator, monkeypatch):
    runs = count_runs(calculator, monkeypatch)
    atoms = bulk()
    atoms.calc = calculator
    for _ in range(2):
        atoms.get_forces()
        atoms.get_potential_energy()
        atoms.get_potential_energies()
        atoms.get_stress()
    assert runs == [{"forces": True, "virial": True}]


def test_energy_alone_needs_no_gradient(calculator, monkeypatch):
    runs = count_runs(calculator, monkeypatch)
    atoms = bulk()
    atoms.calc = calculator
    atoms.get_potential_energy()
    atoms.get_potential_energies()
    assert runs == [{"forces": False, "virial": False}]
    assert set(calculator.results) == {"energy", "free_energy", "energies"}
    atoms.get_forces()
    assert len(runs) == 2


def turn_weights(calculator):
    with torch.no_grad():
        for weight in calculator.potential.network.parameters():
            weight.mul_(1.1)


def replace_potential(calculator):
    calculator.potential = small_potential(seed=5).requires_grad_(False).eval()


@pytest.mark.parametrize("change", [turn_weights, replace_potential])
def test_other_properties_stand_beside_those_of_the_same_model_alone(monkeypatch, change):
    atoms = bulk()
    atoms.calc = PETCalculator(small_potential())
    runs = count_runs(atoms.calc, monkeypatch)
    forces = atoms.get_forces()
    features = atoms.calc.get_property("last_layer_features", atoms)
    assert len(features) == 16
    np.testing.assert_array_equal(atoms.get_forces(), forces)
    assert len(runs) == 1
    del atoms.calc.results["last_layer_features"]
    change(atoms.calc)
    atoms.calc.get_property("last_layer_features", atoms)
    assert set(atoms.calc.results) == {"last_layer_features"}
    assert np.abs(atoms.get_forces() - forces).max() > 1e-6


@pytest.mark.parametrize("change", CHANGES)
def test_other_properties_do_not_stand_beside_those_of_another_structure(charged, change):
    """Whether ASE has noticed the change, or nobody but the calculator can."""
    features = ["last_layer_features"]
    calculator = PETCalculator(charged)
    for calculate in (
        lambda atoms: calculator.get_property(*features, atoms),
        lambda atoms: calculator.calculate(atoms, features),
        lambda atoms: calculator.calculate(atoms, features, []),
    ):
        atoms = bulk()
        calculator.get_forces(atoms)
        change(atoms)
        calculate(atoms)
        assert set(calculator.results) == set(features)


def test_what_the_model_does_not_read_changes_nothing(calculator, monkeypatch):
    runs = count_runs(calculator, monkeypatch)
    atoms = bulk()
    atoms.calc = calculator
    atoms.get_forces()
    atoms.info["charge"] = 1
    atoms.info["note"] = "seen"
    atoms.set_initial_magnetic_moments(np.ones(16))
    atoms.set_momenta(np.ones((16, 3)))
    atoms.set_tags(3)
    atoms.get_forces()
    assert len(runs) == 1


def test_one_calculator_for_several_structures(calculator):
    """In turn, with the neighbours of the other structure in the list that is kept."""
    others = [bulk(), slab(20.0), slab(0.0), bulk()[:7], bulk()[[1, 0, *range(2, 16)]]]
    expected = []
    for atoms in others:
        atoms.calc = PETCalculator(calculator.potential)
        expected.append(atoms.get_forces())
        atoms.calc = calculator
    for _ in range(2):
        for atoms, forces in zip(others, expected, strict=True):
            np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=1e-11)


def test_an_error_leaves_no_result_behind(calculator):
    atoms = bulk()
    atoms.calc = calculator
    forces = atoms.get_forces()
    good = atoms.positions.copy()
    atoms.positions[4] = np.nan
    for _ in range(2):
        with pytest.raises(ValueError, match="not finite"):
            atoms.get_forces()
    atoms.positions[:] = good
    np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=1e-12)


def test_calculate_many_leaves_the_results_of_a_structure(calculator):
    atoms = bulk()
    atoms.calc = calculator
    atoms.get_forces()
    results = copy.deepcopy(calculator.results)
    calculator.calculate_many([slab(0.0), bulk()[:5]])
    assert not calculator.check_state(atoms)
    for name, value in results.items():
        np.testing.assert_array_equal(calculator.results[name], value)


def test_settings_are_fixed(calculator):
    with pytest.raises(ValueError, match=r"dtype cannot be changed; make a new calculator\."):
        calculator.set(dtype="float32")
    assert PETCalculator(small_potential(), skin=0.3).todict()["skin"] == 0.3
