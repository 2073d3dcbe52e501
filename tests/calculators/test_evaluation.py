"""Definitions of errors against plain numpy and hand-made numbers."""

import itertools
import json
import os
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from numpy.testing import assert_allclose

from pointedge.calculators import PETCalculator
from pointedge.calculators.comparison import Frame, Keys
from pointedge.calculators.evaluation import evaluate
from pointedge.potentials.graph import random_rotations

from .conftest import bulk, small_potential, structures

VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
ROUNDING = 1e-12  # relative, of sums of a few hundred float64 numbers


class Told(Calculator):
    """Predicts the numbers that a structure carries along, so that errors are known."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        self.results = {"energy": atoms.info["told_energy"]}
        if "told_forces" in atoms.arrays:
            self.results["forces"] = atoms.arrays["told_forces"].copy()
        if "told_stress" in atoms.info:
            self.results["stress"] = atoms.info["told_stress"][VOIGT]


class FieldPair(Calculator):
    """A dimer of energy k x² where x is the first component of the bond: not invariant."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012
    k = 0.3

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x = atoms.positions[1, 0] - atoms.positions[0, 0]
        force = np.array([2 * self.k * x, 0, 0])
        self.results = {"energy": self.k * x**2, "forces": np.stack([force, -force])}


def frame(symbols, seed, *, energy=0.0, volume=True):
    """A labelled structure and predictions with random errors; energy errors are as given."""
    rng = np.random.default_rng(seed)
    n = len(Atoms(symbols))
    atoms = Atoms(symbols, positions=rng.normal(size=(n, 3)), cell=[5, 6, 7] if volume else None)
    atoms.info["REF_energy"] = float(rng.normal())
    atoms.info["told_energy"] = atoms.info["REF_energy"] + energy
    atoms.arrays["REF_forces"] = rng.normal(size=(n, 3))
    atoms.arrays["told_forces"] = atoms.arrays["REF_forces"] + 0.1 * rng.normal(size=(n, 3))
    stress, error = rng.normal(size=(2, 3, 3))
    atoms.info["REF_stress"] = stress + stress.T
    atoms.info["told_stress"] = atoms.info["REF_stress"] + 0.01 * (error + error.T)
    return atoms


def without(atoms, *names):
    for name in names:
        atoms.info.pop(name, None)
        atoms.arrays.pop(name, None)
    return atoms


def frames():
    symbols = ["H2O", "HO", "H2O", "OH3", "O2"]
    return [frame(s, seed, energy=0.01 * seed) for seed, s in enumerate(symbols)]


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


def test_reference_forces_of_zero_have_no_relative_error():
    atoms = frame("H2", 0)
    atoms.arrays["REF_forces"][:] = 0
    assert evaluate(Told(), [atoms]).overall.forces.relative_rmse is None


def test_stress_label_without_volume_is_left_out_with_a_note():
    data = [*(frame("H2O", k) for k in range(3)), frame("H2O", 8, volume=False)]
    found = evaluate(Told(), data)
    assert found.overall.stress == evaluate(Told(), data[:-1]).overall.stress
    assert found.notes == [
        "1 stress labels are left out: the cell spans no volume, or the calculator gives no stress."
    ]


def test_flipped_stress_labels_are_noted():
    data = frames()
    assert not any("flipped" in note for note in evaluate(Told(), data).notes)
    for atoms in data:
        atoms.info["REF_stress"] = -atoms.info["REF_stress"]
    assert "flipped in sign" in evaluate(Told(), data).notes[0]


def test_calculator_that_gives_energies_only():
    class Energies(Told):
        implemented_properties = ["energy"]  # noqa: RUF012

    found = evaluate(Energies(), frames(), rotations=2)
    assert found.overall.forces is None
    assert found.overall.stress is None
    assert found.rotational_discrepancy.forces is None
    assert found.notes[0] == "force labels are left out: the calculator gives no forces."
    assert found.notes[1].startswith("5 stress labels are left out")


