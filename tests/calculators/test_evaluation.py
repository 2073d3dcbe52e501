"""Evaluation: labels in every place, failures by name, chunks, orientations, the report."""

import json
import os
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from numpy.testing import assert_allclose

from pointedge.calculators.comparison import Frame
from pointedge.calculators.evaluation import evaluate

from .labelled import VOIGT, Told, frame, frames, without


def test_stress_without_a_volume_is_no_label():
    data = [*(frame("H2O", k) for k in range(3)), frame("H2O", 8, volume=False)]
    found = evaluate(Told(), data)
    assert found.overall.stress == evaluate(Told(), data[:-1]).overall.stress
    assert np.isnan(found.comparison.stress[3]).all()


@pytest.mark.parametrize("label", ["force", "stress"])
def test_flipped_labels_are_noted(label):
    data = frames()
    assert not any("flipped" in note for note in evaluate(Told(), data).notes)
    for atoms in data:
        if label == "force":
            atoms.arrays["REF_forces"] *= -1
        else:
            atoms.info["REF_stress"] = -atoms.info["REF_stress"]
    assert evaluate(Told(), data).notes[0].startswith(f"{label} labels look flipped in sign")


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
