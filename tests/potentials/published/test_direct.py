"""Forces and stress that a published model predicts as such, against its own calculator."""

import ase.io
import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError

from pointedge.calculators import PETCalculator
from pointedge.calculators.loading import read_model
from pointedge.potentials import checkpoint
from pointedge.potentials.pet.published import PublishedError, load
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.run import train

from ...peers.metatrain_references import structures
from .cases import CASES, FORMAT, original_folder, unpacked

RELATIVE, ABSOLUTE = 1e-9, 1e-8  # eV/Å, eV/Å³


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return unpacked("direct.ckpt.gz", tmp_path_factory.mktemp("direct"))


def test_they_are_those_of_metatomic(model):
    expected = np.load(FORMAT / "direct.npz")
    calculator = PETCalculator(model, non_conservative=True)
    molecule, crystal = structures()
    many = calculator.calculate_many([molecule, crystal], ("energy", "forces"))
    for k, atoms in enumerate((molecule, crystal)):
        atoms.calc = calculator
        energy, forces = expected[f"{k}/energy"], expected[f"{k}/forces"]
        assert atoms.get_potential_energy() == pytest.approx(energy, rel=RELATIVE)
        np.testing.assert_allclose(atoms.get_forces(), forces, atol=ABSOLUTE)
        np.testing.assert_allclose(many[k]["forces"], forces, atol=ABSOLUTE)
        np.testing.assert_allclose(forces.sum(axis=0), 0, atol=ABSOLUTE)
    np.testing.assert_allclose(crystal.get_stress(), expected["1/stress"], atol=ABSOLUTE)


def test_without_asking_forces_are_derivatives(model):
    with pytest.warns(UserWarning, match=r"direct predictions .*non_conservative=True reads"):
        plain = PETCalculator(model)
    crystal = structures()[1]
    direct = PETCalculator(model, non_conservative=True)
    assert plain.get_potential_energy(crystal) == pytest.approx(
        direct.get_potential_energy(crystal)
    )
    assert np.abs(plain.get_forces(crystal) - direct.get_forces(crystal)).max() > 0.1
    step = 1e-4
    energies = []
    for sign in (1, -1):
        moved = crystal.copy()
        moved.positions[0, 0] += sign * step
        energies.append(plain.get_potential_energy(moved))
    slope = (energies[1] - energies[0]) / (2 * step)
    assert plain.get_forces(crystal)[0, 0] == pytest.approx(slope, abs=1e-5)


@pytest.mark.filterwarnings("ignore:.*direct predictions")
def test_a_cell_that_is_nearly_flat_has_neither_stress(model):
    molecule = structures()[0]
    molecule.cell = [[5, 0, 0], [0, 5, 0], [0, 5, 1e-6]]
    for direct in (True, False):
        molecule.calc = PETCalculator(model, non_conservative=direct)
        assert np.abs(molecule.get_forces()).max() > 0.1
        assert "stress" not in molecule.calc.results
        with pytest.raises(PropertyNotImplementedError, match="span no volume"):
            molecule.get_stress()


def test_they_are_kept_if_wanted_and_symmetrised(model, tmp_path):
    path = tmp_path / "kept.safetensors"
    checkpoint.save(read_model(model, direct=True), path)
    molecule = structures()[0]
    kept, original = (PETCalculator(m, non_conservative=True) for m in (path, model))
    np.testing.assert_array_equal(kept.get_forces(molecule), original.get_forces(molecule))
    derivatives = PETCalculator(path).get_forces(molecule)
    assert np.abs(derivatives - kept.get_forces(molecule)).max() > 0.1
    exact = PETCalculator(path, non_conservative=True, symmetrize="ecse-structure")
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = molecule.copy()
    turned.positions = molecule.positions @ turn
    expected = exact.get_forces(molecule) @ turn
    np.testing.assert_allclose(exact.get_forces(turned), expected, atol=ABSOLUTE)
    assert np.abs(kept.get_forces(turned) - kept.get_forces(molecule) @ turn).max() > 1e-3


def test_models_without_them(tmp_path):
    case = CASES / "case1_default_small_f64.ckpt"
    with pytest.raises(PublishedError, match="predicts no forces but as derivatives of energy"):
        load(case, direct=True)
    with pytest.raises(PublishedError, match="predicts no forces but as derivatives"):
        load(original_folder(tmp_path / "original"), direct=True)
    with pytest.raises(ValueError, match="leave out non_conservative=True"):
        PETCalculator("pet-water", non_conservative=True)


def test_they_are_not_trained(model, tmp_path):
    path = tmp_path / "kept.safetensors"
    checkpoint.save(read_model(model, direct=True), path)
    atoms = structures()[0]
    atoms.info["REF_energy"] = -1.0
    for k, name in enumerate("ab"):
        atoms.positions[0, 0] += 0.01 * k
        ase.io.write(tmp_path / f"{name}.xyz", atoms)
    run = {
        "start_from": str(path),
        "data": {"train": {"files": ["a.xyz"]}, "validation": {"files": ["b.xyz"]}},
        "loss": {"forces": 0.0},
    }
    with pytest.raises(ValueError, match=r"predicts non_conservative_forces and .* not trained"):
        train(TrainingConfig.from_dict(run), tmp_path / "run", folder=tmp_path)