@pytest.mark.parametrize("shape", [(3, 3), (9,), (6,)])
def test_stress_labels_of_every_shape(shape):
    atoms = frame("H2O", 3)
    full = atoms.info["REF_stress"]
    atoms.info["REF_stress"] = full[VOIGT] if shape == (6,) else full.reshape(shape)
    error = atoms.info["told_stress"] - full
    assert_allclose(evaluate(Told(), [atoms]).overall.stress.mae, 1000 * np.abs(error).mean())


def test_labels_in_the_results_of_a_calculator():
    atoms = frame("H2O", 3)
    expected = evaluate(Told(), [atoms]).overall
    labels = {k: v for k, v in atoms.info.items() if k == "REF_energy"}
    results = {"energy": labels["REF_energy"], "forces": atoms.arrays["REF_forces"]}
    results["stress"] = atoms.info["REF_stress"][VOIGT]
    without(atoms, "REF_energy", "REF_forces", "REF_stress")
    atoms.calc = SinglePointCalculator(atoms, **results)
    found = evaluate(Told(), [Frame(atoms, keys=Keys("energy", "forces", "stress"))])
    assert found.overall == expected


def test_one_frame_is_run_uncounted_and_structures_stay_as_they_are():
    data = frames()
    data[0].set_constraint(FixAtoms([0, 1]))  # must not hide force errors
    before = [(a.copy(), a.calc, set(a.arrays), dict(a.info)) for a in data]
    calculator = Told()
    found = evaluate(calculator, data)
    assert calculator.calls == len(data) + 1
    assert found.microseconds_per_atom > 0
    assert found.overall == evaluate(Told(), frames()).overall
    for atoms, (copy, calc, arrays, info) in zip(data, before, strict=True):
        assert atoms == copy
        assert (atoms.calc, set(atoms.arrays), set(atoms.info)) == (calc, arrays, set(info))


def test_chunks_change_nothing():
    progress = []
    whole = evaluate(Told(), frames(), rotations=2)
    parts = evaluate(Told(), iter(frames()), rotations=2, chunk_atoms=4, progress=progress.append)
    assert progress == [2, 2, 1]
    assert parts.to_dict() | {"microseconds_per_atom": 0} == whole.to_dict() | {
        "microseconds_per_atom": 0
    }


