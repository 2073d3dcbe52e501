"""Runs of fine-tuning: what they learn, leave as it was to the bit, and refuse."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule

from pointedge.potentials import checkpoint
from pointedge.potentials.graph import Graph
from pointedge.potentials.packaged import packaged_models
from pointedge.potentials.pet import published
from pointedge.potentials.pet.published.writing import save as publish
from pointedge.potentials.potential import Potential
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.data import labelled
from pointedge.potentials.training.finetune import (
    find_checkpoint,
    load_start,
)
from pointedge.potentials.training.module import TrainingModule
from pointedge.potentials.training.reading import read_frames
from pointedge.potentials.training.run import train

from ...networks import tiny_pet
from ..published.cases import unpacked
from .started import CUTOFF, SPECIES, assert_same, molecules, pet


class InterruptionError(Exception):
    pass


def force_error(potential: Potential, config: TrainingConfig, folder: Path) -> float:
    """RMSE on the validation frames."""
    module = TrainingModule(potential, config)
    for atoms in read_frames(config.data.validation, folder):
        module.validation_step(labelled(atoms, config.data, CUTOFF, ()))
    return module.validation_errors()["forces"]


@pytest.fixture
def run(config, tmp_path):
    """A run from a checkpoint on labels of a model with other weights, energies 1 eV off."""
    frames = ase.io.read(tmp_path / "frames.xyz", ":")
    start, teacher = pet().to(torch.float32), pet()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in teacher.network.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight += 0.5 * weight.std(correction=0) * noise
    for atoms in frames:
        found = teacher(Graph.from_atoms(atoms, start.cutoff))
        atoms.info["REF_energy"] = (found.energy + found.baseline).item() + 1.0
        atoms.arrays["REF_forces"] = found.forces.numpy()
    ase.io.write(tmp_path / "frames.xyz", frames)
    checkpoint.save(start, tmp_path / "start.safetensors")
    del config["model"]
    config["start_from"] = "start.safetensors"
    config["optimization"].update(max_epochs=12, learning_rate=1e-2)
    return config


@pytest.mark.parametrize("method", ["full", "heads", "lora"])
def test_each_method_lowers_the_error_and_leaves_the_rest_alone(run, tmp_path, method):
    run["fine_tuning"] = {"method": method, "baseline": "refit"}
    lines = []
    best = train(
        TrainingConfig.from_dict(run), tmp_path / "run", folder=tmp_path, report=lines.append
    )
    start = checkpoint.load(tmp_path / "start.safetensors")
    before = force_error(start, TrainingConfig.from_dict(run), tmp_path)
    assert best.information["validation_rmse"]["forces"] < 0.8 * before
    assert best.information["started_from"] == "start.safetensors"
    old, new = start.state_dict(), best.state_dict()
    assert old.keys() == new.keys(), "the checkpoint has plain weights"
    changed = {name for name in old if not torch.equal(old[name], new[name])} - {"baseline"}
    weights = {f"network.{name}" for name, _ in start.network.named_parameters()}
    if method == "full":
        assert changed == weights
    elif method == "heads":
        assert changed == {n for n in weights if n.split(".")[1].endswith("heads")}
    else:
        assert changed == {n for n in weights if n.endswith("linear.weight")}


def test_a_run_can_start_from_the_mean_of_several(run, tmp_path):
    """Their mean at first; with one epoch at no rate to speak of, nearly so at the end."""
    start = checkpoint.load(tmp_path / "start.safetensors")
    other = checkpoint.load(tmp_path / "start.safetensors")
    with torch.no_grad():
        for weight in other.network.parameters():
            weight *= 1.5
    checkpoint.save(other, tmp_path / "other.safetensors")
    run["start_from"] = ["start.safetensors", "other.safetensors"]
    run["fine_tuning"] = {"baseline": "keep"}
    run["optimization"].update(max_epochs=1, learning_rate=1e-9)
    best = train(TrainingConfig.from_dict(run), tmp_path / "run", folder=tmp_path, report=str)
    for name, weight in best.network.named_parameters():
        expected = 1.25 * start.network.get_parameter(name)
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-7)
    assert best.information["started_from"] == run["start_from"]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"cutoff": 3.5}, "differ in their settings"), (None, "differ in their type")],
)
def test_models_that_differ_in_more_than_weights_have_no_mean(run, tmp_path, change, said):
    start = checkpoint.load(tmp_path / "start.safetensors")
    other = start.to(torch.float64) if change is None else None
    if other is None:
        other = checkpoint.with_settings(start, change, "other")
    checkpoint.save(other, tmp_path / "other.safetensors")
    run["start_from"] = ["start.safetensors", "other.safetensors"]
    with pytest.raises(ValueError, match=said):
        train(TrainingConfig.from_dict(run), tmp_path / "run", folder=tmp_path, report=str)


def test_what_the_old_weights_were_worth_is_not_said_of_the_new(run, tmp_path):
    start = checkpoint.load(tmp_path / "start.safetensors")
    old = {"test_rmse": {"forces": 1.0}, "uncertainty": {"factor": 1.0}, "origin": "elsewhere"}
    start.information.update(old)
    checkpoint.save(start, tmp_path / "start.safetensors")
    run["optimization"]["max_epochs"] = 1
    train(TrainingConfig.from_dict(run), tmp_path / "run", folder=tmp_path, report=lambda _: None)
    found = checkpoint.load(tmp_path / "run" / "best.safetensors").information
    assert found["origin"] == "elsewhere"
    assert not {"test_rmse", "uncertainty"} & found.keys()
    assert "forces" in found["validation_rmse"]


def test_a_run_may_let_a_network_grow(run, tmp_path):
    """Validated before any step, it is the smaller one; afterwards it is better."""
    run["model"] = {"num_attention_layers": 2, "d_feedforward": 16}
    run["fine_tuning"] = {"baseline": "refit"}
    config = TrainingConfig.from_dict(run)
    start = checkpoint.load(tmp_path / "start.safetensors")
    grown = load_start("start.safetensors", tmp_path, run["model"])
    before = force_error(start, config, tmp_path)
    assert force_error(grown, config, tmp_path) == pytest.approx(before, rel=1e-5)
    best = train(config, tmp_path / "run", folder=tmp_path, report=lambda line: None)
    assert best.network.config.num_attention_layers == 2
    assert best.information["validation_rmse"]["forces"] < 0.8 * before
    with pytest.raises(ValueError, match="can only grow"):
        load_start("start.safetensors", tmp_path, {"d_feedforward": 4})


def test_a_published_checkpoint_is_fine_tuned_as_it_is(run, tmp_path):
    """It starts with the numbers that its own code gives, and ends as a checkpoint of ours."""
    run["start_from"], run["fine_tuning"] = "published.ckpt", {"baseline": "refit"}
    source = Potential(tiny_pet(1, species=SPECIES, cutoff=CUTOFF, num_gnn_layers=2), {8: -11.0})
    publish(source, tmp_path / "published.ckpt")
    expected = published.load(tmp_path / "published.ckpt")
    found = load_start("published.ckpt", tmp_path)
    assert_same(found(molecules()), expected(molecules()))
    config = TrainingConfig.from_dict(run)
    best = train(config, tmp_path / "run", folder=tmp_path, report=lambda line: None)
    assert best.information["started_from"] == "published.ckpt"
    before = force_error(expected, config, tmp_path)
    assert best.information["validation_rmse"]["forces"] < 0.8 * before


def test_settings_of_a_published_checkpoint_change_as_of_any_other(tmp_path):
    source = Potential(tiny_pet(1, species=SPECIES, cutoff=CUTOFF))
    publish(source, tmp_path / "published.ckpt")
    found = load_start("published.ckpt", tmp_path, {"symmetry": "layers"})
    assert found.network.config.symmetry == "layers"
    assert torch.equal(*(p.network.state_dict()["node_heads.0.0.weight"] for p in (found, source)))
    with pytest.raises(ValueError, match=r"published.ckpt: tensor .* has shape"):
        load_start("published.ckpt", tmp_path, {"d_pet": 16})


def test_one_of_several_energies_of_a_published_checkpoint(tmp_path):
    path = unpacked("several.ckpt.gz", tmp_path)
    assert float(load_start(f"{path.name}@energy/pbe", tmp_path).scale) == 1.25
    with pytest.raises(ValueError, match="pet-water has one energy only; leave '@pbe' out"):
        load_start("pet-water@pbe", tmp_path)


@pytest.mark.parametrize("method", ["heads", "lora"])
def test_an_interrupted_fine_tuning_resumes_to_the_same_bits(run, tmp_path, method):
    run["fine_tuning"] = {"method": method, "layer_decay": 0.5, "baseline": "refit"}
    run["optimization"]["max_epochs"] = 3
    settings = TrainingConfig.from_dict(run)
    train(settings, tmp_path / "straight", folder=tmp_path, report=lambda line: None)

    def interrupt(line):
        if line.startswith("epoch 2"):
            raise InterruptionError

    with pytest.raises(InterruptionError):
        train(settings, tmp_path / "resumed", folder=tmp_path, report=interrupt)
    lines = []
    train(settings, tmp_path / "resumed", folder=tmp_path, report=lines.append)
    assert any(line.startswith("resuming") for line in lines)
    one, other = (
        checkpoint.load(tmp_path / name / "best.safetensors").state_dict()
        for name in ("straight", "resumed")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", ["full", "heads", "lora"])
def test_a_new_species_is_learnt(run, tmp_path, method):
    """Silane and its energy; rows of old species do not move where layers are frozen."""
    rng = np.random.default_rng(1)
    frames = ase.io.read(tmp_path / "frames.xyz", ":")
    for k in range(8):
        atoms = molecule("SiH4")
        atoms.rattle(0.05, rng=rng)
        atoms.info.update(REF_energy=-212.0 + 0.01 * k, split="a" if k < 6 else "b")
        frames.append(atoms)
    ase.io.write(tmp_path / "frames.xyz", frames)
    settings = TrainingConfig.from_dict(run)
    with pytest.raises(ValueError, match=r"does not know Si; set fine_tuning.add"):
        train(settings, tmp_path / "run", folder=tmp_path, report=lambda line: None)
    run["fine_tuning"] = {"method": method, "add_species": True}
    run["optimization"]["max_epochs"] = 2
    lines = []
    best = train(
        TrainingConfig.from_dict(run), tmp_path / "run", folder=tmp_path, report=lines.append
    )
    assert best.information["added_species"] == [14]
    silane = best(Graph.from_atoms(molecule("SiH4"), best.cutoff), forces=False)
    assert (silane.energy + silane.baseline).item() == pytest.approx(-212, abs=1.0)
    start = checkpoint.load(tmp_path / "start.safetensors")
    old, new = start.network.edge_embedder.weight, best.network.edge_embedder.weight
    assert torch.equal(old, new[:4]) == (method != "full")
    assert not torch.equal(new[4], old.mean(0))


def test_a_baseline_that_is_off_is_reported_and_refitted_if_asked(run, tmp_path):
    run["optimization"]["max_epochs"] = 1
    lines = []
    train(TrainingConfig.from_dict(run), tmp_path / "a", folder=tmp_path, report=lines.append)
    (offset,) = [line for line in lines if line.startswith("before training")]
    assert "baseline=refit takes out" in offset
    assert float(offset.split("off by ")[1].split()[0]) > 100, "1 eV over 3 to 5 atoms"
    run["fine_tuning"] = {"baseline": "refit"}
    lines = []
    train(TrainingConfig.from_dict(run), tmp_path / "b", folder=tmp_path, report=lines.append)
    (offset,) = [line for line in lines if line.startswith("before training")]
    assert abs(float(offset.split("off by ")[1].split()[0])) < 1


def test_packaged_models_are_found_by_name(tmp_path):
    (first, *_) = packaged_models()
    assert find_checkpoint(first, tmp_path).is_file()
    with pytest.raises(ValueError, match=f"did you mean '{first}'"):
        find_checkpoint(first[:-1], tmp_path)


def test_a_contradicting_architecture_is_refused(run, tmp_path):
    for key, value in (("architecture", "mace"), ("zbl", False)):
        settings = TrainingConfig.from_dict({**run, key: value})
        with pytest.raises(ValueError, match=f"{key} is {value}, but start.safetensors has"):
            train(settings, tmp_path / "run", folder=tmp_path, report=lambda line: None)


def test_species_that_no_frame_has_keep_their_baseline(run, tmp_path):
    """Frames of water alone say nothing of carbon and nitrogen."""
    frames = [a for a in ase.io.read(tmp_path / "frames.xyz", ":") if 8 in a.numbers]
    ase.io.write(tmp_path / "frames.xyz", frames)
    run["optimization"]["max_epochs"] = 1
    run["fine_tuning"] = {"baseline": "refit"}
    best = train(
        TrainingConfig.from_dict(run), tmp_path / "run", folder=tmp_path, report=lambda line: None
    )
    start = pet()
    assert best.baseline[6] == start.baseline[6]
    assert best.baseline[7] == start.baseline[7]
    assert 2 * best.baseline[1] + best.baseline[8] != 2 * start.baseline[1] + start.baseline[8]


def test_a_baseline_that_is_kept_does_not_mix_two_zeros(run, tmp_path):
    """Labels are 1 eV off: to move the species of the frames alone would tear them apart."""
    run["optimization"]["max_epochs"] = 1
    lines = []
    best = train(
        TrainingConfig.from_dict(run), tmp_path / "run", folder=tmp_path, report=lines.append
    )
    assert torch.equal(best.baseline, pet().baseline)
    assert any("another zero (fine_tuning.baseline=refit" in line for line in lines)


def test_a_run_goes_on_from_what_it_began_with(run, tmp_path):
    """Whatever has become of the file that start_from names."""
    settings = TrainingConfig.from_dict(
        {**run, "optimization": run["optimization"] | {"max_epochs": 1}}
    )
    train(settings, tmp_path / "run", folder=tmp_path, report=lambda line: None)
    (tmp_path / "start.safetensors").unlink()
    longer = TrainingConfig.from_dict(
        {**run, "optimization": run["optimization"] | {"max_epochs": 2}}
    )
    lines = []
    best = train(longer, tmp_path / "run", folder=tmp_path, report=lines.append)
    assert any(line.startswith("resuming") for line in lines)
    assert best.information["started_from"] == "start.safetensors"
    with pytest.raises(ValueError, match="no such file in"):
        train(longer, tmp_path / "new", folder=tmp_path, report=lambda line: None)


def test_what_is_of_other_weights_is_told(run, tmp_path):
    start = checkpoint.load(tmp_path / "start.safetensors")
    start.auxiliary = tiny_pet(1, species=start.species, edge_input="length").to(start.dtype)
    checkpoint.save(start, tmp_path / "start.safetensors")
    run["optimization"]["max_epochs"] = 1
    lines = []
    train(TrainingConfig.from_dict(run), tmp_path / "run", folder=tmp_path, report=lines.append)
    told = "the auxiliary of start.safetensors is of its weights, and left out; auxiliary: true"
    assert any(told in line for line in lines)
