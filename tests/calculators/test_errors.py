"""Definitions of errors against plain numpy and hand-made numbers."""

import itertools
import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from numpy.testing import assert_allclose

from pointedge.calculators import PETCalculator
from pointedge.calculators.comparison import Frame
from pointedge.calculators.evaluation import evaluate
from pointedge.potentials.graph import random_rotations

from .conftest import small_potential
from .labelled import ROUNDING, Told, ToldMoments, frame, frames, with_moments, without


class Everything(Told):
    implemented_properties = Told.implemented_properties + ToldMoments.implemented_properties


def test_errors_by_hand():
    atoms = Atoms("HO", positions=[[0, 0, 0], [1, 0, 0]], cell=[5, 5, 5])
    atoms.info.update(REF_energy=-2.0, told_energy=-1.8)
    atoms.arrays["REF_forces"] = np.array([[3.0, 0, 0], [0, 4.0, 0]])
    atoms.arrays["told_forces"] = np.array([[3.0, 0.1, 0], [0, 4.0, -0.3]])
    atoms.info["REF_stress"] = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]  # Voigt
    atoms.info["told_stress"] = np.array([[1.0, 0.3, 0.0], [0.3, 1.0, 0.0], [0.0, 0.0, 1.6]])
    found = evaluate(Told(), [atoms]).overall
    assert (found.frames, found.atoms) == (1, 2)
    assert_allclose([found.energy_per_atom.mae, found.energy_per_atom.rmse], 100)
    assert found.energy_per_atom.offset_corrected is None
    forces = found.forces
    assert_allclose([forces.mae, forces.rmse], [400 / 6, 1000 * np.sqrt(0.1 / 6)])
    # Sorted errors 0 0 0 0 0.1 0.3: place 4.75 of 0 to 5.
    assert_allclose([forces.p95, forces.max], [250, 300])
    assert_allclose(forces.relative_rmse, 100 * np.sqrt(0.1 / 25))
    hydrogen, oxygen = forces.per_element["H"], forces.per_element["O"]
    assert_allclose([hydrogen.mae, hydrogen.max], [100 / 3, 100])
    assert_allclose([oxygen.rmse, oxygen.relative_rmse], [300 / np.sqrt(3), 7.5])
    # Nine components: the shear error counts twice.
    assert_allclose(found.stress.mae, 1000 * (0.3 + 0.3 + 0.6) / 9)
    assert_allclose(found.stress.rmse, 1000 * np.sqrt((0.09 + 0.09 + 0.36) / 9))


def test_errors_against_numpy():
    data = frames()
    found = evaluate(Told(), data).overall
    error = np.concatenate([a.arrays["told_forces"] - a.arrays["REF_forces"] for a in data])
    reference = np.concatenate([a.arrays["REF_forces"] for a in data])
    species = np.concatenate([a.numbers for a in data])
    for chosen, block in (
        (species > 0, found.forces),
        (species == 1, found.forces.per_element["H"]),
        (species == 8, found.forces.per_element["O"]),
    ):
        e = np.abs(error[chosen]).ravel()
        expected = [e.mean(), np.sqrt((e**2).mean()), np.percentile(e, 95), e.max()]
        assert_allclose(
            [block.mae, block.rmse, block.p95, block.max], 1000 * np.array(expected), rtol=ROUNDING
        )
        relative = np.linalg.norm(e) / np.linalg.norm(reference[chosen])
        assert_allclose(block.relative_rmse, 100 * relative, rtol=ROUNDING)
    energy = [0.01 * k / len(a) for k, a in enumerate(data)]
    assert_allclose(found.energy_per_atom.mae, 1000 * np.mean(energy), rtol=1e-10)
    stress = np.array([a.info["told_stress"] - a.info["REF_stress"] for a in data])
    assert_allclose(found.stress.rmse, 1000 * np.sqrt((stress**2).mean()), rtol=1e-10)


def test_offset_correction_removes_the_mean_of_one_composition():
    errors = np.array([0.30, 0.36, 0.33, 0.27])
    data = [frame("H2O", k, energy=e) for k, e in enumerate(errors)]
    energy = evaluate(Told(), data).overall.energy_per_atom
    per_atom = 1000 * errors / 3
    assert_allclose(energy.mae, per_atom.mean())
    assert_allclose(energy.offset_corrected.mae, np.abs(per_atom - per_atom.mean()).mean())
    assert_allclose(energy.offset_corrected.rmse, per_atom.std())


