"""Every setting is explained, whatever the architecture."""

from __future__ import annotations

import dataclasses

import pytest
from typer.testing import CliRunner

from pointedge.calculators.cli import app
from pointedge.potentials.checkpoint import ARCHITECTURES, architecture
from pointedge.potentials.training.config import TrainingConfig
from pointedge.potentials.training.explain import explain


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_setting_has_a_value_a_type_and_a_meaning(kind):
    settings = {s.key: s for s in explain(kind=kind)}
    assert all(s.meaning and s.kind for s in settings.values())
    own = {f.name for f in dataclasses.fields(architecture(kind).CONFIG)} - {"species", "frames"}
    assert own <= {key.split(".")[1] for key in settings if key.startswith("model.")}
    for section in ("loss", "optimization", "data"):
        assert any(key.startswith(f"{section}.") for key in settings)
    assert settings["loss.forces"].value == 1.0
    assert settings["data.train.files"].value == "(required)"
    assert settings["data.test.files"].value == "(required in data.test, if given)"


def test_values_are_those_of_the_configuration():
    frames = {"files": ["a.xyz"]}
    tree = {
        "architecture": "mace",
        "model": {"lmax": 2},
        "data": {"train": frames, "validation": frames},
        "loss": {"forces": 3.0},
    }
    settings = {s.key: s for s in explain(TrainingConfig.from_dict(tree))}
    assert settings["model.lmax"].value == 2
    assert settings["model.correlation"].value == 3
    assert settings["loss.forces"].value == 3.0
    assert settings["data.train.files"].value == ["a.xyz"]


def test_values_of_a_checkpoint_are_those_that_it_has():
    frames = {"files": ["a.xyz"]}
    tree = {"start_from": "mace-water", "data": {"train": frames, "validation": frames}}
    settings = {s.key: s for s in explain(TrainingConfig.from_dict(tree))}
    assert settings["model.cutoff"].value == 4.0
    assert settings["model.correlation"].value == 3
    assert "model.d_pet" not in settings


def test_choices_are_written_as_such():
    settings = {s.key: s for s in explain()}
    assert settings["model.cutoff_function"].kind == "'bump' or 'cosine' or 'tanh'"
    assert settings["model.cutoff"].kind == "float"
    assert settings["optimization.max_hours"].kind == "float | None"
    assert settings["data.train.take"].kind == "str | None"


def test_the_command_prints_them_without_a_file():
    result = CliRunner().invoke(app, ["train", "--explain", "--architecture", "nequip"])
    assert result.exit_code == 0
    assert "model.irreps: 32x0e + 32x1o  (str)" in result.stdout
    assert "model.num_layers: 4  (int)" in result.stdout
    missing = CliRunner().invoke(app, ["train"])
    assert "train needs a configuration" in str(missing.exception)
