"""Broken configurations: each is one sentence at the command line, and leaves no stale run."""

from __future__ import annotations

import sys

import ase.io
import pytest
import yaml

from pointedge.calculators.cli import main

# What is added to a working configuration, and the words that the error has to have.
CHANGES = {
    "a section misspelt": ({"optimisation": {}}, ["'optimisation'", "did you mean 'optimization'"]),
    "a key misspelt": (
        {"optimization": {"lerning_rate": 1}},
        ["optimization.lerning_rate", "did you mean 'learning_rate'"],
    ),
    "a key misspelt three levels deep": (
        {"loss": {"kind": {"forcs": "huber"}}},
        ["loss.kind.forcs", "did you mean 'forces'"],
    ),
    "a key in the wrong section": (
        {"learning_rate": 1e-3},
        ["unknown setting 'learning_rate'", "did you mean 'optimization.learning_rate'"],
    ),
    "a key of a list of selections": (
        {"data": {"train": [{"files": ["frames.xyz"], "were": {}}]}},
        ["data.train.were", "did you mean 'where'"],
    ),
    "a setting of the model misspelt": ({"model": {"cutof": 4}}, ["cutof", "'cutoff'"]),
    "a setting of frames misspelt": (
        {"model": {"symmetry": "layers", "frames": {"reech": 3.0}}},
        ["reech", "did you mean 'reach'"],
    ),
    "a setting of another architecture": (
        {"architecture": "mace"},
        ["unknown MACE setting 'd_"],
    ),
    "an unknown architecture": ({"architecture": "pett"}, ["'pett'", "did you mean 'pet'"]),
    "a word for a number": (
        {"optimization": {"learning_rate": "fast"}},
        ["optimization.learning_rate", "'fast'", "must be a valid number"],
    ),
    "true for a number": ({"optimization": {"max_epochs": True}}, ["max_epochs", "number", "True"]),
    "a number out of range": (
        {"optimization": {"batch_size": 0}},
        ["optimization.batch_size is 0", "greater than or equal to 1"],
    ),
    "a seed beyond those of torch": (
        {"optimization": {"seed": 2**64}},
        ["optimization.seed is 18446744073709551616", "less than 18446744073709551616"],
    ),
    "no heads": ({"model": {"num_heads": 0}}, ["num_heads = 0 must be at least 1"]),
    "not a number": (
        {"optimization": {"gradient_clip": float("nan")}},
        ["optimization.gradient_clip", "finite number"],
    ),
    "a word that is no choice": (
        {"loss": {"normalization": "slidng"}},
        ["loss.normalization is 'slidng'", "did you mean 'sliding'"],
    ),
    "a value for a section": ({"loss": 3}, ["loss is the value 3", "a section"]),
    "an empty section": ({"data": None}, ["data is empty", "a section"]),
    "nothing to train on": ({"data": {"train": {"files": []}}}, ["data.train.files", "at least 1"]),
    "no validation frames": (
        {"data": {"validation": "frames.xyz"}},
        ["data.validation", "section"],
    ),
    "a word for a width": ({"model": {"d_pet": "wide"}}, ["d_pet = 'wide'", "integer"]),
    "a fraction of a layer": ({"model": {"num_gnn_layers": 1.5}}, ["num_gnn_layers = 1.5"]),
    "true for a width": ({"model": {"d_head": True}}, ["d_head = True", "must be a number"]),
    "a cutoff without end": ({"model": {"cutoff": float("inf")}}, ["cutoff = inf", "finite"]),
    "widths that do not fit": ({"model": {"num_heads": 3}}, ["d_pet = 8", "num_heads = 3"]),
    "a choice of the model misspelt": (
        {"model": {"cutoff_function": "bmp"}},
        ["cutoff_function = 'bmp'", "did you mean 'bump'"],
    ),
    "a number for a checkpoint": (
        {"start_from": ["pet-water", 3]},
        ["start_from", "['pet-water', 3] is no checkpoint"],
    ),
    "species in the model": ({"model": {"species": [1]}}, ["model.species", "read from the data"]),
    "a loss of nothing": ({"loss": {"energy": 0, "forces": 0}}, ["all weights are 0"]),
    "a Huber width without Huber": (
        {"loss": {"huber_delta": {"forces": 0.2}}},
        ["loss", "huber_delta.forces", "kind.forces is 'squared'"],
    ),
    "a loss of what is not predicted": (
        {"loss": {"dipole": 1}},
        ["the loss has dipole", "predicts energy", "model.properties"],
    ),
    "a label that no frame has": ({"loss": {"stress": 1}}, ["the loss has stress", "no training"]),
    "frames in both sets": (
        {"data": {"validation": {"where": {"split": ["a", "b"]}}}},
        ["validation", "training", "errors would look too small"],
    ),
    "a selection of nothing": (
        {"data": {"train": {"where": {"split": ["c"]}}}},
        ["split c", "it is a, b"],
    ),
    "a missing file": ({"data": {"train": {"files": ["frame.xyz"]}}}, ["frame.xyz", "not found"]),
    "weights that are words": ({"data": {"weight_key": "split"}}, ["weight", "split", "'a'"]),
    "weights of a group that is not there": (
        {"data": {"group_weights": {"split": {"aa": 2.0}}}},
        ["group_weights has split aa", "no training frame"],
    ),
    "frames that all have no weight": (
        {"data": {"group_weights": {"split": {"a": 0.0}}}},
        ["the loss has energy", "every training frame with one has weight 0"],
    ),
    "fine-tuning of nothing": ({"fine_tuning": {"method": "heads"}}, ["fine_tuning", "start_from"]),
    "a rank without LoRA": (
        {"start_from": "pet-water", "model": None, "fine_tuning": {"method": "heads", "rank": 2}},
        ["rank is of method lora", "'heads'"],
    ),
    "an unknown checkpoint": (
        {"start_from": "pet-watr", "model": None},
        ["'pet-watr'", "did you mean 'pet-water'"],
    ),
    "an architecture that the checkpoint has not": (
        {"start_from": "pet-water", "model": None, "architecture": "mace"},
        ["architecture is mace", "pet-water has pet"],
    ),
    "species that the checkpoint does not know": (
        {"start_from": "pet-water", "model": None},
        ["pet-water does not know", "fine_tuning.add_species=true"],
    ),
    "a precision that the device has not": (
        {"optimization": {"precision": "tf32"}},
        ["tf32", "device is cpu"],
    ),
}
OVERRIDES = {
    "without a value": ("zbl", ["'zbl'", "section.key=value"]),
    "misspelt": ("optimization.lerning_rate=1", ["did you mean 'learning_rate'"]),
    "misspelt in the model": ("model.d_pett=8", ["d_pett", "did you mean 'd_pet'"]),
    "below a value": ("optimization.batch_size.x=1", ["batch_size is the value 4", "no 'x'"]),
    "of an entry that is not there": ("data.train.files.3=a", ["list of 1", "0 to 0"]),
    "no YAML": ("data.train.files=[a", ["data.train.files=[a", "not readable as YAML"]),
}
TEXTS = {
    "YAML that ends early": ("data: {train: [\n", ["line 2", "not readable as YAML"]),
    "a tab": ("loss:\n\tforces: 1\n", ["line 2", "not readable as YAML"]),
    "a key given twice": (
        "loss: {forces: 1}\nzbl: true\nloss: {}\n",
        ["line 3", "'loss' is given"],
    ),
    "an empty file": ("# nothing\n", ["is empty"]),
    "a list": ("- 1\n- 2\n", ["holds a list of 2"]),
    "no data": ("zbl: true\n", ["data is missing"]),
}


