"""What the calculator returns: against the potential, finite differences and other settings."""

import copy
import pickle

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.md.verlet import VelocityVerlet
from ase.units import fs

from pointedge.calculators import PETCalculator, PotentialCalculator
from pointedge.potentials.graph import Graph
from pointedge.potentials.potential import Potential

from .conftest import (
    BASELINE,
    MomentNetwork,
    bulk,
    charged_potential,
    set_temperature,
    small_potential,
    structures,
)

STRUCTURES = structures()
WITHOUT_VOLUME = ("slab without third vector", "molecule", "atom", "two atoms out of reach")


def scale_of_energies(potential, atoms):
    """Σ|E_i| of the network in eV, in which energy differences are judged."""
    prediction = potential(Graph.from_atoms(atoms, potential.cutoff))
    return prediction.energies.abs().sum().item()


@pytest.mark.parametrize("name", STRUCTURES)
def test_agrees_with_the_potential(potential, name):
    atoms = STRUCTURES[name].copy()
    atoms.calc = PETCalculator(potential)
    prediction = potential(Graph.from_atoms(atoms, potential.cutoff), virial=True)
    expected = prediction.energies + prediction.atomic_baseline
    tolerance = 1e-12 * (prediction.energies.abs().sum() + prediction.baseline.abs().sum()).item()

    np.testing.assert_allclose(atoms.get_potential_energies(), expected, rtol=0, atol=tolerance)
    assert atoms.get_potential_energy() == pytest.approx(expected.sum().item(), abs=tolerance)
    free_energy = atoms.get_potential_energy(force_consistent=True)
    assert free_energy == atoms.get_potential_energy()
    forces = prediction.forces.numpy()
    limit = 1e-10 * max(np.abs(forces).max(), 1e-3)
    np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=limit)
    if name not in WITHOUT_VOLUME:
        stress = prediction.virial[0].numpy() / abs(np.linalg.det(atoms.cell[:]))
        np.testing.assert_allclose(atoms.get_stress(voigt=False), stress, rtol=0, atol=limit)
        xx, yy, zz, yz, xz, xy = atoms.get_stress()
        matrix = [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
        np.testing.assert_array_equal(atoms.get_stress(voigt=False), matrix)


@pytest.mark.parametrize("name", WITHOUT_VOLUME)
def test_no_stress_without_volume(calculator, name, monkeypatch):
    atoms = STRUCTURES[name].copy()
    atoms.calc = calculator
    atoms.get_forces()
    assert set(calculator.results) == {"energy", "free_energy", "energies", "forces"}
    monkeypatch.setattr(calculator.potential, "forward", None)  # the model must not run
    with pytest.raises(PropertyNotImplementedError, match="span no volume"):
        atoms.get_stress()
    assert calculator.get_property("stress", atoms, allow_calculation=False) is None


def test_isolated_atoms_have_their_baseline_and_no_force(potential):
    shift = {z: potential(Graph.from_atoms(Atoms([z]), 3.5)).energy.item() for z in (1, 8)}
    for atoms in (Atoms("O"), Atoms("OH", positions=[[0, 0, 0], [0, 0, 3.6]])):
        atoms.calc = PETCalculator(potential)
        expected = sum(BASELINE[z] + shift[z] for z in atoms.numbers)
        assert atoms.get_potential_energy() == pytest.approx(expected, rel=1e-14)
        assert (atoms.get_forces() == 0).all()


@pytest.mark.parametrize("name", ["bulk", "slab", "molecule"])
def test_forces_are_the_derivative_of_the_energy(name):
    atoms = STRUCTURES[name].copy()
    atoms.calc = PETCalculator(small_potential(baseline={}))
    forces = atoms.get_forces()
    # Central differences err as eps² in truncation and 1/eps in rounding: eliminate the former.
    some = [0, 1, len(atoms) - 1]
    fine, coarse = (calculate_numerical_forces(atoms, eps, iatoms=some) for eps in (5e-4, 1e-3))
    error = np.abs((4 * fine - coarse) / 3 - forces[some]).max() / np.abs(forces).max()
    assert error < 1e-7


@pytest.mark.parametrize("name", ["bulk", "slab", "molecule in a box"])
def test_stress_is_the_derivative_of_the_energy(name):
    atoms = STRUCTURES[name].copy()
    atoms.calc = PETCalculator(small_potential(baseline={}))
    stress = atoms.get_stress()
    fine, coarse = (calculate_numerical_stress(atoms, eps=eps) for eps in (5e-4, 1e-3))
    error = np.abs((4 * fine - coarse) / 3 - stress).max() / np.abs(stress).max()
    assert error < 1e-7


def test_volume_is_that_of_the_users_own_cell(calculator):
    """The same slab in twice the vacuum: half the stress; a left-handed cell: the same stress."""
    stress = {}
    for height in (20.0, 40.0, -20.0):
        atoms = STRUCTURES["slab"].copy()
        atoms.cell[2, 2] = height
        atoms.calc = calculator
        stress[height] = atoms.get_stress()
    np.testing.assert_allclose(2 * stress[40.0], stress[20.0], rtol=1e-9, atol=1e-16)
    np.testing.assert_allclose(stress[-20.0], stress[20.0], rtol=1e-9, atol=1e-16)


def test_float32_beside_float64(potential):
    single = PETCalculator(potential, dtype="float32")
    double = PETCalculator(potential, dtype=torch.float64)
    atoms = bulk()
    values = {}
    for calc in (single, double, single, double):  # side by side, in turn
        calc.reset()
        atoms.calc = calc
        key = calc.parameters["dtype"]
        new = (atoms.get_potential_energy(), atoms.get_forces())
        if key in values:
            assert new[0] == values[key][0]
            np.testing.assert_array_equal(new[1], values[key][1])
        values[key] = new
    assert single.potential.dtype == torch.float32
    assert double.potential.dtype == potential.dtype == torch.float64
    assert single.potential.baseline.dtype == torch.float64
    difference = abs(values["float32"][0] - values["float64"][0])
    # Rounding of a network of some tens of operations, on the network's energy, not the baseline.
    assert 0 < difference < 1e-5 * scale_of_energies(potential, atoms)
    forces = values["float64"][1]
    assert np.abs(values["float32"][1] - forces).max() < 1e-4 * np.abs(forces).max()
    assert values["float32"][1].dtype == np.float64


def test_default_dtype_is_the_models_own():
    assert PETCalculator(small_potential(dtype=torch.float32)).parameters["dtype"] == "float32"


def test_what_trajectories_and_databases_keep_of_the_settings():
    calculator = PETCalculator(small_potential(), dtype="float32", symmetrize="ecse")
    kept = {"model": "Potential", "device": "cpu", "dtype": "float32", "skin": 0.5}
    assert calculator.parameters == {**kept, "symmetrize": "ecse"}
    text = "model='Potential', device='cpu', dtype='float32', skin=0.5, symmetrize='ecse'"
    assert repr(calculator) == f"PETCalculator({text})"


def test_the_calculator_has_a_frozen_copy_of_the_potential():
    potential = small_potential()
    calculator = PETCalculator(potential, dtype="float32")
    assert all(p.requires_grad and p.dtype == torch.float64 for p in potential.parameters())
    assert not any(p.requires_grad for p in calculator.potential.parameters())


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_work_and_are_independent(calculator, clone):
    atoms = bulk()
    atoms.calc = calculator
    forces = atoms.get_forces()
    other = clone(atoms)
    assert other.calc is not calculator
    assert not other.calc.check_state(other)  # its results are still good
    other.positions += 0.05 * np.sin(np.arange(48)).reshape(16, 3)
    changed = other.get_forces()
    assert not np.allclose(changed, forces)
    np.testing.assert_array_equal(atoms.get_forces(), forces)
    other.positions[:] = atoms.positions
    np.testing.assert_allclose(other.get_forces(), forces, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_structure_is_only_read(name):
    atoms = STRUCTURES[name].copy()
    atoms.info.update(charge=1, spin=2, note=[1, 2])
    atoms.set_array("tags", np.arange(len(atoms)))
    before = copy.deepcopy(atoms)
    for array in (*atoms.arrays.values(), atoms.cell.array, atoms.pbc):
        array.flags.writeable = False
    calculator = PETCalculator(charged_potential())
    calculator.calculate(atoms, ["forces"])
    calculator.calculate_many([atoms, atoms])
    assert atoms.arrays.keys() == before.arrays.keys()
    for key, array in atoms.arrays.items():
        np.testing.assert_array_equal(array, before.arrays[key])
    np.testing.assert_array_equal(atoms.cell[:], before.cell[:])
    np.testing.assert_array_equal(atoms.pbc, before.pbc)
    assert atoms.info == before.info
    assert atoms.calc is None


def test_returned_arrays_can_be_changed(calculator):
    atoms = bulk()
    atoms.calc = calculator
    forces = atoms.get_forces()
    energies = atoms.get_potential_energies()
    kept = forces.copy(), energies.copy()
    forces *= 0
    energies *= 0
    np.testing.assert_array_equal(atoms.get_forces(), kept[0])
    np.testing.assert_array_equal(atoms.get_potential_energies(), kept[1])


def test_skin_makes_no_difference_over_a_run(potential):
    atoms = bulk()
    atoms.calc = PETCalculator(potential, skin=0.5)
    fresh = PETCalculator(potential, skin=0)
    set_temperature(atoms, 600)
    dynamics = VelocityVerlet(atoms, timestep=0.5 * fs)
    for _ in dynamics.irun(20):
        energy = atoms.get_potential_energy()
        forces = atoms.get_forces()
        other = fresh.get_forces(atoms)
        total = sum(abs(BASELINE[z]) for z in atoms.numbers) + scale_of_energies(potential, atoms)
        assert abs(energy - fresh.results["energy"]) <= 1e-12 * total
        assert np.abs(forces - other).max() <= 1e-10 * np.abs(forces).max()
        if dynamics.nsteps == 10:
            atoms.wrap()
    assert atoms.calc._graphs.verlet.builds < 5
    assert fresh._graphs.verlet.builds == fresh._graphs.verlet.updates >= 21


def test_any_architecture():
    calculator = PotentialCalculator(Potential(MomentNetwork()))
    atoms = STRUCTURES["molecule"].copy()
    atoms.calc = calculator
    atoms.set_initial_magnetic_moments([0, 0, 0])
    plain = atoms.get_potential_energy()
    atoms.set_initial_magnetic_moments([0, 0, 2])
    assert atoms.get_potential_energy() == pytest.approx(plain + 0.3 * 4)


def test_moments():
    """Dipole and polarizability come with the energy; a model without energy has only them."""
    atoms = STRUCTURES["molecule"].copy()
    everything = small_potential(properties=("energy", "dipole", "polarizability"))
    atoms.calc = PETCalculator(everything)
    atoms.get_potential_energy()
    dipole = atoms.get_dipole_moment()
    graph = Graph.from_atoms(atoms, everything.cutoff)
    expected = everything(graph).moments
    np.testing.assert_allclose(dipole, expected["dipole"][0].numpy(), rtol=1e-12)
    found = atoms.calc.get_property("polarizability", atoms)
    np.testing.assert_allclose(found, expected["polarizability"][0].numpy(), rtol=1e-12)
    atoms.calc = PETCalculator(small_potential(properties=("dipole",)))
    assert atoms.get_dipole_moment().shape == (3,)
    for ask in (atoms.get_potential_energy, atoms.get_forces):
        with pytest.raises(PropertyNotImplementedError):
            ask()
    (many,) = atoms.calc.calculate_many([atoms], ["dipole"])
    np.testing.assert_allclose(many["dipole"], atoms.get_dipole_moment(), rtol=1e-12)
    with pytest.raises(PropertyNotImplementedError, match="no property 'energy'"):
        atoms.calc.calculate_many([atoms], ["energy"])


def test_nothing_global_changes(potential):
    state = torch.random.get_rng_state()
    before = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    atoms = bulk()
    atoms.calc = PETCalculator(potential, dtype="float64")
    atoms.get_forces()
    assert (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()) == before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_quiet(potential, capfd):
    atoms = bulk()
    atoms.calc = PETCalculator(potential)
    atoms.get_stress()
    assert capfd.readouterr() == ("", "")
