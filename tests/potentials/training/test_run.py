"""Training runs: they learn, resume to the same bits, and leave what they promise."""

import csv
import json
from dataclasses import replace

import ase.io
import numpy as np
import pytest
import torch
import yaml
from torch import nn

from pointedge.potentials import checkpoint
from pointedge.potentials.training import run
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.data import labelled
from pointedge.potentials.training.reading import read_frames
from pointedge.potentials.training.run import finish, train


class InterruptionError(Exception):
    pass


def errors(lines):
    """Force errors that a run reports after its epochs."""
    epochs = [line for line in lines if line.startswith("epoch")]
    return [float(line.split("forces ")[1].split(" ")[0]) for line in epochs]


def test_training_lowers_the_force_error_and_keeps_the_best(config, tmp_path):
    config["optimization"]["max_epochs"] = 40
    config["run"] = {"plot": True, "log_every": 5}
    lines = []
    best = train(
        TrainingConfig.from_dict(config), tmp_path / "run", folder=tmp_path, report=lines.append
    )
    found = errors(lines)
    assert found[-1] < 0.6 * found[0]
    assert best.information["validation_rmse"]["forces"] == pytest.approx(min(found), rel=0.1)
    assert best.dtype == torch.float32
    assert len(best.information["training_data_sha256"]) == 64
    description = checkpoint.describe(tmp_path / "run" / "best.safetensors")
    assert description["species"] == [1, 6, 7, 8]
    assert description["information"]["training"]["model"].items() >= config["model"].items()
    resolved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert resolved["optimization"]["gradient_clip"] == 1.0, "defaults are written out"
    with (tmp_path / "run" / "log" / "metrics.csv").open() as file:
        assert "validation_forces" in next(csv.reader(file))
    assert (tmp_path / "run" / "progress.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("dead", [True, False])
def test_a_run_whose_energies_stay_constant_says_so(config, tmp_path, monkeypatch, dead):
    initial = run._initial_potential

    def silenced(*arguments):
        potential = initial(*arguments)
        for name, parameter in potential.network.named_parameters():
            if "heads" in name:
                nn.init.zeros_(parameter)
        return potential

    if dead:
        monkeypatch.setattr(run, "_initial_potential", silenced)
        config |= {"zbl": False}
        config["optimization"]["learning_rate"] = 1e-9
    config["optimization"]["max_epochs"] = 20
    lines = []
    train(TrainingConfig.from_dict(config), tmp_path / "run", folder=tmp_path, report=lines.append)
    found = [line for line in lines if "forces are no better than zeros" in line]
    assert len(found) == (18 if dead else 0), "after a tenth of 20 epochs"
    assert all("lower optimization.learning_rate" in line for line in found)
    assert not any("start_from" in line for line in found)  # of weights that are dead


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_interrupted_run_resumes_to_the_same_bits(config, tmp_path, optimizer):
    config["optimization"]["optimizer"] = optimizer
    resolved = TrainingConfig.from_dict(config)
    straight = []
    train(resolved, tmp_path / "straight", folder=tmp_path, report=straight.append)

    def interrupt(line):
        if line.startswith("epoch 3"):
            raise InterruptionError

    with pytest.raises(InterruptionError):
        train(resolved, tmp_path / "resumed", folder=tmp_path, report=interrupt)
    resumed = []
    train(resolved, tmp_path / "resumed", folder=tmp_path, report=resumed.append)
    assert any(line.startswith("resuming") for line in resumed)
    assert errors(resumed) == errors(straight)[-len(errors(resumed)) :]
    assert len(errors(resumed)) == 2, "epochs 3 and 4"
    one, other = (
        checkpoint.load(tmp_path / name / "best.safetensors").state_dict()
        for name in ("straight", "resumed")
    )
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_a_folder_with_another_run_is_refused(config, tmp_path):
    train(
        TrainingConfig.from_dict(config), tmp_path / "run", folder=tmp_path, report=lambda _: None
    )
    config["optimization"]["learning_rate"] = 1e-4
    with pytest.raises(ValueError, match="other settings"):
        train(TrainingConfig.from_dict(config), tmp_path / "run", folder=tmp_path)


def test_the_time_limit_ends_the_schedule(config, tmp_path):
    config["optimization"] |= {"max_epochs": 100000, "max_hours": 2 / 3600}
    lines = []
    train(TrainingConfig.from_dict(config), tmp_path / "run", folder=tmp_path, report=lines.append)
    assert 0 < len(errors(lines)) < 1000


def test_a_label_that_no_frame_has_is_an_error(config, tmp_path):
    config["loss"] = {"stress": 1.0}
    with pytest.raises(ValueError, match="loss has stress, but no training frame has one"):
        train(
            TrainingConfig.from_dict(config),
            tmp_path / "run",
            folder=tmp_path,
            report=lambda _: None,
        )


def test_frames_in_both_sets_are_an_error(config, tmp_path):
    config["data"]["validation"]["where"] = {"split": ["a", "b"]}
    with pytest.raises(ValueError, match="is training frame"):
        train(
            TrainingConfig.from_dict(config),
            tmp_path / "run",
            folder=tmp_path,
            report=lambda _: None,
        )


@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_the_last_baseline_is_kept_only_if_it_serves_the_validation_frames(
    resolved, tmp_path, offset
):
    """Offset: energies of the training frames in eV that those of the validation frames lack."""
    train(resolved, tmp_path / "run", folder=tmp_path, report=lambda line: None)
    path = tmp_path / "run" / "best.safetensors"
    potential = checkpoint.load(path)
    potential.baseline[1] += 0.3  # eV; all other frames differ from those trained on by this
    checkpoint.save(potential, path)
    parts = [
        [labelled(a, resolved.data, potential.cutoff, ()) for a in read_frames(frames, tmp_path)]
        for frames in (resolved.data.train, resolved.data.validation)
    ]
    parts[0] = [replace(batch, energy=batch.energy + offset) for batch in parts[0]]
    lines = []
    finished = finish(path, *parts, resolved, lines.append)
    kept = bool(torch.equal(finished.baseline, potential.baseline))
    assert kept == bool(offset)
    assert ("baseline kept" in lines[0]) == kept
    assert finished.information["validation_rmse"]["energy"] < 200 or kept
    torch.testing.assert_close(checkpoint.load(path).baseline, finished.baseline)


def test_dipoles_are_learnt_without_energies(config, tmp_path):
    """Labels of fixed charges; the potential has no energy afterwards."""
    frames = ase.io.read(tmp_path / "frames.xyz", ":")
    for atoms in frames:
        charges = np.where(atoms.numbers == 1, 0.4, -0.8)
        charges -= charges.mean()
        outer = atoms.positions - atoms.positions.mean(0)
        atoms.info.update(REF_dipole=charges @ outer, REF_polarizability=outer.T @ outer)
    ase.io.write(tmp_path / "frames.xyz", frames)
    config["model"] |= {"properties": ["dipole", "polarizability"], "symmetry": "layers"}
    config["loss"] = {"energy": 0, "forces": 0, "dipole": 1, "polarizability": 1}
    config["optimization"]["max_epochs"] = 20
    lines = []
    settings = TrainingConfig.from_dict(config)
    best = train(settings, tmp_path / "run", folder=tmp_path, report=lines.append)
    found = [float(x.split("dipole ")[1].split()[0]) for x in lines if x.startswith("epoch")]
    assert found[-1] < 0.5 * found[0]
    assert set(best.information["validation_rmse"]) == {"dipole", "polarizability"}
    config["loss"]["energy"] = 1
    with pytest.raises(ValueError, match="loss has energy, but the model predicts dipole, pol"):
        train(TrainingConfig.from_dict(config), tmp_path / "other", folder=tmp_path)


def test_test_frames_are_kept_apart_and_looked_at_in_the_end(config, tmp_path):
    """From a cache, with takes of one selection: the same weights as from memory."""
    split = {"files": ["frames.xyz"], "where": {"split": ["b"]}}
    config["data"] |= {
        "validation": split | {"take": "::2"},
        "test": split | {"leave": "::2"},
    }
    config["optimization"]["max_epochs"] = 2
    found = []
    for name, cache in (("memory", None), ("mapped", str(tmp_path / "cache"))):
        config["data"]["cache"] = cache
        lines = []
        settings = TrainingConfig.from_dict(config)
        best = train(settings, tmp_path / name, folder=tmp_path, report=lines.append)
        assert lines[0].split() == ["training", "validation", "test"]
        results = json.loads((tmp_path / name / "results.json").read_text())
        assert results["steps"] == 12
        assert results["errors"]["test"]["energy"]["components"] == 4
        assert lines[-1].split()[:2] == ["test", "forces"]
        rmse = results["errors"]["test"]["forces"]["rmse"]
        assert rmse == best.information["test_rmse"]["forces"]
        again = []
        train(settings, tmp_path / name, folder=tmp_path, report=again.append)
        assert "the run is complete" in again[-1]
        found.append((best.state_dict(), best.information["test_rmse"]))
    assert found[0][1] == found[1][1]
    assert all(torch.equal(found[0][0][k], found[1][0][k]) for k in found[0][0])
    config["data"]["test"] = split
    with pytest.raises(ValueError, match="test frame 0 is validation frame 0"):
        train(TrainingConfig.from_dict(config), tmp_path / "other", folder=tmp_path)


def test_a_run_can_end_with_uncertainties_which_another_run_forgets(config, tmp_path):
    config["uncertainty"] = True
    lines = []
    resolved = TrainingConfig.from_dict(config)
    potential = train(resolved, tmp_path / "run", folder=tmp_path, report=lines.append)
    assert any(line.startswith("uncertainty of 8 validation energies, meV/atom") for line in lines)
    assert potential.information["uncertainty"]["count"] == 8
    path = tmp_path / "run" / "best.safetensors"
    assert checkpoint.load(path).rigidity is not None
    again = config | {"start_from": str(path), "model": {}, "uncertainty": False}
    again["optimization"] = config["optimization"] | {"max_epochs": 1}
    train(TrainingConfig.from_dict(again), tmp_path / "again", folder=tmp_path, report=lines.append)
    assert checkpoint.load(tmp_path / "again" / "best.safetensors").rigidity is None