@pytest.fixture
def refusal(tmp_path, config, monkeypatch, capsys):
    """Runs the command on a configuration, and returns its one line on stderr."""

    def run(text=None, *overrides):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config) if text is None else text)
        command = ["pointedge", "train", str(path), *overrides, "--output", str(tmp_path / "run")]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("pointedge: ")
        assert line.endswith((".", "?"))
        assert "Traceback" not in line
        assert "pydantic" not in line
        assert len(line) < 400
        folder = {p.name for p in (tmp_path / "run").rglob("*")} - {".lock", "config.yaml"}
        assert not folder, "nothing that would keep the corrected command from running there"
        return line.removeprefix("pointedge: ")

    return run


def merged(tree, change):
    """A tree with changes; None removes a key of ``model``, and is a value elsewhere."""
    result = dict(tree)
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        elif key == "model" and value is None:
            result.pop(key)
        else:
            result[key] = value
    return result


@pytest.mark.parametrize("kind", CHANGES)
def test_settings(refusal, config, kind):
    change, words = CHANGES[kind]
    line = refusal(yaml.safe_dump(merged(config, change)))
    assert all(word in line for word in words), line


@pytest.mark.parametrize("kind", OVERRIDES)
def test_overrides(refusal, kind):
    text, words = OVERRIDES[kind]
    line = refusal(None, text)
    assert all(word in line for word in words), line


@pytest.mark.parametrize("kind", TEXTS)
def test_files(refusal, kind):
    text, words = TEXTS[kind]
    line = refusal(text)
    assert all(word in line for word in words), line


def test_the_corrected_command_runs_in_the_same_folder(
    refusal, config, tmp_path, monkeypatch, capsys
):
    refusal(None, "loss.stress=1")
    frames = ase.io.read(tmp_path / "frames.xyz", ":")
    ase.io.write(tmp_path / "frames.xyz", frames)
    path, output = tmp_path / "config.yaml", tmp_path / "run"
    arguments = [str(path), "optimization.max_epochs=1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["pointedge", "train", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code, capsys.readouterr().err
    assert (output / "best.safetensors").exists()
    assert yaml.safe_load((output / "config.yaml").read_text())["loss"]["stress"] == 0
