"""Trainings on frames without energies, of which some or all have forces or stresses alone."""

import json

import ase.io
import numpy as np
import pytest
import torch

from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.run import train

UNKNOWN = "no training frame has an energy: the baselines of species are not fitted"


@pytest.fixture
def trained(config, tmp_path):
    """Trains in a folder, with some changes; returns the potential, its lines and its errors."""

    def run(name, **changes):
        lines, tree = [], config | changes
        potential = train(
            TrainingConfig.from_dict(tree), tmp_path / name, folder=tmp_path, report=lines.append
        )
        results = json.loads((tmp_path / name / "results.json").read_text())
        return potential, lines, results["errors"]["validation"]

    return run


def relabel(tmp_path, change):
    frames = ase.io.read(tmp_path / "frames.xyz", ":")
    for k, atoms in enumerate(frames):
        change(k, atoms)
    ase.io.write(tmp_path / "frames.xyz", frames)


def losses(lines, label):
    return [float(x.split(f"{label} ")[1].split()[0]) for x in lines if x.startswith("epoch")]


def test_forces_alone_train_a_new_model_and_one_that_is_there(trained, tmp_path):
    first, lines, _ = trained("energies")
    assert UNKNOWN not in lines
    assert first.baseline.count_nonzero() == 4
    relabel(tmp_path, lambda k, atoms: atoms.info.pop("REF_energy"))
    new, lines, errors = trained("new", loss={"energy": 0})
    assert UNKNOWN in lines
    assert losses(lines, "forces")[-1] < losses(lines, "forces")[0]
    assert any(x.startswith("best model, baseline kept: validation RMSE forces") for x in lines)
    assert set(errors) == set(new.information["validation_rmse"]) == {"forces"}
    assert new.baseline.count_nonzero() == 0
    start = {"start_from": str(tmp_path / "energies" / "best.safetensors"), "model": {}}
    again, lines, errors = trained("again", loss={"energy": 0}, **start)
    assert UNKNOWN in lines
    assert any(x.startswith("best model, baseline kept: validation RMSE forces") for x in lines)
    assert set(errors) == {"forces"}
    assert torch.equal(again.baseline, first.baseline)


def test_stresses_alone(trained, tmp_path):
    def change(k, atoms):
        atoms.set_cell(5 * np.eye(3))
        atoms.pbc = True
        del atoms.info["REF_energy"], atoms.arrays["REF_forces"]
        atoms.info["REF_stress"] = 0.01 * np.cov(atoms.positions.T)

    relabel(tmp_path, change)
    potential, lines, errors = trained(
        "run", loss={"energy": 0, "forces": 0, "stress": 1}, run={"plot": True}
    )
    assert UNKNOWN in lines
    assert losses(lines, "stress")[-1] < losses(lines, "stress")[0]
    assert set(errors) == {"stress"}
    assert potential.scale == 1


def test_energies_of_some_frames_fit_the_baseline(trained, tmp_path):
    relabel(tmp_path, lambda k, atoms: atoms.info.pop("REF_energy") if k % 3 else None)
    potential, lines, errors = trained("run")
    assert UNKNOWN not in lines
    assert potential.baseline.isfinite().all()
    assert potential.baseline.count_nonzero() > 0
    assert errors["energy"]["components"] == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"uncertainty": True}, "1 energies cannot calibrate uncertainties"),
        ({"uncertainty": True, "architecture": "nequip"}, "uncertainty of a NequIP is not known"),
        ({"auxiliary": True, "architecture": "nequip"}, "invariant already"),
    ],
)
def test_what_the_end_of_a_run_cannot_give_is_refused_before_its_first_step(
    config, trained, tmp_path, changes, said
):
    """Hours of training were over before it was refused."""

    def remove(k, atoms):
        if k > 24:  # of eight validation frames, the first keeps its energy
            del atoms.info["REF_energy"]

    relabel(tmp_path, remove)
    if "architecture" in changes:
        config["model"] = {"cutoff": 3.0, "irreps": "4x0e", "num_layers": 1}
    with pytest.raises(ValueError, match=said):
        trained("run", **changes)
    assert not (tmp_path / "run" / "last.pt").exists()