def test_offset_correction_removes_a_constant_of_each_species_only():
    data = [
        frame(f"H{h}O{o}", 5 * h + o, energy=1.3 * h - 7.1 * o)
        for h, o in itertools.product((1, 2, 3), (1, 2, 4))
    ]
    found = evaluate(Told(), data)
    assert found.overall.energy_per_atom.rmse > 1000
    assert found.overall.energy_per_atom.offset_corrected.rmse < 1e-9
    assert any("constant per species" in note for note in found.notes)
    rng = np.random.default_rng(0)
    for atoms in data:
        atoms.info["told_energy"] += len(atoms) * rng.normal()
    energy = evaluate(Told(), data).overall.energy_per_atom
    assert 500 < energy.offset_corrected.rmse < energy.rmse


def test_groups_and_frames_without_one():
    data = frames()
    for k in (0, 2):
        data[k].info["kind"] = "bent"
    data[1].info["kind"] = 7
    found = evaluate(Told(), data, group_by="kind")
    assert list(found.groups) == ["(none)", "7", "bent"]
    alone = evaluate(Told(), [data[0], data[2]]).overall
    bent = found.groups["bent"]
    assert (bent.forces, bent.stress) == (alone.forces, alone.stress)
    assert (bent.frames, bent.atoms) == (2, 6)
    assert bent.energy_per_atom.rmse == alone.energy_per_atom.rmse
    # The offsets are those of all frames, so a group is not corrected on its own.
    assert bent.energy_per_atom.offset_corrected != alone.energy_per_atom.offset_corrected
    with pytest.raises(ValueError, match="no frame has 'sort' in its info"):
        evaluate(Told(), data, group_by="sort")


def test_worst_frames():
    data = [frame("H2O", seed) for seed in range(8)]
    for k in (5, 1, 6, 2, 7):
        data[k].arrays["told_forces"][k % 3, 1] += 1 + k
    without(data[4], "REF_forces")
    data[4].info["told_energy"] += 5
    worst = evaluate(Told(), [Frame(a, "x.xyz", 10 * k) for k, a in enumerate(data)]).worst
    assert [w.index for w in worst] == [70, 60, 50, 20, 10]
    assert worst[0].file == "x.xyz"
    error = data[7].arrays["told_forces"] - data[7].arrays["REF_forces"]
    assert_allclose(worst[0].force_rmse, 1000 * np.sqrt((error**2).mean()))
    assert_allclose(worst[0].max_force_error, 1000 * np.abs(error).max())
    assert (worst[0].max_force_error_atom, worst[0].max_force_error_element) == (1, "H")
    only = evaluate(Told(), [data[3], data[4]]).worst[1]  # frames without forces come last
    assert (only.index, only.force_rmse, only.max_force_error_atom) == (1, None, None)
    assert_allclose(only.energy_error, 5000 / 3)


def test_missing_labels_are_none_and_count_nowhere():
    data = frames()
    alone = evaluate(Told(), data).overall
    atom = without(frame("H", 9, energy=0.5, volume=False), "REF_forces", "REF_stress")
    found = evaluate(Told(), [*data, atom]).overall
    assert (found.forces, found.stress) == (alone.forces, alone.stress)
    assert found.energy_per_atom.mae > alone.energy_per_atom.mae
    energies = evaluate(Told(), [atom]).to_dict()
    assert energies["forces"] is energies["stress"] is None
    assert energies["energy_per_atom"]["offset_corrected"] is None
    forces = evaluate(Told(), [without(a, "REF_energy", "REF_stress") for a in data]).to_dict()
    assert forces["energy_per_atom"] is forces["stress"] is None
    assert forces["worst"][0]["energy_error"] is None
    assert "NaN" not in json.dumps([energies, forces])


def test_moments_against_numpy():
    data = [with_moments(a, seed) for seed, a in enumerate(frames())]
    for k in (1, 3):
        data[k].info["kind"] = "odd"
    without(data[4], "REF_dipole")
    found = evaluate(Everything(), data, group_by="kind", rotations=2)
    plain = evaluate(Told(), data, rotations=2)
    assert found.overall.forces == plain.overall.forces
    assert plain.overall.dipole is None
    assert plain.notes[:-1] == [
        f"{name} labels are left out: the calculator gives no {name}."
        for name in ("dipole", "polarizability")
    ]
    assert found.notes == plain.notes[-1:]  # another one, on offsets
    dipole = np.array([a.info["told_dipole"] - a.info["REF_dipole"] for a in data[:4]])
    tensor = np.array([a.info["told_polarizability"] for a in data])
    tensor = tensor - np.array([a.info["REF_polarizability"].reshape(3, 3) for a in data])
    for block, chosen in ((found.overall, slice(None)), (found.groups["odd"], slice(1, 4, 2))):
        for errors, error in ((block.dipole, dipole), (block.polarizability, tensor)):
            expected = [np.abs(error[chosen]).mean(), np.sqrt((error[chosen] ** 2).mean())]
            assert_allclose([errors.mae, errors.rmse], 1000 * np.array(expected), rtol=ROUNDING)


