"""Files that are no checkpoints, or not whole: one clear error each."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from pointedge.potentials import checkpoint
from pointedge.potentials.checkpoint import (
    CheckpointError,
    architecture,
    describe,
    load,
    save,
)

from .saved import rewrite


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(potential, path, value):
    potential.network.edge_embedder.weight.data[0, 0] = value
    save(potential, path)
    with pytest.raises(CheckpointError, match=r"edge_embedder\.weight has values that are not"):
        load(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32])
def test_a_tensor_of_another_type_is_not_rounded(potential, path, dtype):
    save(potential, path)
    tensors = load_file(path)
    name = "network.gnn_layers.0.edge_embedder.weight"
    rewrite(path, {**tensors, name: tensors[name].to(dtype)})
    with pytest.raises(CheckpointError, match=rf"{name} is {dtype}, and not torch.float32"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"d_pet": 10**6}}, "many more weights"),
        ({"config": {"num_gnn_layers": 10**9}}, "many more weights"),
        ({"config": [1, 2]}, "describes no network"),
        ({"config": {"species": [1, 500]}}, r"model\.safetensors"),
        ({"information": 5}, "describes no network"),
        ({"auxiliary": {"architecture": "pet"}}, "describes no network"),
        ({"rigidity": "x"}, "describes no network"),
        ({"rigidity": -1}, "describes no network"),
    ],
    ids=str,
)
def test_descriptions_that_no_network_can_have(potential, path, change, message):
    save(potential, path)
    config = describe(path)["config"]
    if isinstance(change.get("config"), dict):
        change = {"config": {**config, **change["config"]}}
    rewrite(path, metadata=change)
    with pytest.raises(CheckpointError, match=message) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_unknown_format_version(potential, path):
    save(potential, path)
    rewrite(path, metadata={"format_version": 2})
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors has checkpoint format 2.*update"
    ):
        load(path)


def test_unknown_architecture(potential, path):
    save(potential, path)
    rewrite(path, metadata={"architecture": "pett"})
    with pytest.raises(ValueError, match=r"unknown architecture 'pett'; did you mean 'pet'"):
        load(path)
    with pytest.raises(ValueError, match="known: "):
        architecture("qwertz")


def test_unknown_setting(potential, path):
    save(potential, path)
    rewrite(path, metadata={"config": {**describe(path)["config"], "d_pett": 3}})
    with pytest.raises(ValueError, match="'d_pett'; did you mean 'd_pet'"):
        load(path)


@pytest.mark.parametrize("missing", ["format_version", "architecture", "config", "repulsion"])
def test_incomplete_description(potential, path, missing):
    save(potential, path)
    tensors = load_file(path)
    description = describe(path)
    del description[missing]
    save_file(tensors, path, metadata={checkpoint.METADATA_KEY: json.dumps(description)})
    with pytest.raises(CheckpointError, match=missing.replace("_version", "")):
        load(path)


def test_missing_tensor(potential, path):
    save(potential, path)
    tensors = load_file(path)
    del tensors["network.edge_embedder.weight"]
    rewrite(path, tensors)
    with pytest.raises(CheckpointError, match=r"lacks 1 tensor.*network\.edge_embedder\.weight"):
        load(path)


def test_surplus_tensor(potential, path):
    save(potential, path)
    rewrite(path, {**load_file(path), "network.extra": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"unknown 1 tensor.*network\.extra"):
        load(path)


def test_wrong_shape(potential, path):
    save(potential, path)
    tensors = load_file(path)
    tensors["network.edge_embedder.weight"] = torch.zeros(5, 8)
    rewrite(path, tensors)
    with pytest.raises(
        CheckpointError, match=r"edge_embedder\.weight has shape \(5, 8\).*\(4, 8\)"
    ):
        load(path)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.999])
def test_truncated_file(potential, path, keep):
    save(potential, path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep * len(raw)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match="truncated"):
        load(path)


def test_a_file_of_something_else(path):
    path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}) * 100)
    with pytest.raises(CheckpointError, match="cannot be read as a safetensors file"):
        load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_somebody_elses_safetensors(path, metadata):
    save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="not a checkpoint of pointedge"):
        load(path)


@pytest.mark.parametrize("text", ["{", "[1, 2]", "3"])
def test_a_broken_description(path, text):
    save_file({"weight": torch.zeros(3)}, path, metadata={checkpoint.METADATA_KEY: text})
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint file .*absent\.safetensors"):
        load(tmp_path / "absent.safetensors")
    with pytest.raises(FileNotFoundError):
        load(tmp_path)
