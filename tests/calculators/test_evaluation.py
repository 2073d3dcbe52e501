"""Evaluation: labels in every place, failures by name, chunks, orientations, the report."""

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
from pointedge.calculators.comparison import Frame
from pointedge.calculators.evaluation import evaluate
from pointedge.potentials.graph import random_rotations

from .conftest import bulk, small_potential, structures
from .labelled import VOIGT, Told, frame, frames, without


class FieldPair(Calculator):
    """A dimer of energy k x² where x is the first component of the bond: not invariant."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012
    k = 0.3

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x = atoms.positions[1, 0] - atoms.positions[0, 0]
        force = np.array([2 * self.k * x, 0, 0])
        self.results = {"energy": self.k * x**2, "forces": np.stack([force, -force])}


def test_stress_without_a_volume_is_no_label():
    data = [*(frame("H2O", k) for k in range(3)), frame("H2O", 8, volume=False)]
    found = evaluate(Told(), data)
    assert found.overall.stress == evaluate(Told(), data[:-1]).overall.stress
    assert np.isnan(found.comparison.stress[3]).all()


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
    assert found.notes[1].startswith("stress labels are left out")


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
    found = evaluate(Told(), [atoms])
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
    with pytest.raises(ValueError, match=r"frame 0 has no label .*; it has numbers, pos"):
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
        "dipole",
        "polarizability",
        "rotational_discrepancy",
        "calibration",
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
    quantities = ["energy_per_atom", "forces", "stress", "dipole", "polarizability"]
    spreads = written["rotational_discrepancy"]
    assert list(spreads) == [name for name in quantities if name != "stress"]
    assert spreads["dipole"] is spreads["polarizability"] is written["dipole"] is None
    group = next(iter(written["groups"].values()))
    assert list(group) == ["frames", "atoms", *quantities]
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