class Many(Told):
    """Runs lists; fails on hydrogen peroxide."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def calculate_many(self, structures, properties=("energy", "forces", "stress")):
        self.seen.append((len(structures), tuple(properties)))
        results = []
        for k, atoms in enumerate(structures):
            if len(atoms) == 4 and (atoms.numbers == 8).sum() == 2:
                raise ValueError(f"structure {k}: H2O2 is explosive.")
            self.calculate(atoms, properties)
            results.append({name: self.results[name] for name in properties})
        return results


def test_calculate_many_is_used_and_asked_for_what_has_labels():
    data = [*frames(), without(frame("H", 9, volume=False), "REF_forces", "REF_stress")]
    calculator = Many()
    found = evaluate(calculator, data)
    assert calculator.seen == [
        (1, ("energy", "forces", "stress")),
        (5, ("energy", "forces", "stress")),
        (1, ("energy",)),
    ]
    assert found.overall == evaluate(Told(), data).overall


def test_failures_name_frame_and_file():
    data = [Frame(a, "x.xyz", 3 + k) for k, a in enumerate([*frames(), frame("H2O2", 8)])]
    with pytest.raises(ValueError, match=r"^frame 8 of x.xyz: H2O2 is explosive\.$"):
        evaluate(Many(), data)

    class Unable(Told):
        def calculate(self, atoms=None, *args, **kwargs):
            if len(atoms) == 4:
                raise PropertyNotImplementedError("cannot do this")
            super().calculate(atoms, *args, **kwargs)

    message = "^frame 6 of x.xyz: PropertyNotImplementedError: cannot do this$"
    with pytest.raises(ValueError, match=message):
        evaluate(Unable(), data)


@pytest.mark.parametrize("where", ["energy", "forces", "stress"])
def test_predictions_that_are_not_finite(where):
    atoms = frame("H2O", 0)
    if where == "energy":
        atoms.info["told_energy"] = np.nan
    else:
        (atoms.arrays if where == "forces" else atoms.info)[f"told_{where}"][0, 1] = np.inf
    with pytest.raises(ValueError, match=f"predicted {where} of frame 1 of y.xyz holds a value"):
        evaluate(Told(), [Frame(frame("H2O", 1), "y.xyz"), Frame(atoms, "y.xyz", 1)])


def test_bad_labels_and_arguments():
    with pytest.raises(ValueError, match="there is no frame"):
        evaluate(Told(), [])
    with pytest.raises(ValueError, match="2 rotations or more, not 1"):
        evaluate(Told(), frames(), rotations=1)
    with pytest.raises(ValueError, match="frame 0 has no label: looked for REF_energy"):
        evaluate(Told(), [Atoms("H")])
    with pytest.raises(ValueError, match="frame 0 has no atoms"):
        evaluate(Told(), [Atoms()])
    for value, message in ((np.nan, "not finite"), ("low", "is not a number"), ([1, 2], "shape")):
        atoms = frame("H2O", 0)
        atoms.info["REF_energy"] = value
        with pytest.raises(ValueError, match=message):
            evaluate(Told(), [atoms])


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


def test_dictionary_is_as_designed():
    written = evaluate(Told(), frames(), model="m", group_by="REF_energy", rotations=2).to_dict()
    assert list(written) == [
        "model",
        "frames",
        "atoms",
        "energy_per_atom",
        "forces",
        "stress",
        "rotational_discrepancy",
        "groups",
        "worst",
        "microseconds_per_atom",
    ]
    assert (written["model"], written["frames"], written["atoms"]) == ("m", 5, 14)
    components = ["mae", "rmse", "p95", "max", "relative_rmse"]
    assert list(written["energy_per_atom"]) == ["mae", "rmse", "offset_corrected"]
    assert list(written["energy_per_atom"]["offset_corrected"]) == ["mae", "rmse"]
    assert list(written["forces"]) == [*components, "per_element"]
    assert {k: list(v) for k, v in written["forces"]["per_element"].items()} == {
        "H": components,
        "O": components,
    }
    assert list(written["stress"]) == ["mae", "rmse"]
    assert list(written["rotational_discrepancy"]) == ["energy_per_atom", "forces"]
    group = next(iter(written["groups"].values()))
    assert list(group) == ["frames", "atoms", "energy_per_atom", "forces", "stress"]
    assert list(written["worst"][0]) == [
        "file",
        "index",
        "force_rmse",
        "energy_error",
        "max_force_error",
        "max_force_error_atom",
        "max_force_error_element",
    ]
    assert json.loads(json.dumps(written, allow_nan=False)) == written


@pytest.mark.parametrize("atoms", [3, 3000])  # points, and a density
def test_plot(tmp_path, atoms):
    found = evaluate(
        Told(), [frame(f"H{atoms}", seed, energy=seed) for seed in range(2)], model="m"
    )
    found.plot(tmp_path / "parity.png")
    assert (tmp_path / "parity.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_real_frames():
    if "POINTEDGE_DATA" not in os.environ:
        pytest.skip("POINTEDGE_DATA, the folder of the reference data, is not set")
    data = ase.io.read(Path(os.environ["POINTEDGE_DATA"]) / "hea/test.xyz", "::20")
    for atoms in data:
        atoms.info["told_energy"] = atoms.info["REF_energy"] + 0.01 * len(atoms)
        atoms.arrays["told_forces"] = atoms.arrays["REF_forces"] * 1.1
        atoms.info["told_stress"] = np.reshape(atoms.info["REF_stress"], (3, 3)) + 0.001
    found = evaluate(Told(), data, group_by="group").overall
    assert_allclose(found.energy_per_atom.mae, 10, rtol=1e-9)
    assert found.energy_per_atom.offset_corrected.rmse < 1e-9
    assert_allclose(found.forces.relative_rmse, 10)
    assert_allclose(found.stress.mae, 1, rtol=1e-9)