def test_model_without_energy():
    """Only what it gives is asked for; frames without such labels count nowhere."""
    data = [with_moments(Atoms("H2O", positions=np.eye(3)), seed) for seed in range(3)]
    calculator = ToldMoments()
    found = evaluate(calculator, [frame("H2O", 7), *data])
    assert calculator.calls == len(data) + 1
    alone = evaluate(ToldMoments(), data)
    assert found.overall.dipole == alone.overall.dipole
    assert (found.worst, alone.worst, alone.notes) == ([], [], [])
    assert found.notes[0] == "energy labels are left out: the calculator gives no energy."
    written = alone.to_dict()
    assert written["energy_per_atom"] is written["forces"] is written["stress"] is None
    assert written["polarizability"] == vars(alone.overall.polarizability)


def test_nothing_to_compare():
    cell = frame("H2O", 0)
    moments = with_moments(Atoms("H"), 0)
    for calculator, atoms, message in (
        (ToldMoments(), cell, "labels of energy, forces, stress, and the calculator gives dipole"),
        (Told(), moments, "labels of dipole, polarizability, and .* gives energy, forces, stress;"),
    ):
        with pytest.raises(ValueError, match=f"^there is nothing to compare: .*{message}"):
            evaluate(calculator, [atoms], rotations=2)
        assert calculator.calls == 0


def test_plot_of_moments(tmp_path):
    found = evaluate(ToldMoments(), [with_moments(Atoms("H"), 1)], model="m")
    found.plot(tmp_path / "parity.pdf")
    assert (tmp_path / "parity.pdf").read_bytes().startswith(b"%PDF")


def test_discrepancy_of_moments_that_do_not_turn():
    count = 1000
    atoms = with_moments(frame("H2O", 0), 0)
    found = evaluate(ToldMoments(), [atoms], rotations=count).rotational_discrepancy
    turns = random_rotations(count, generator=torch.Generator().manual_seed(0)).numpy()
    dipole, tensor = atoms.info["told_dipole"], atoms.info["told_polarizability"]
    for spread, back in (
        (found.dipole, np.array([dipole @ np.linalg.inv(turn) for turn in turns])),
        (found.polarizability, np.array([turn @ tensor @ np.linalg.inv(turn) for turn in turns])),
    ):
        assert_allclose(spread, 1000 * np.sqrt(np.var(back, axis=0, ddof=1).mean()), rtol=1e-10)
    assert (found.energy_per_atom, found.forces) == (None, None)
    sampling = 3 / np.sqrt(2 * count)  # three standard errors, and components are bounded
    assert_allclose(found.dipole, 1000 * np.linalg.norm(dipole) / np.sqrt(3), rtol=sampling)


@pytest.mark.parametrize("properties", [("dipole", "polarizability"), ("energy", "dipole")])
def test_discrepancy_of_networks(properties):
    data = [with_moments(a, k) for k, a in enumerate((molecule("H2O"), molecule("H2O2")))]
    spreads = {}
    for symmetry in ("none", "layers"):
        calculator = PETCalculator(small_potential(properties=properties, symmetry=symmetry))
        found = evaluate(calculator, data, rotations=3)
        turned = vars(found.rotational_discrepancy)
        spreads[symmetry] = [x for x in turned.values() if x is not None]
        assert (turned["polarizability"] is None) == ("polarizability" not in properties)
        assert (turned["forces"] is None) == ("energy" not in properties)
        predicted = [calculator.get_property("dipole", atoms) for atoms in data]
        assert_allclose(found.comparison.predicted_dipole, predicted, rtol=ROUNDING, atol=ROUNDING)
    assert min(spreads["none"]) > 1
    assert max(spreads["layers"]) < 1e-9  # thousandths


def test_reference_forces_of_zero_have_no_relative_error():
    atoms = frame("H2", 0)
    atoms.arrays["REF_forces"][:] = 0
    assert evaluate(Told(), [atoms]).overall.forces.relative_rmse is None
